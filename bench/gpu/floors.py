"""Counts the floating-point operations of the default requests from their plans, at true size and without a GPU.

    python -m bench.gpu floors

Divided by a card's rate of matrix products, they are the least times that these parts of the work can take. The models
have no memory (torch's device `meta`), so that any machine can count.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor

from bench.gpu.device import flop
from bench.gpu.jobs import CASES, Bench
from bench.gpu.true_size import checkpoint
from longtake.families.ltx2.guidance import UNGUIDED, Guide
from longtake.families.ltx2.plan import LTX2Plan
from longtake.families.ltxv.guidance import velocity
from longtake.families.ltxv.plan import LTXVPlan
from longtake.models import audiovisual, t5, video_transformer
from longtake.models.audiovisual import PositionedTracks, Stream, velocities
from longtake.models.checkpoints import empty_model
from longtake.models.registry import ModelCard, PartName
from longtake.models.replicas import Replicas
from longtake.models.video_transformer import TokenLevels
from longtake.plans import Plan, Size, latent_length
from longtake.sampling.positions import audio_latents
from longtake.sampling.schedules import SECOND_PASS_LEVELS
from longtake.sampling.vae import BLEND_FRAMES

RATE = 794e12
"""The floating-point operations per second of bfloat16 matrix products that were measured on an H200."""

NAMES = ("0.9.8", "0.9.7", "2.3")
"""The names of the cases that are counted."""


@dataclass(frozen=True)
class Floor:
    """The operations of a part of a request.

    what: the part, in words.
    times: how often a request does it.
    operations: the floating-point operations of one time.
    """

    what: str
    times: int
    operations: int

    @property
    def seconds(self) -> float:
        """The least seconds of all times together."""
        return self.times * self.operations / RATE


@dataclass(frozen=True)
class Parts:
    """The parts of a case's model, without memory.

    card: the model's card.
    small: True for a small model of the same structure.
    """

    card: ModelCard
    small: bool

    def __getitem__(self, part: PartName) -> Any:
        return empty_model(checkpoint(self.card.family, part, small=self.small)).eval().to("meta").bfloat16()

    def latent_size(self, frames: int, canvas: Size) -> tuple[int, int, int]:
        """Returns the number of latent frames, and their height and width, of frames of `canvas` (width, height)."""
        height, width = canvas[1] // self.card.spatial_compression, canvas[0] // self.card.spatial_compression
        return latent_length(frames, self.card.temporal_compression), height, width


def bare(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Returns a tensor without memory."""
    return torch.empty(shape, dtype=dtype, device="meta")


@dataclass(frozen=True)
class BareTrack:
    """The tokens of one modality, some of which are given and some are generated; without memory.

    bounds: the start and the end of each of the n tokens on each axis, [1, axes, n, 2].
    """

    bounds: Tensor
    is_free: bool = True

    @property
    def levels(self) -> tuple[Tensor, Tensor]:
        """The two noise levels, and for each token the number of its level."""
        return bare(2, dtype=torch.float32), bare(self.bounds.shape[2], dtype=torch.int64)


def ltxv(plan: LTXVPlan, parts: Parts) -> Iterator[Floor]:
    """Yields the floors of a request to LTX-Video: evaluations, the context's encoding, the decoding."""
    transformer = parts["transformer"]
    video_transformer.attach(transformer)
    config = transformer.config
    text, mask = bare(1, parts.card.prompt_tokens, config.caption_channels), bare(1, parts.card.prompt_tokens)
    prompt = t5.EncodedPrompt(text, mask)
    for one in plan.passes:
        for window in plan.windows:
            count = (window.stop - window.start) * prod(parts.latent_size(1, one.canvas))
            levels = TokenLevels(bare(2, dtype=torch.float32), bare(count, dtype=torch.int64))
            inputs = bare(1, count, config.in_channels), levels, bare(1, 3, count, dtype=torch.float32), prompt
            evaluate = partial(velocity, transformer, *inputs)
            yield Floor(f"evaluation of {count} tokens", one.evaluations, flop(evaluate))
    yield from _vae(plan, parts, [one.canvas for one in plan.passes])


