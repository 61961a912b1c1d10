"""The clip that `make demo` extends: a scene of the toy world with a tone that follows its object.

python -m recipes.tiny.example
"""

from fractions import Fraction
from pathlib import Path

import numpy as np

from longtake.media.encode import Encoder
from longtake.media.formats import SOUND_RATE, recipe
from recipes.tiny.render import render
from recipes.tiny.world import prompt, sample, track

FOLDER = Path(__file__).parents[2] / "examples"
SEED = 970_000_504
SHOWN, WHOLE = 33, 57
"""Frames in the clip, and frames for which the object stays in the picture."""
SIZE = (112, 64)
RATE = Fraction(24)


def main() -> None:
    """Write examples/clip.mp4 and its prompt."""
    scene = sample(SEED, "straight", SIZE, WHOLE)
    frames = ((render([scene])[0, :, :SHOWN].permute(1, 2, 3, 0) + 1) * 127.5).round().byte().numpy()
    across = track(scene)[0, :SHOWN, 0].numpy() / SIZE[0]
    samples = round(SHOWN * SOUND_RATE / RATE)
    pitch = np.interp(np.arange(samples), np.arange(SHOWN) * float(SOUND_RATE / RATE), 330 * 2**across)
    tone = (0.2 * np.sin(2 * np.pi * np.cumsum(pitch) / SOUND_RATE)).astype(np.float32)
    FOLDER.mkdir(exist_ok=True)
    with Encoder(FOLDER / "clip.mp4", recipe("X264 (.mp4)", "maximum", "small"), *SIZE, RATE) as video:
        video.write_sound(np.stack([tone, tone]))
        video.write(frames)
    (FOLDER / "prompt.txt").write_text(prompt(scene) + "\n")


if __name__ == "__main__":
    main()
