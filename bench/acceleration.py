"""Measures for each acceleration level how much time it saves and how much it changes the result, on the embedded
models.

    python -m bench.acceleration

The time of a level is that of sampling alone, as a ratio to the level `none` in the same run. The change is the PSNR
between its new frames and those of `none` with the same seed, the median over seeds. The PSNR between different seeds
is printed for comparison.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from longtake import library
from longtake.endpoints import Endpoint, ltx23, ltxv097
from longtake.families.family import Context, PlanRun
from longtake.families.ltx2.plan import LTX2Plan
from longtake.families.ltxv.plan import LTXVPlan
from longtake.models.applying import applied
from longtake.models.loras import LoraCache, open_adapters, read_adapters
from longtake.output.soundtrack import context_sound
from longtake.output.source_frames import context_frames, source_sound
from longtake.parameters import UserInput, local_request
from longtake.plans import Plan
from longtake.sampling.levels import Acceleration, evaluates_model
from longtake.sampling.resume import NO_RESUME
from longtake.settings import settings
from longtake.video import Progress, ignore_progress

LEVELS: tuple[Acceleration, ...] = ("none", "regular", "high", "full")
PROMPT = "a red circle moving left quickly over a green clouds background"
CLIP = "examples/clip.mp4"
SEEDS = range(5)

ENDPOINTS: dict[str, Endpoint[Any, Any]] = {"2.3, picture and sound": ltx23.ENDPOINT, "0.9.7": ltxv097.ENDPOINT}
"""The endpoints that are timed, with their default options.

2.3 has 15 steps of four predictions with ancestral noise, and three steps in the second pass. 0.9.7 has 40 steps whose
guidance depends on the noise level.
"""

Generate = Callable[[Acceleration, int], Tensor]
"""A function that generates the new frames [t, 3, H, W] at an acceleration level from a seed."""


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


def prepare(endpoint: Endpoint[Any, Any], clock: Clock) -> tuple[Generate, int]:
    """Returns a function that generates the new frames of the example clip, and its number of sampling steps."""
    here = settings()
    call = local_request(endpoint, UserInput({"prompt": PROMPT, "new_frames": 24}, CLIP), here, endpoint.models[1])
    with library.open_job(call, here) as job:
        plan, family = job.plan, job.endpoint.family
        assert isinstance(plan, LTX2Plan | LTXVPlan)
        frames = context_frames(job.source, plan)
        context = Context(frames, context_sound(source_sound(job.source, plan, ignore_progress), plan))
    parts = family.load(call.model.card, here, ignore_progress)
    with open_adapters(plan.adapters, call.model.card, here) as opened:
        adapters = list(read_adapters(opened, LoraCache(10**9)))

    def generate(level: Acceleration, seed: int) -> Tensor:
        leveled = accelerated(replace(plan, seed=seed), level)
        with applied(parts.transformer, adapters) as set_pass:
            run: PlanRun[Any, Any] = PlanRun(leveled, parts, here, NO_RESUME, clock, set_pass)
            pieces = family.generate(run, plan.prompt, context)
            return torch.cat([chunk for piece in pieces for chunk in piece.frames])

    return generate, plan.steps if isinstance(plan, LTX2Plan) else plan.passes[0].steps


def accelerated(plan: LTX2Plan | LTXVPlan, level: Acceleration) -> Plan:
    """Returns the plan with this acceleration level."""
    if isinstance(plan, LTX2Plan):
        return replace(plan, acceleration=level)
    return replace(plan, passes=tuple(replace(pass_, acceleration=level) for pass_ in plan.passes))


def psnr(one: Tensor, other: Tensor) -> float:
    """Returns the peak signal-to-noise ratio in dB of frames in 0..1."""
    return -10 * math.log10(max(float((one - other).square().mean()), 1e-12))


def main() -> None:
    torch.set_grad_enabled(False)
    for title, endpoint in ENDPOINTS.items():
        clock = Clock()
        generate, steps = prepare(endpoint, clock)
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
        seeds = [psnr(one, other) for one, other in zip(clips["none"], clips["none"][1:], strict=False)]
        print(f"{title}: {steps} steps; another seed differs by {statistics.median(seeds):.1f} dB")
        for level in LEVELS:
            evaluated = sum(evaluates_model(step, steps, level) for step in range(steps))
            same = statistics.median(psnr(*pair) for pair in zip(clips["none"], clips[level], strict=True))
            speed = f"{statistics.median(ratios[level]):.2f} x as fast"
            difference = "" if level == "none" else f", {same:.1f} dB to none"
            print(f"  {level:8s} {evaluated:2d} steps evaluate the model, {speed}{difference}")
        print()


if __name__ == "__main__":
    main()
