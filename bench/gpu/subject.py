"""The model that is measured, with the inputs that the request of its endpoint gives it."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from bench.gpu.device import empty_memory
from bench.gpu.jobs import PROMPT, Bench, Case
from bench.gpu.true_size import ADAPTER_RANK, random_adapter
from longtake.families.family import Context, PlanRun
from longtake.families.ltx2 import generate as ltx2
from longtake.families.ltx2.conditioning import window_conditioning
from longtake.families.ltx2.guidance import Guide, predict
from longtake.families.ltx2.plan import LTX2Plan
from longtake.families.ltx2.tracks import draw_noise
from longtake.families.ltxv import generate as ltxv
from longtake.families.ltxv.conditioning import place
from longtake.families.ltxv.guidance import guided_velocity
from longtake.models.loras import Adapter
from longtake.models.video_transformer import TokenLevels
from longtake.output.source_frames import context_frames
from longtake.plans import Size, latent_length
from longtake.prepare import Job
from longtake.sampling.noise import seeded
from longtake.sampling.resume import NO_RESUME
from longtake.video import ignore_progress

LEVEL = 0.7
"""The noise level at which the model is evaluated."""


@dataclass(frozen=True)
class Evaluation:
    """One step's evaluation of the transformer.

    predictions: the number of predictions.
    tokens: the number of video tokens of each prediction.
    work: makes the guided prediction of the step, as one flat tensor.
    """

    predictions: int
    tokens: int
    work: Callable[[], Tensor]


@dataclass(frozen=True)
class Subject:
    """A loaded model and the job of a request. Both are made when they are first used.

    case: the endpoint.
    changes: settings that differ from the defaults.
    """

    bench: Bench
    case: Case
    changes: Mapping[str, Any] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        for name in ("model", "evaluations", "run"):
            self.__dict__.pop(name, None)
        empty_memory()

    @cached_property
    def job(self) -> Job:
        """The job of the request: its plan and its opened source."""
        return self._stack.enter_context(self.bench.job(self.case))

    @cached_property
    def model(self) -> Any:
        """The loaded model of the endpoint's family."""
        with torch.inference_mode(False):  # as a server does; tensors that are made in this mode cannot leave it
            return self.bench.load(self.job.card, self.bench.settings(**self.changes), ignore_progress)

    @cached_property
    def run(self) -> PlanRun[Any, Any]:
        """The plan with the loaded model."""
        return PlanRun(self.job.plan, self.model, self.bench.settings(**self.changes), NO_RESUME, ignore_progress)

    @cached_property
    def frames(self) -> Any:
        """The context's frames, [T, H, W, 3] at the output's size."""
        return context_frames(self.job.source, self.job.plan)

    def prepare(self) -> None:
        """Loads the model and reads the context's frames, so that later measurements do not include it."""
        _ = self.run, self.frames

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.bench.machine.device

    @property
    def canvas(self) -> Size:
        """The (width, height) in pixels of the last pass."""
        return CANVASES[self.case.endpoint.family.name](self.job.plan)

    @property
    def decode_timestep(self) -> float:
        """The timestep that the VAE's decoder is conditioned on."""
        return float(getattr(self.job.card, "decode_timestep", 0))

    def latents(self, frames: int) -> Tensor:
        """Returns random latents [1, C, f, h, w] of a clip with this number of frames, at the size of the last pass."""
        card = self.job.card
        width, height = (side // card.spatial_compression for side in self.canvas)
        length = latent_length(frames, card.temporal_compression)
        channels = self.model.vae.config.latent_channels
        return torch.randn(1, channels, length, height, width, device=self.device)

    @cached_property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """The evaluations of the first step of each pass."""
        return EVALUATIONS[self.case.endpoint.family.name](self)

    def adapter(self) -> Adapter:
        """Returns a random adapter for all linear layers of the transformer's blocks."""
        rank = 4 if self.bench.machine.quick else ADAPTER_RANK
        return random_adapter(self.job.card, self.bench.source, rank, pinned=self.device.type == "cuda")


def _ltxv(subject: Subject) -> tuple[Evaluation, ...]:
    setup = ltxv.make_setup(subject.run, PROMPT)
    items, noise = ltxv.context_items(subject.run, subject.frames), seeded(1, device=subject.device)
    (single,) = setup.passes
    sequence = place(items[0], setup.shape(setup.windows[0], single), single.grid, noise)
    levels = TokenLevels.of((1 - sequence.mask).clamp(max=LEVEL))

    def work() -> Tensor:
        return guided_velocity(single.guide, sequence.tokens, levels, sequence.coords, LEVEL).flatten()

    return (Evaluation(1, sequence.tokens.shape[1], work),)


def _ltx2(subject: Subject) -> tuple[Evaluation, ...]:
    setup, plan = ltx2.make_setup(subject.run, PROMPT), subject.job.plan
    assert isinstance(plan, LTX2Plan)
    conditioning = window_conditioning(subject.model, plan, 0, Context(subject.frames))

    def evaluation(number: int, guide: Guide) -> Evaluation:
        tracks = conditioning.tracks(number)
        positioned = guide.positioned(tracks)
        noise = draw_noise(tracks, seeded(1, number, device=subject.device), "init")
        tokens = {stream: track.start(noise[stream]) for stream, track in tracks.items()}

        def work() -> Tensor:
            return torch.cat([one.flatten() for one in predict(guide, tracks, positioned, tokens, LEVEL).values()])

        return Evaluation(len(guide.predictions(list(tracks))), tokens["video"].shape[1], work)

    return tuple(evaluation(number, pass_.guide) for number, pass_ in enumerate(setup.passes))


EVALUATIONS: Mapping[str, Callable[[Subject], tuple[Evaluation, ...]]] = {"ltxv": _ltxv, "ltx2": _ltx2}
"""The functions that make the evaluations, by family."""

CANVASES: Mapping[str, Callable[[Any], Size]] = {
    "ltxv": lambda plan: plan.passes[-1].canvas,
    "ltx2": lambda plan: plan.canvases[-1],
}
"""Functions of a plan that return the (width, height) in pixels of its last pass, by family."""
