"""Makes the clip that `make demo` extends: a scene of the toy world with its sound.

python -m recipes.tiny_av.example
"""

from fractions import Fraction
from pathlib import Path

from longtake.media.encode import Encoder
from longtake.media.formats import SOUND_RATE, output_format
from recipes.tiny.render import render
from recipes.tiny.world import prompt, sample
from recipes.tiny_av.sound import sound

FOLDER = Path(__file__).parents[2] / "examples"
SEED = 970_000_504
SHOWN, WHOLE = 33, 57
"""The number of frames of the clip, and the number of frames during which the object is in the picture."""
SIZE = (112, 64)
RATE = Fraction(24)


def main() -> None:
    """Writes examples/clip.mp4, the frames that follow it (examples/clip_after.mp4), and its prompt."""
    scene = sample(SEED, "straight", SIZE, WHOLE)
    frames = ((render([scene])[0].permute(1, 2, 3, 0) + 1) * 127.5).round().byte().numpy()
    FOLDER.mkdir(exist_ok=True)
    form = output_format("X264 (.mp4)", "maximum", "small")
    with Encoder(FOLDER / "clip.mp4", form, *SIZE, RATE) as video:
        video.write_sound(sound(scene, SHOWN, RATE, SOUND_RATE).numpy())
        video.write(frames[:SHOWN])
    with Encoder(FOLDER / "clip_after.mp4", form, *SIZE, RATE, sound_rate=None) as video:
        video.write(frames[SHOWN:])
    (FOLDER / "prompt.txt").write_text(prompt(scene) + "\n")


if __name__ == "__main__":
    main()
