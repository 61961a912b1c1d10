"""Measures the acceleration levels: the seconds of sampling of 2.3 and 0.9.7, the whole loop over all steps.

The large models are sampled at the size and length of the endpoints' defaults. Adapters are left out, because merged
ones cost nothing in a step.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from bench.acceleration import LEVELS, accelerated, num_steps
from bench.gpu.device import peak_gb, reset_peak, seconds_of
from bench.gpu.figures import Figure, Figures
from bench.gpu.jobs import CASES, PROMPT, Bench, Case
from bench.gpu.subject import Subject
from longtake.families.family import Context, PlanRun
from longtake.families.ltx2 import generate as ltx2
from longtake.families.ltx2.conditioning import window_conditioning
from longtake.families.ltx2.plan import LTX2Plan
from longtake.families.ltx2.sampler import sample_window
from longtake.families.ltxv import generate as ltxv
from longtake.families.ltxv.sampler import sample_video
from longtake.sampling.levels import Acceleration, evaluates_model
from longtake.sampling.windows import Loop
from longtake.video import ignore_progress

STEPS = 16
"""The number of steps of 0.9.7. Its default, 40, takes more than a minute at the level `none`, and two more for the
other levels."""

SHORT = replace(
    CASES["0.9.7"], named={"num_inference_steps": STEPS}, quick={"resolution": "480p", "num_inference_steps": 6}
)
"""The request of 0.9.7 with fewer steps."""


def measure(bench: Bench, figures: Figures) -> None:
    """Measures the levels of 2.3 and then those of 0.9.7."""
    for case in (CASES["2.3"], SHORT):
        with figures.attempt(case.name):
            _levels(bench, figures, case)


def _levels(bench: Bench, figures: Figures, case: Case) -> None:
    names = {level: f"{case.name}: sampling with acceleration {level}" for level in LEVELS}
    if not figures.lack(*names.values()):
        return
    with Subject(bench, case) as subject, torch.inference_mode():
        sampling = SAMPLING[case.endpoint.family.name](subject)
        sampling("full")  # warms up

        def measured(level: Acceleration) -> Figure:
            plan = accelerated(subject.job.plan, level)
            steps = num_steps(plan)
            reset_peak()
            seconds = seconds_of(lambda: sampling(level))
            details: dict[str, Any] = {
                "steps": steps,
                "steps that evaluate": sum(evaluates_model(step, steps, level) for step in range(steps)),
                "evaluations": plan.evaluations,
            }
            none = figures.seconds(names["none"])
            if none is not None:
                details["times as fast as none"] = none / seconds
            return Figure(seconds, None, peak_gb(), details)

        for level, name in names.items():
            figures.add(name, partial(measured, level))


Sampling = Callable[[Acceleration], object]
"""A function that samples all frames of a request at an acceleration level."""


def _run(subject: Subject, level: Acceleration) -> PlanRun[Any, Any]:
    return replace(subject.run, plan=accelerated(subject.job.plan, level))


def _ltxv(subject: Subject) -> Sampling:
    items = ltxv.context_items(subject.run, subject.frames)

    def sample(level: Acceleration) -> object:
        run = _run(subject, level)
        loop = Loop.of(run.plan, run.resume, ignore_progress, subject.device)
        return deque(sample_video(ltxv.make_setup(run, PROMPT), items, loop), maxlen=0)

    return sample


def _ltx2(subject: Subject) -> Sampling:
    plan = subject.job.plan
    assert isinstance(plan, LTX2Plan)
    conditioning = window_conditioning(subject.model, plan, 0, Context(subject.frames))

    def sample(level: Acceleration) -> object:
        run = _run(subject, level)
        window = Loop.of(run.plan, run.resume, ignore_progress, subject.device).window(0)
        return sample_window(ltx2.make_setup(run, PROMPT), conditioning, window.noise)

    return sample


SAMPLING: Mapping[str, Callable[[Subject], Sampling]] = {"ltxv": _ltxv, "ltx2": _ltx2}
"""Functions that prepare the sampling of a request, by family. At the endpoints' defaults it is one window (a group of
frames that are sampled together)."""
