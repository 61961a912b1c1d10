"""Measures how much 8-bit floats change a video, on the embedded models.

    python -m bench.eight_bits

The change is the PSNR between the new frames and those of the exact model (in float32, without 8-bit floats) with the
same seed: the median over seeds. For comparison, the PSNR of the model in bfloat16, and that between different seeds.
Products in 8 bits are computed on the CPU by `torch._scaled_mm`, as a GPU computes them.
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.example import Example, psnr, psnr_of_seeds
from longtake.endpoints import Endpoint, ltx23, ltxv097, ltxv098
from longtake.models import fp8
from longtake.models.parts import AnyModel

SEEDS = range(3)

ENDPOINTS: Mapping[str, Endpoint[Any, Any]] = {
    "2.3": ltx23.ENDPOINT,
    "0.9.8": ltxv098.ENDPOINT,
    "0.9.7": ltxv097.ENDPOINT,
}


def converted(example: Example, mode: fp8.Mode) -> AnyModel:
    """Returns the model with 8-bit floats in its transformer. The other parts are as they were."""
    model = example.load()
    fp8.convert(model.transformer, mode, torch.float32)
    return model


WAYS: Mapping[str, Callable[[Example], AnyModel]] = {
    "products in fp8": partial(converted, mode="products"),
    "weights stored in fp8": partial(converted, mode="storage"),
    "bfloat16, no fp8": lambda example: example.load(dtype="bfloat16"),
}
"""The inexact models: title -> a function that loads one."""


def measure(title: str, endpoint: Endpoint[Any, Any]) -> None:
    """Measures all ways with an endpoint, and prints a line for each."""
    example = Example.of(endpoint)
    plans = [replace(example.plan, seed=seed) for seed in SEEDS]

    def clips(model: AnyModel) -> list[Tensor]:
        return [example.new_frames(model, plan) for plan in plans]

    exact = clips(example.load())
    print(f"{title}: another seed differs by {psnr_of_seeds(exact):.1f} dB")
    for way, load in WAYS.items():
        found = [psnr(*pair) for pair in zip(clips(load(example)), exact, strict=True)]
        median, least, most = statistics.median(found), min(found), max(found)
        print(f"  {way:22s} {median:.1f} dB ({least:.1f} to {most:.1f})", flush=True)
    print()


def main() -> None:
    torch.set_grad_enabled(False)
    for title, endpoint in ENDPOINTS.items():
        measure(title, endpoint)


if __name__ == "__main__":
    main()
