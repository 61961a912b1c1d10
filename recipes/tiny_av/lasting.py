"""Measures how long an object lasts: 25 context frames with their sound and 96 new ones, as in a request for the
default length.

    python -m recipes.tiny_av.lasting [--clips 64] [--folder FOLDER]

The clips and the figures are those of `recipes.tiny.lasting`.
"""

from functools import partial

import torch

from recipes.tiny import configs as first
from recipes.tiny.figures import Figures
from recipes.tiny.lasting import CONTEXT, NEW, figures, print_figures
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


if __name__ == "__main__":
    print_figures(configs.WEIGHTS, lambda folder: {"": partial(lasting, sampler.load(folder))})
