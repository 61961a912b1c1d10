"""Draws a picture of the model's continuations. In each pair of rows, the upper row shows the true clip.

    python -m recipes.tiny.strip docs/images/tiny_strip.webp

The lower row shows the model's continuation of the same clip. Every third frame is shown. New frames have a white
border, context frames a dark one.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image

from recipes.tiny import measure, sampler
from recipes.tiny.evaluate import CONTEXT
from recipes.tiny.figures import SEED
from recipes.tiny.world import Kind, prompt, sample

SHOWN: tuple[tuple[Kind, int], ...] = (
    ("straight", 3),
    ("straight", 12),
    ("shapes", 5),
    ("rotate", 8),
    ("bounce", 16),
    ("pan", 4),
    ("pair", 9),
)
"""The scenes of the picture: the kind, and the number that is added to the evaluation's first seed."""
EVERY = 3
NUM_FRAMES = 41


def row(clip: torch.Tensor) -> torch.Tensor:
    """Returns every third frame of a clip `[3, T, H, W]` in [-1, 1], side by side with borders: `[h, w, 3]` uint8."""
    frames = []
    for t in range(1, clip.shape[1], EVERY):
        pixels = ((clip[:, t].clamp(-1, 1) + 1) * 127.5).round().byte()
        border = 255 if t >= CONTEXT else 70
        frames.append(torch.nn.functional.pad(pixels, (2, 2, 2, 2), value=border))
    return torch.cat(frames, dim=2).permute(1, 2, 0)


def picture() -> Image.Image:
    """Returns all rows as one picture."""
    family, rows = sampler.load(), []
    for kind, offset in SHOWN:
        scene = sample(SEED + offset, kind, num_frames=NUM_FRAMES)
        clip = measure.truth(scene).clip
        made = sampler.extend(family, clip[None, :, :CONTEXT], NUM_FRAMES, [prompt(scene)])[0]
        made[:, :CONTEXT] = clip[:, :CONTEXT]
        rows += [row(clip), row(made), torch.zeros(4, row(clip).shape[1], 3, dtype=torch.uint8)]
    return Image.fromarray(torch.cat(rows[:-1]).numpy())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    torch.set_num_threads(1)
    path = parser.parse_args().path
    path.parent.mkdir(parents=True, exist_ok=True)
    picture().save(path, quality=80, method=6)
