"""Measures how much 8-bit floats change a video: its new frames with `quantise=fp8` and without, from the same seed.

The weights are random, so the figures say how far the error grows through all steps, and not how a viewer sees it.
Prompt expansion and adapters are left out. The seconds with fp8 are those of a first run, which also compiles code.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bench.example import psnr
from bench.gpu.device import peak_gb, reset_peak, seconds_of
from bench.gpu.figures import Figure, Figures
from bench.gpu.jobs import CASES, PROMPT, Bench, Case
from bench.gpu.subject import Subject
from longtake.families.family import Context

NAMES = ("0.9.8", "2.3")
"""The names of the cases that are measured."""


def measure(bench: Bench, figures: Figures) -> None:
    """Measures the change of each model."""
    for name in NAMES:
        with figures.attempt(name):
            _change(bench, figures, CASES[name])


def _change(bench: Bench, figures: Figures, case: Case) -> None:
    other_seed, in_fp8 = f"{case.name}: new frames from another seed", f"{case.name}: new frames with fp8"
    if not figures.lack(other_seed, in_fp8):
        return
    exact: list[Tensor] = []

    def compared(subject: Subject, seed: int) -> Figure:
        clip: list[Tensor] = []
        reset_peak()
        seconds = seconds_of(lambda: clip.append(new_frames(subject, seed)))
        details: dict[str, Any] = {
            "PSNR, dB": psnr(clip[0], exact[0]),
            "computed in": subject.model.arithmetic,
        }
        return Figure(seconds, None, peak_gb(), details)

    with Subject(bench, case) as subject, torch.inference_mode():
        subject.prepare()
        exact.append(new_frames(subject, 1))
        figures.add(other_seed, lambda: compared(subject, 2))
    if not figures.lack(in_fp8):
        return
    with Subject(bench, case, {"quantise": "fp8"}) as subject, torch.inference_mode():
        subject.prepare()
        figures.add(in_fp8, lambda: compared(subject, 1))


def new_frames(subject: Subject, seed: int) -> Tensor:
    """Returns the new frames of the request from this seed, [t, 3, H, W] in 0..1 in host memory."""
    run = replace(subject.run, plan=replace(subject.job.plan, seed=seed))
    pieces = subject.case.endpoint.family.recipe.generate(run, PROMPT, Context(subject.frames))
    return torch.cat([chunk.cpu() for piece in pieces for chunk in piece.frames])
