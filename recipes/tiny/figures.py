"""What the measurements of both embedded models share: the clips, the comparisons and the command line."""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import torch

from recipes.tiny import measure
from recipes.tiny.measure import Truth
from recipes.tiny.world import Kind, prompt, sample

SEED = 900_000_000
"""The seeds of the clips begin above this number. No part of the models was trained on such clips."""

Figures = dict[str, float]
FamilyT = TypeVar("FamilyT")


def cases(
    kind: Kind, count: int, num_frames: int, accept: Callable[[Truth], bool], size: tuple[int, int] = (64, 64)
) -> list[Truth]:
    """Returns the first `count` scenes of a kind for which `accept` returns True, in the order of their seeds."""
    return list(_cases(kind, count, num_frames, accept, size))


def _cases(
    kind: Kind, count: int, num_frames: int, accept: Callable[[Truth], bool], size: tuple[int, int]
) -> Iterator[Truth]:
    seed = SEED
    while count:
        seed += 1
        case = measure.truth(sample(seed, kind, size, num_frames))
        if accept(case):
            count -= 1
            yield case


def mean(values: list[float]) -> float:
    """Returns the mean of the values."""
    return float(torch.tensor(values).mean())


def clips_of(found: list[Truth]) -> torch.Tensor:
    """Returns the true clips, `[B, 3, T, H, W]`."""
    return torch.stack([case.clip for case in found])


def prompts_of(found: list[Truth]) -> list[str]:
    """Returns the prompts that describe the scenes."""
    return [prompt(case.scene) for case in found]


def compare(found: list[Truth], made: torch.Tensor, new: slice) -> Figures:
    """Compares generated clips `made` `[B, 3, T, H, W]` with the true ones over the frames `new`. Returns the figures.

    In the figures' names, "1-8" are the first eight frames of `new`, and "9-" the frames after them.
    """
    rows: dict[str, list[float]] = {"px 1-8": [], "px 9-": [], "contrast 9-": [], "IoU 9-": [], "PSNR": []}
    for case, clip in zip(found, made, strict=True):
        rgb = case.scene.things[0].rgb
        cover, other = (measure.coverage(c, case.background, rgb) for c in (clip, case.clip))
        (place, peak), (_, true_peak) = measure.locate(cover), measure.locate(other)
        error = (place - case.path).norm(dim=1)[new]
        rows["px 1-8"].append(float(error[:8].mean()))
        rows["px 9-"].append(float(error[8:].mean()))
        rows["contrast 9-"].append(float((peak / true_peak)[new][8:].mean()))
        rows["IoU 9-"].append(float(measure.overlap(cover, other)[new][8:].mean()))
        rows["PSNR"].append(measure.psnr(clip[:, new], case.clip[:, new]))
    middle = {name: float(torch.tensor(values).median()) for name, values in rows.items() if name.startswith("px")}
    return middle | {name: mean(values) for name, values in rows.items() if not name.startswith("px")}


def freeze(clips: torch.Tensor, context: int) -> torch.Tensor:
    """Returns clips that repeat the last of their `context` context frames to the end: a baseline for comparison."""
    count = clips.shape[2] - context
    return torch.cat([clips[:, :, :context], clips[:, :, context - 1 : context].expand(-1, -1, count, -1, -1)], dim=2)


def distances(found: list[Truth], made: torch.Tensor, frames: slice) -> list[float]:
    """Returns, for each clip, the mean distance in pixels of its object from the true place, over the frames."""
    values = []
    for case, clip in zip(found, made, strict=True):
        place, _ = measure.locate(measure.coverage(clip, case.background, case.scene.things[0].rgb))
        values.append(float((place - case.path).norm(dim=1)[frames].mean()))
    return values


def print_chosen(
    figures: Mapping[str, Callable[[FamilyT, int], Figures]],
    load: Callable[[Path], FamilyT],
    weights: Path,
    description: str | None,
) -> None:
    """Measures the figures that the command line chooses, prints them, and writes them to a file if requested.

    figures: for each name, a function of a model and a number of clips that returns the figures of that name.
    load: returns the model in a folder.
    weights: the folder of the model, unless the command line names another one.
    description: what the program does, for its help.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--only", nargs="*", choices=tuple(figures), default=tuple(figures))
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=weights)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    family, results = load(arguments.folder), {}
    for name in arguments.only:
        results[name] = figures[name](family, arguments.clips)
        print(f"{name:24}", "  ".join(f"{key} {value:.2f}" for key, value in results[name].items()), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
