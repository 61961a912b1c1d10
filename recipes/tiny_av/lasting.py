"""Measures how long an object lasts: 25 context frames with their sound and 96 new ones, as in a request for the
default length.

    python -m recipes.tiny_av.lasting [--clips 64] [--folder FOLDER]

The clips and the figures are those of `recipes.tiny.lasting`.
"""

import argparse
from pathlib import Path

import torch

from recipes.tiny import configs as first
from recipes.tiny.evaluate import Figures
from recipes.tiny.lasting import CONTEXT, NEW, figures, straight, walls
from recipes.tiny.measure import Truth
from recipes.tiny.world import prompt
from recipes.tiny_av import configs, sampler
from recipes.tiny_av.evaluate import sounds_of
from recipes.tiny_av.sampler import Family


def lasting(family: Family, found: list[Truth]) -> Figures:
    """Extends clips from their first 25 frames and their sound by 96 frames, and returns the figures."""
    clips = torch.stack([case.clip[:, :CONTEXT] for case in found])
    rows, columns = (side // first.SPATIAL for side in clips.shape[3:])
    sound = sounds_of(family, [case.scene for case in found], CONTEXT + NEW)
    known = sampler.window(sampler.encode(family, clips), first.num_latents(CONTEXT + NEW), (rows, columns), sound)
    video, _ = sampler.sample(family, known, [prompt(case.scene) for case in found])
    return figures(found, sampler.decode(family, video, rows, columns))


def main() -> None:
    """Prints the figures of straight motion and of walls."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=configs.WEIGHTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    family = sampler.load(arguments.folder)
    for name, found in (("straight", straight(arguments.clips)), ("walls", walls(arguments.clips))):
        shown = lasting(family, found)
        print(f"{name:9}", "  ".join(f"{key} {value:.2f}" for key, value in shown.items()), flush=True)


if __name__ == "__main__":
    main()
