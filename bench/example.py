"""The new frames that the embedded models generate for the example clip, for benchmarks that compare them."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor

from longtake import library
from longtake.endpoints import Endpoint
from longtake.families.family import Context, PlanRun
from longtake.models.applying import applied
from longtake.models.loras import LoraCache, open_adapters, read_adapters
from longtake.models.parts import AnyModel
from longtake.models.registry import ModelCard
from longtake.output.soundtrack import context_sound
from longtake.output.source_frames import context_frames, source_sound
from longtake.parameters import UserInput, local_request
from longtake.plans import Plan
from longtake.sampling.resume import NO_RESUME
from longtake.settings import settings
from longtake.video import OnProgress, ignore_progress

PROMPT = "a red circle moving left quickly over a green clouds background"
CLIP = "examples/clip.mp4"
NEW_FRAMES = 24


@dataclass(frozen=True)
class Example:
    """An endpoint's request for 24 new frames after the example clip, with its embedded model and its default options.

    endpoint: the endpoint.
    card: the embedded model.
    plan: the plan of the request.
    context: the frames and the sound that the model continues.
    """

    endpoint: Endpoint[Any, Any]
    card: ModelCard
    plan: Plan
    context: Context

    @classmethod
    def of(cls, endpoint: Endpoint[Any, Any]) -> Self:
        """Returns the request of an endpoint."""
        here = settings()
        named = {"prompt": PROMPT, "new_frames": NEW_FRAMES}
        call = local_request(endpoint, UserInput(named, CLIP), here, endpoint.models[1])
        with library.open_job(call, here) as job:
            sound = context_sound(source_sound(job.source, job.plan, ignore_progress), job.plan)
            context = Context(context_frames(job.source, job.plan), sound)
        return cls(endpoint, call.model.card, job.plan, context)

    def load(self, **changes: Any) -> AnyModel:
        """Returns the loaded model. `changes` are settings that differ from the present ones."""
        model: AnyModel = self.endpoint.family.recipe.load(self.card, settings(**changes), ignore_progress)
        return model

    def new_frames(self, model: AnyModel, plan: Plan, on_progress: OnProgress = ignore_progress) -> Tensor:
        """Returns the new frames that the model generates, [t, 3, H, W] in 0..1.

        plan: the plan of the request, or one that differs in a few options.
        """
        here = settings()
        with open_adapters(plan.adapters, self.card, here) as opened:
            adapters = list(read_adapters(opened, LoraCache(10**9)))
        with applied(model.transformer, adapters) as set_pass:
            run: PlanRun[Any, Any] = PlanRun(plan, model, here, NO_RESUME, on_progress, set_pass)
            pieces = self.endpoint.family.recipe.generate(run, plan.prompt, self.context)
            return torch.cat([chunk for piece in pieces for chunk in piece.frames])


def psnr_of_seeds(clips: Sequence[Tensor]) -> float:
    """Returns the median PSNR in dB between clips of neighbouring seeds."""
    return statistics.median(psnr(*pair) for pair in pairwise(clips))


def psnr(one: Tensor, other: Tensor) -> float:
    """Returns the peak signal-to-noise ratio in dB of frames in 0..1."""
    return -10 * math.log10(max(float((one - other).square().mean()), 1e-12))
