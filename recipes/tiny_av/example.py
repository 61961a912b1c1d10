"""Makes the toy clip that `make demo` extends, and a small version of it for tests: a scene with its sound.

python -m recipes.tiny_av.example
"""

from fractions import Fraction
from pathlib import Path

from longtake.media.encode import Encoder
from longtake.media.formats import SOUND_RATE, Quality, output_format
from recipes.tiny.render import render
from recipes.tiny.world import Scene, prompt, sample
from recipes.tiny_av.sound import sound

FOLDER = Path(__file__).parents[2] / "examples"
SEED = 970_000_504
SHOWN, WHOLE = 33, 57
"""The number of frames of the clip, and the number of frames during which the object is in the picture."""
SIZE = (112, 64)
CLIPS: dict[str, tuple[int, Quality]] = {"toy": (4, "high"), "clip": (1, "maximum")}
"""Name of a clip -> drawn pixels per world pixel, and the quality of its file."""
RATE = Fraction(24)


def write(scene: Scene, name: str, scale: int, quality: Quality) -> None:
    """Writes a clip of a scene, NAME.mp4, and the frames that follow it, NAME_after.mp4."""
    frames = ((render([scene], scale)[0].permute(1, 2, 3, 0) + 1) * 127.5).round().byte().numpy()
    form, (width, height) = output_format("X264 (.mp4)", quality, "small"), (side * scale for side in SIZE)
    with Encoder(FOLDER / f"{name}.mp4", form, width, height, RATE) as video:
        video.write_sound(sound(scene, SHOWN, RATE, SOUND_RATE).numpy())
        video.write(frames[:SHOWN])
    with Encoder(FOLDER / f"{name}_after.mp4", form, width, height, RATE, sound_rate=None) as video:
        video.write(frames[SHOWN:])


def main() -> None:
    """Writes the clips and their prompt into the folder `examples`."""
    scene = sample(SEED, "straight", SIZE, WHOLE)
    FOLDER.mkdir(exist_ok=True)
    for name, (scale, quality) in CLIPS.items():
        write(scene, name, scale, quality)
    (FOLDER / "prompt.txt").write_text(prompt(scene) + "\n")


if __name__ == "__main__":
    main()
