"""What each acceleration level saves and changes, on the embedded models.

python -m bench.acceleration

Each level's time is that of sampling alone, as a ratio to `none` in the same run. Its difference is that of the new
frames to those of `none` from the same seed (PSNR, median over seeds), beside the difference that another seed makes.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longtake.clip import Progress
from longtake.endpoints import ltx23, ltxv097
from longtake.endpoints.shared import parse
from longtake.extend import ltx2 as extend_ltx2
from longtake.extend import ltxv as extend_ltxv
from longtake.families.ltx2.conditioning import Context
from longtake.footage import source_sound
from longtake.models import ltx2, ltxv
from longtake.models.audiovisual import Words
from longtake.models.loras import LoraCache, applied, rescale
from longtake.models.registry import card
from longtake.plans import Acceleration, LTX2Plan, LTXVPlan, asks_model
from longtake.prepare import Prepared, Request, prepared
from longtake.families.ltxv.guidance import Text
from longtake.settings import settings
from longtake.take import adapters_of
from longtake.take_ltx2 import context_sound, strengths

LEVELS: tuple[Acceleration, ...] = ("none", "regular", "high", "full")
PROMPT = "a red circle moving left quickly over a green clouds background"
CLIP = "examples/clip.mp4"
SEEDS = range(5)

Make = Callable[[Acceleration, int], Tensor]


@contextmanager
def opened(request: Request, model: str) -> Iterator[tuple[Prepared, NDArray[np.uint8]]]:
    """The example as a prepared request, and its context."""
    with prepared(request, card(model), settings(), allow_local=True, new_frames=24) as ready:
        plan = ready.plan
        frames = np.concatenate(list(ready.source.frames(plan.context, (plan.width, plan.height))))
        yield ready, frames[-plan.context_frames :]


class Clock:
    """Seconds spent in steps of the model, told by progress."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.since: float | None = None

    def __call__(self, progress: Progress) -> None:
        now = time.perf_counter()
        if self.since is not None:
            self.seconds += now - self.since
        self.since = now if progress.stage == "sampling" else None


def picture_and_sound(clock: Clock) -> tuple[Make, int]:
    """2.3 at its defaults: 15 steps of four predictions with ancestral noise, then three of the second scale."""
    models = ltx2.load(card("ltx2-tiny"), settings())
    request = parse(ltx23.Request, {"prompt": PROMPT, "video_url": CLIP})
    with opened(request, "ltx2-tiny") as (ready, frames):
        plan = ready.plan
        assert isinstance(plan, LTX2Plan)
        sound = context_sound(source_sound(ready.source, plan), plan)
    context = Context(frames, sound)
    positive, negative = (Words(*models.text.encode(text)) for text in (plan.prompt, plan.negative_prompt))
    adapters = adapters_of(plan, models.card, settings(), LoraCache(10**9))

    def adapt(number: int) -> None:
        rescale(models.transformer, strengths(plan, number))

    def make(level: Acceleration, seed: int) -> Tensor:
        asked = replace(plan, acceleration=level, seed=seed)
        with applied(models.transformer, adapters):
            pieces = extend_ltx2.extend(models, asked, context, positive, negative, adapt=adapt, on_progress=clock)
            return torch.cat([chunk for piece in pieces for chunk in piece.frames])

    return make, plan.steps


def picture(clock: Clock) -> tuple[Make, int]:
    """0.9.7 at its defaults: 40 steps, guided by noise level."""
    models = ltxv.load(card("ltxv-tiny"), settings())
    request = parse(ltxv097.Request, {"prompt": PROMPT, "video": {"video_url": CLIP}})
    with opened(request, "ltxv-tiny") as (ready, frames):
        plan = ready.plan
        assert isinstance(plan, LTXVPlan)
    positive, negative = (Text(*models.text.encode(text)) for text in (plan.prompt, plan.negative_prompt))

    def make(level: Acceleration, seed: int) -> Tensor:
        passes = tuple(replace(pass_, acceleration=level) for pass_ in plan.passes)
        asked: Any = replace(plan, passes=passes, seed=seed)
        return torch.cat(list(extend_ltxv.extend(models, asked, frames, positive, negative, on_progress=clock)))

    return make, plan.passes[0].steps


def psnr(one: Tensor, other: Tensor) -> float:
    return -10 * math.log10(max(float((one - other).square().mean()), 1e-12))


def main() -> None:
    torch.set_grad_enabled(False)
    for title, way in (("2.3, picture and sound", picture_and_sound), ("0.9.7", picture)):
        clock = Clock()
        make, steps = way(clock)
        make("none", 0)
        ratios: dict[Acceleration, list[float]] = {level: [] for level in LEVELS}
        made: dict[Acceleration, list[Tensor]] = {level: [] for level in LEVELS}
        for seed in SEEDS:
            taken = {}
            for level in LEVELS:
                clock.seconds = 0.0
                made[level].append(make(level, seed))
                taken[level] = clock.seconds
            for level in LEVELS:
                ratios[level].append(taken["none"] / taken[level])
        seeds = [psnr(one, other) for one, other in zip(made["none"], made["none"][1:], strict=False)]
        print(f"{title}: {steps} steps; another seed differs by {statistics.median(seeds):.1f} dB")
        for level in LEVELS:
            asked = sum(asks_model(step, steps, level) for step in range(steps))
            same = statistics.median(psnr(*pair) for pair in zip(made["none"], made[level], strict=True))
            print(
                f"  {level:8s} {asked:2d} steps ask the model, {statistics.median(ratios[level]):.2f} x as fast", end=""
            )
            print("" if level == "none" else f", {same:.1f} dB to none")
        print()


if __name__ == "__main__":
    main()
