"""Measures how long an object lasts: 25 context frames and 96 new ones, as in a request for the default length.

    python -m recipes.tiny.lasting [--clips 64] [--folder FOLDER]

All new frames are sampled together, and then once more in windows, as a request has them: 17 frames are given, and
each further window continues the last latents of the one before.

The clips are of the kind `straight`, whose path stays inside the frame, or `bounce` ("walls"), whose object meets a
wall within the first 48 new frames and not shortly before them. Figures are medians over clips. Frames are counted from
the first new one.
"""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import torch

from longtake.models.registry import card
from recipes.tiny import configs, measure, sampler
from recipes.tiny.figures import Figures, cases, freeze
from recipes.tiny.measure import Truth
from recipes.tiny.sampler import Family
from recipes.tiny.world import prompt

CONTEXT, NEW = 25, 96
MIDDLE = 48
"""The new frame at which place, contrast and overlap are measured."""


def straight(count: int, size: tuple[int, int] = (64, 64)) -> list[Truth]:
    """Returns clips of one solid object that moves straight, by at least a quarter of a pixel per frame."""

    def moves(case: Truth) -> bool:
        velocity = torch.tensor(case.scene.things[0].velocity)
        return bool(velocity.norm() >= 0.25) and measure.measurable(case)

    return cases("straight", count, CONTEXT + NEW, moves, size)


def walls(count: int, size: tuple[int, int] = (64, 64)) -> list[Truth]:
    """Returns clips whose object meets a wall within the first 48 new frames, and not in the six frames before them."""

    def meets(case: Truth) -> bool:
        turn = (case.path[2:] - 2 * case.path[1:-1] + case.path[:-2]).norm(dim=1) > 0.05
        near, before = turn[CONTEXT : CONTEXT + MIDDLE], turn[CONTEXT - 6 : CONTEXT]
        return bool(near.any() and not before.any()) and measure.measurable(case)

    return cases("bounce", count, CONTEXT + NEW, meets, size)


def is_one_object(cover: torch.Tensor, other: torch.Tensor) -> bool:
    """Returns True if a frame shows one object of the true colour, of half to twice the true size.

    Four fifths of the pixels of that colour must be connected. `cover` and `other` are the object's coverages `[H, W]`
    in the generated and in the true frame.
    """
    mask = (cover > 0.5).numpy()
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    largest, size = int(np.bincount(labels[mask]).max(initial=0)), int((other > 0.5).sum())
    return 0.5 * size <= largest <= 2 * size and largest >= 0.8 * mask.sum()


def figures(found: list[Truth], made: torch.Tensor) -> Figures:
    """Returns the figures of generated clips `[B, 3, T, H, W]` that continue the true ones.

    "one object at 96" is a share of the clips; the other figures are medians over clips.
    """
    rows: dict[str, list[float]] = {}

    def add(name: str, value: float) -> None:
        rows.setdefault(name, []).append(value)

    for case, clip in zip(found, made, strict=True):
        rgb, new = case.scene.things[0].rgb, slice(CONTEXT, None)
        cover, other = (measure.coverage(c, case.background, rgb)[new] for c in (clip, case.clip))
        (place, peak), (_, true_peak) = measure.locate(cover), measure.locate(other)
        error = (place - case.path[new]).norm(dim=1)
        add("px 1-8", float(error[:8].mean()))
        add("px 9-16", float(error[8:16].mean()))
        at = MIDDLE - 1
        add("px at 48", float(error[at]))
        add("contrast at 48", float((peak / true_peak)[at]))
        add("IoU at 48", float(measure.overlap(cover, other)[at]))
        add("one object at 96", float(is_one_object(cover[-1], other[-1])))
        near = (slice(None), slice(CONTEXT, CONTEXT + 16))
        frozen = freeze(case.clip[None], CONTEXT)[0]
        won = measure.psnr(clip[near], case.clip[near]) - measure.psnr(frozen[near], case.clip[near])
        add("dB over freezing 1-16", won)
    middle = {name: float(torch.tensor(values).median()) for name, values in rows.items()}
    return middle | {"one object at 96": float(torch.tensor(rows["one object at 96"]).mean())}


def lasting(family: Family, found: list[Truth]) -> Figures:
    """Extends clips from their first 25 frames by 96, and returns the figures."""
    clips = torch.stack([case.clip[:, :CONTEXT] for case in found])
    return figures(found, sampler.extend(family, clips, CONTEXT + NEW, [prompt(case.scene) for case in found]))


def in_windows(family: Family, found: list[Truth]) -> Figures:
    """Extends clips from their frames 9 to 25 by 96, in windows as a request has them, and returns the figures."""
    model = card("ltxv-tiny")
    clips = torch.stack([case.clip[:, :CONTEXT] for case in found])
    given = clips[:, :, CONTEXT - model.max_context_frames :]
    made = sampler.extend_in_windows(family, given, given.shape[2] + NEW, [prompt(case.scene) for case in found])
    return figures(found, torch.cat([clips, made[:, :, given.shape[2] :]], dim=2))


def print_figures(weights: Path, opened: Callable[[Path], Mapping[str, Callable[[list[Truth]], Figures]]]) -> None:
    """Prints the figures of straight motion and of walls, of the model in a folder that the command line names.

    weights: the folder if the command line names none.
    opened: loads the model in a folder, and returns, by the names of ways to extend clips, functions that return its
        figures on clips.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=weights)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ways = opened(arguments.folder)
    clips = {"straight": straight(arguments.clips), "walls": walls(arguments.clips)}
    for (way, figures_of), (name, found) in product(ways.items(), clips.items()):
        shown = "  ".join(f"{key} {value:.2f}" for key, value in figures_of(found).items())
        print(f"{name + way:20}", shown, flush=True)


if __name__ == "__main__":

    def opened(folder: Path) -> Mapping[str, Callable[[list[Truth]], Figures]]:
        family = sampler.load(folder)
        return {"": partial(lasting, family), ", in windows": partial(in_windows, family)}

    print_figures(configs.WEIGHTS, opened)
