"""Measures for each acceleration level how much time it saves and how much it changes the result, on the embedded
models.

    python -m bench.acceleration

The time of a level is that of sampling alone, as a ratio to the level `none` in the same run. The change is the PSNR
between its new frames and those of `none` with the same seed, the median over seeds. The PSNR between different seeds
is printed for comparison.
"""

import statistics
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bench.example import Example, psnr, psnr_of_seeds
from longtake.endpoints import Endpoint, ltx23, ltxv097
from longtake.families.ltx2.plan import LTX2Plan
from longtake.families.ltxv.plan import LTXVPlan
from longtake.plans import Plan
from longtake.sampling.levels import Acceleration, evaluates_model
from longtake.video import Progress

LEVELS: tuple[Acceleration, ...] = ("none", "regular", "high", "full")
SEEDS = range(5)

ENDPOINTS: dict[str, Endpoint[Any, Any]] = {"2.3, picture and sound": ltx23.ENDPOINT, "0.9.7": ltxv097.ENDPOINT}
"""The endpoints that are timed, with their default options.

2.3 has 15 steps of four predictions with ancestral noise, and three steps in the second pass. 0.9.7 has 40 steps whose
guidance depends on the noise level.
"""


class Clock:
    """A progress callback that counts the seconds of sampling steps."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.since: float | None = None

    def __call__(self, progress: Progress) -> None:
        now = time.perf_counter()
        if self.since is not None:
            self.seconds += now - self.since
        self.since = now if progress.stage == "sampling" else None


def accelerated(plan: Plan, level: Acceleration) -> LTX2Plan | LTXVPlan:
    """Returns the plan with this acceleration level."""
    match plan:
        case LTX2Plan():
            return replace(plan, acceleration=level)
        case LTXVPlan():
            return replace(plan, passes=tuple(replace(pass_, acceleration=level) for pass_ in plan.passes))
    raise ValueError(f"{type(plan).__name__} has no acceleration level")


def num_steps(plan: LTX2Plan | LTXVPlan) -> int:
    """Returns the number of steps of the plan's first pass."""
    return plan.steps if isinstance(plan, LTX2Plan) else plan.passes[0].steps


def measure(title: str, endpoint: Endpoint[Any, Any]) -> None:
    """Measures all levels of an endpoint, and prints a line for each."""
    clock, example = Clock(), Example.of(endpoint)
    model = example.load()
    plans = {level: accelerated(example.plan, level) for level in LEVELS}
    steps = num_steps(plans["none"])

    def generate(level: Acceleration, seed: int) -> Tensor:
        return example.new_frames(model, replace(plans[level], seed=seed), clock)

    generate("none", 0)
    ratios: dict[Acceleration, list[float]] = {level: [] for level in LEVELS}
    clips: dict[Acceleration, list[Tensor]] = {level: [] for level in LEVELS}
    for seed in SEEDS:
        timings = {}
        for level in LEVELS:
            clock.seconds = 0.0
            clips[level].append(generate(level, seed))
            timings[level] = clock.seconds
        for level in LEVELS:
            ratios[level].append(timings["none"] / timings[level])
    print(f"{title}: {steps} steps; another seed differs by {psnr_of_seeds(clips['none']):.1f} dB")
    for level in LEVELS:
        evaluated = sum(evaluates_model(step, steps, level) for step in range(steps))
        same = statistics.median(psnr(*pair) for pair in zip(clips["none"], clips[level], strict=True))
        speed = f"{statistics.median(ratios[level]):.2f} x as fast"
        difference = "" if level == "none" else f", {same:.1f} dB to none"
        print(f"  {level:8s} {evaluated:2d} steps evaluate the model, {speed}{difference}")
    print()


def main() -> None:
    torch.set_grad_enabled(False)
    for title, endpoint in ENDPOINTS.items():
        measure(title, endpoint)


if __name__ == "__main__":
    main()