def ltx2(plan: LTX2Plan, parts: Parts) -> Iterator[Floor]:
    """Yields the floors of a request to LTX-2: evaluations, the context's encoding, the decoding."""
    transformer = parts["transformer"]
    audiovisual.attach(transformer)
    config = transformer.config
    widths = config.cross_attention_dim, config.audio_cross_attention_dim
    prompt = audiovisual.EncodedPrompt(*(bare(1, parts.card.prompt_tokens, width) for width in widths))
    unguided = dict.fromkeys(("video", "audio"), UNGUIDED)
    steps = ((plan.steps, {"video": plan.video, "audio": plan.audio}), (len(SECOND_PASS_LEVELS) - 1, unguided))
    for window in plan.windows:
        for canvas, (times, scales) in zip(plan.canvases, steps, strict=False):
            size = parts.latent_size(window.sampled_frames, canvas)
            tracks: dict[Stream, BareTrack] = {"video": BareTrack(bare(1, 3, prod(size), 2, dtype=torch.float32))}
            tokens: dict[Stream, Tensor] = {"video": bare(1, prod(size), config.in_channels)}
            if plan.sound:
                count = audio_latents(window.sampled_frames, plan.rate)
                tracks["audio"] = BareTrack(bare(1, 1, count, 2, dtype=torch.float32))
                tokens["audio"] = bare(1, count, config.audio_in_channels)
            guide = Guide(Replicas(transformer), prompt, prompt, scales, plan.stg_blocks)  # type: ignore[arg-type]
            predictions = [*guide.predictions(list(tracks)).values()]
            positioned = PositionedTracks.of(transformer, tracks)
            evaluate = partial(velocities, transformer, positioned, tokens, 0.7, predictions, plan.stg_blocks)
            yield Floor(f"{len(predictions)} predictions of {prod(size)} video tokens", times, flop(evaluate))
    yield from _vae(plan, parts, plan.canvases)


def _vae(plan: Plan, parts: Parts, canvases: Sequence[Size]) -> Iterator[Floor]:
    """Yields the floors of encoding the context at each size, and of decoding the new frames in one piece."""
    vae, count = parts["vae"], max(plan.context_frames, 1)
    for width, height in canvases:
        encode = partial(vae.encode, bare(1, 3, count, height, width))
        yield Floor(f"encode {count} frames of {width}x{height}", 1, flop(encode))
    first = max(0, plan.context_frames - 1 - BLEND_FRAMES) // parts.card.temporal_compression
    size = parts.latent_size(plan.context_frames + plan.new_frames, canvases[-1])
    latent = bare(1, vae.config.latent_channels, size[0] - first, *size[1:])
    time = bare(1) if vae.config.timestep_conditioning else None
    frames = (latent.shape[2] - 1) * parts.card.temporal_compression + 1
    yield Floor(
        f"decode {frames} frames of {canvases[-1][0]}x{canvases[-1][1]}", 1, flop(lambda: vae.decode(latent, time))
    )


FLOORS: Mapping[str, Callable[[Any, Parts], Iterator[Floor]]] = {"ltxv": ltxv, "ltx2": ltx2}
"""The functions that count, by family."""


def floors(bench: Bench, name: str) -> list[Floor]:
    """Returns the floors of the default request of a case."""
    case = CASES[name]
    with bench.job(case) as job, torch.inference_mode():
        parts = Parts(job.card, bench.machine.quick)
        return [*FLOORS[job.card.family](job.plan, parts)]


def table(bench: Bench) -> str:
    """Returns the floors of all cases as a table in Markdown."""
    lines = ["| request at its defaults | part | times | TFLOP each | seconds in all |", "|---|---|---|---|---|"]
    for name in NAMES:
        for one in floors(bench, name):
            lines.append(f"| {name} | {one.what} | {one.times} | {one.operations / 1e12:.1f} | {one.seconds:.2f} |")
    return "\n".join(lines)
