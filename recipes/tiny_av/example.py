"""Makes the toy clip that `make demo` extends, and a small clip for tests: scenes with their sound.

python -m recipes.tiny_av.example
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from longtake.media.encode import Encoder
from longtake.media.formats import SOUND_RATE, Quality, output_format
from recipes.tiny.render import render
from recipes.tiny.world import Kind, Scene, prompt, sample
from recipes.tiny_av.sound import sound

FOLDER = Path(__file__).parents[2] / "examples"
SHOWN = 33
"""The number of frames of a clip."""
SIZE = (112, 64)
RATE = Fraction(24)


@dataclass(frozen=True)
class Example:
    """A clip.

    kind, seed: those of its scene.
    after: the number of frames that follow it, which are written to a file of their own.
    scale: drawn pixels per world pixel.
    quality: the quality of its files.
    """

    kind: Kind
    seed: int
    after: int
    scale: int
    quality: Quality

    @property
    def scene(self) -> Scene:
        return sample(self.seed, self.kind, SIZE, SHOWN + self.after)


EXAMPLES = {
    "toy": Example("bounce", 970_000_962, after=48, scale=4, quality="high"),
    "clip": Example("straight", 970_000_504, after=24, scale=1, quality="maximum"),
}


def write(name: str, example: Example) -> None:
    """Writes a clip, NAME.mp4, and the frames that follow it, NAME_after.mp4."""
    scene = example.scene
    frames = ((render([scene], example.scale)[0].permute(1, 2, 3, 0) + 1) * 127.5).round().byte().numpy()
    form, (width, height) = output_format("X264 (.mp4)", example.quality, "small"), (n * example.scale for n in SIZE)
    with Encoder(FOLDER / f"{name}.mp4", form, width, height, RATE) as video:
        video.write_sound(sound(scene, SHOWN, RATE, SOUND_RATE).numpy())
        video.write(frames[:SHOWN])
    with Encoder(FOLDER / f"{name}_after.mp4", form, width, height, RATE, sound_rate=None) as video:
        video.write(frames[SHOWN:])


def main() -> None:
    """Writes the clips, and the prompt of the toy clip, into the folder `examples`."""
    FOLDER.mkdir(exist_ok=True)
    for name, example in EXAMPLES.items():
        write(name, example)
    (FOLDER / "prompt.txt").write_text(prompt(EXAMPLES["toy"].scene) + "\n")


if __name__ == "__main__":
    main()
