"""The recipe of LTX-2.3: a context of picture and sound and a plan become what comes after it, or before it.

Read from the bottom: `extend` is the whole way, `sample_window` the passes over one window. What a window
is told beforehand is in `given.py`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longtake.clip import OnProgress, Progress, ignore_progress
from longtake.extend.frames import Latents, Statistics, decode, decode_frames, off_canvas, upsample
from longtake.extend.given import Context, Frames, audio_given, latent_shape, video_given
from longtake.extend.kept import NOTHING_KEPT, Kept
from longtake.extend.sound import decode_sound
from longtake.media.formats import SOUND_RATE
from longtake.media.sound import CROSS_FADE_S, MOST_LAG_S, Samples, num_samples
from longtake.models.audiovisual import Layout, Stream, Words
from longtake.models.ltx2 import LTX2
from longtake.models.memory import predictions_at_once
from longtake.plan import Acceleration, Extension, LTX2Plan, Size, latent_length
from longtake.sampling.caching import cached
from longtake.sampling.multimodal import UNGUIDED, Guide, predict
from longtake.sampling.noise import Noise, seeded
from longtake.sampling.positions import to_latent, to_tokens
from longtake.sampling.samplers import Sampler, sample
from longtake.sampling.schedules import SECOND_SCALE, sigmas
from longtake.sampling.steps import OnStep
from longtake.sampling.track import Track

SPARE = round((MOST_LAG_S + CROSS_FADE_S) * SOUND_RATE)
"""Samples that bringing a sound into step may take from its far end."""


@dataclass(frozen=True)
class Recipe:
    """How every window is sampled. `adapt` is told the number of each pass before it, to set the adapters' strengths;
    `acceleration` says which steps of the first go without the model."""

    transformer: Any
    upsampler: Any | None
    statistics: Statistics
    guide: Guide
    sigmas: Tensor
    sampler: Sampler
    adapt: Callable[[int], None] = lambda number: None
    acceleration: Acceleration = "none"


@dataclass(frozen=True)
class Sampled:
    """A window's normalised video latents [1, C, F, H, W] and audio tokens [1, T, C] (None without sound)."""

    video: Tensor
    audio: Tensor | None


def sample_window(
    recipe: Recipe,
    video: Sequence[Track],
    shapes: Sequence[tuple[int, ...]],
    audio: Track | None,
    noise: Callable[[int], Noise],
    on_step: OnStep = lambda step, steps: None,
) -> Sampled:
    """One window in one pass or two; `video` holds its track and `shapes` its latents' shape for each.

    The second pass has twice the size: it refines the first's latents, upsampled, in the last distilled steps, with
    one prediction a step. It hears the first pass's sound, noised like the picture, but that sound itself is kept.
    """
    tracks: dict[Stream, Track] = {"video": video[0]}
    if audio:
        tracks["audio"] = audio
    recipe.adapt(0)
    layout = Layout.of(recipe.transformer, tracks)
    made = sample(
        tracks,
        recipe.sigmas,
        recipe.sampler,
        cached(
            lambda tokens, step, sigma: predict(recipe.transformer, tracks, layout, recipe.guide, tokens, sigma),
            recipe.sigmas,
            recipe.acceleration,
        ),
        noise(0),
        on_step=on_step,
    )
    latent = to_latent(video[0].result(made["video"]), shapes[0])
    if len(video) == 2:
        larger = upsample(recipe.upsampler, latent, recipe.statistics)
        latent = _refined(recipe, video[1], larger, audio, made, noise(1), on_step)
    return Sampled(latent, made.get("audio"))


def _refined(
    recipe: Recipe,
    video: Track,
    latent: Tensor,
    audio: Track | None,
    made: Mapping[Stream, Tensor],
    noise: Noise,
    on_step: OnStep,
) -> Tensor:
    tracks: dict[Stream, Track] = {"video": video}
    if audio:
        tracks["audio"] = Track(audio.clean, torch.ones_like(audio.mask), audio.bounds)
    recipe.adapt(1)
    layout = Layout.of(recipe.transformer, tracks)
    plain = replace(recipe.guide, scales=dict.fromkeys(tracks, UNGUIDED))
    refined = sample(
        tracks,
        torch.tensor(SECOND_SCALE),
        Sampler(),
        lambda tokens, step, sigma: predict(recipe.transformer, tracks, layout, plain, tokens, sigma),
        noise,
        init={**made, "video": to_tokens(latent)},
        on_step=on_step,
    )
    return to_latent(video.result(refined["video"]), tuple(latent.shape))


@dataclass(frozen=True)
class Piece:
    """What one window adds, in playing order.

    `frames` are chunks [t, 3, H, W] in 0..1 of the new frames, at the output's size; where the context is not shown
    as it is, the model's rendition of it comes with them, on its side. Else `rendition` [3, H, W] is how the model
    renders the frame at the joint, and `shown` [H, W, 3] that frame where an earlier window made it. `sound` [2, n] at
    SOUND_RATE is that of context and new frames, and SPARE at the end far from the context; None without sound.
    """

    extension: Extension
    frames: Iterator[Tensor]
    rendition: Tensor | None
    shown: Frames | None
    sound: Samples | None


def extend(
    models: LTX2,
    plan: LTX2Plan,
    context: Context,
    positive: Words,
    negative: Words | None,
    *,
    adapt: Callable[[int], None] = lambda number: None,
    kept: Kept = NOTHING_KEPT,
    on_progress: OnProgress = ignore_progress,
) -> Iterator[Piece]:
    """The plan's extensions in playing order. Forward, take a piece's frames before asking for the next piece.
    What is sampled of a window is `kept`.

    Each window after the first is given the last frames that were made, encoded anew as the source's were, and the
    sound that was made with them: so its own first latent is one frame, as the model knows it.
    """
    longest = max(plan.extensions, key=lambda extension: extension.take_frames)
    num_tokens = prod(latent_shape(models, longest, plan.scales[0].canvas)[2:])
    at_once = predictions_at_once(models.transformer, num_tokens, models.device)
    recipe = Recipe(
        transformer=models.transformer,
        upsampler=models.upsampler,
        statistics=Statistics.of(models.vae, models.device),
        guide=Guide(positive, negative, {"video": plan.video, "audio": plan.audio}, plan.stg_blocks, at_once),
        sigmas=sigmas(plan.scheduler, plan.steps),
        sampler=Sampler(plan.gamma, plan.eta),
        adapt=adapt,
        acceleration=plan.acceleration,
    )
    take = _Take(models, plan, recipe, kept, on_progress)
    yield from (_backward if plan.direction == "backward" else _forward)(take, context)


@dataclass(frozen=True)
class _Take:
    """What all windows of a request share."""

    models: LTX2
    plan: LTX2Plan
    recipe: Recipe
    kept: Kept
    on_progress: OnProgress

    @property
    def size(self) -> Size:
        return self.plan.width, self.plan.height

    @property
    def canvas(self) -> Size:
        return self.plan.scales[-1].canvas


def _forward(take: _Take, context: Context) -> Iterator[Piece]:
    plan, total = take.plan, len(take.plan.extensions)
    frames, sound, shown = context.frames, context.sound, None
    for number, extension in enumerate(plan.extensions):
        given, stop = extension.context_frames, extension.context_frames + extension.new_frames
        image = context.end_image if number == total - 1 else None
        sampled = _sampled(take, number, Context(frames[-given:], sound, image))
        made = _sound(take, sampled, 0, stop)
        keeps = plan.keeps_source or number > 0
        decoded = _decoded(take, sampled.video, given - 1 if keeps else 0, stop)
        rendition = None
        if keeps:
            opening = next(decoded)
            rendition, decoded = opening[0], chain([opening[1:]], decoded)
        following = plan.extensions[number + 1].context_frames if number + 1 < total else 1
        seen = _Watched(decoded, frames, following)
        yield Piece(extension, iter(seen), rendition, shown, made)
        frames, shown = seen.last, seen.last[-1]
        if made is not None:
            sound = made[:, : num_samples(stop, plan.rate)][:, -num_samples(following, plan.rate) :]


def _backward(take: _Take, context: Context) -> Iterator[Piece]:
    """All windows are sampled, the one at the joint first; then they are decoded, the one farthest from it first."""
    plan, total = take.plan, len(take.plan.extensions)
    pieces: list[Piece] = []
    frames, sound, shown = context.frames, context.sound, None
    for number, extension in enumerate(plan.extensions):
        before = extension.take_frames - extension.context_frames
        first = before - extension.new_frames
        image = context.end_image if number == total - 1 else None
        sampled = _sampled(take, number, Context(frames[: extension.context_frames], sound, image))
        made = _sound(take, sampled, first, extension.take_frames)
        keeps = plan.keeps_source or number > 0
        rendition = _opening(take, sampled.video, before, before + 1)[0] if keeps else None
        decoded = _decoded(take, sampled.video, first, before if keeps else extension.take_frames)
        pieces.append(Piece(extension, decoded, rendition, shown, made))
        if number + 1 < total:
            following = plan.extensions[number + 1].context_frames
            frames = _whole_numbers(_opening(take, sampled.video, first, first + following))
            shown = frames[0]
            spare = min(SPARE, num_samples(first, plan.rate))
            sound = None if made is None else made[:, spare : spare + num_samples(following, plan.rate)]
    yield from reversed(pieces)


def _sampled(take: _Take, number: int, context: Context) -> Sampled:
    """Window `number`, given its context; one that is kept is not sampled again."""

    def make() -> dict[str, Tensor]:
        sampled = _sampled_now(take, number, context)
        return {"video": sampled.video} | ({} if sampled.audio is None else {"audio": sampled.audio})

    made = take.kept.tensors(f"window-{number:03d}", make, take.models.device)
    return Sampled(made["video"], made.get("audio"))


def _sampled_now(take: _Take, number: int, context: Context) -> Sampled:
    plan, models = take.plan, take.models
    extension, windows = plan.extensions[number], len(plan.extensions)

    def on_step(step: int, steps: int) -> None:
        take.on_progress(Progress("sampling", step, steps, number + 1, windows))

    take.on_progress(Progress("context", 0, 1, number + 1, windows))
    seed = plan.seed + number * 1_000_033
    return sample_window(
        take.recipe,
        [video_given(models, plan, extension, context, scale.canvas) for scale in plan.scales],
        [latent_shape(models, extension, scale.canvas) for scale in plan.scales],
        audio_given(models, plan, extension, context.sound) if plan.sound else None,
        lambda scale: seeded(seed + scale * 1_000_003, models.device),
        on_step,
    )


def _sound(take: _Take, sampled: Sampled, first_frame: int, last_frame: int) -> Samples | None:
    """The sound of frames [first_frame, last_frame) of a window. With it comes SPARE at the end that is far from the
    joint, where the window has as much: it may be used up when the sound is brought into step."""
    if sampled.audio is None:
        return None
    take.on_progress(Progress("sound", 0, 1))
    first, last = (num_samples(frame, take.plan.rate) for frame in (first_frame, last_frame))
    first, last = (max(0, first - SPARE), last) if take.plan.new_first else (first, last + SPARE)
    return decode_sound(take.models.audio_vae, take.models.vocoder, sampled.audio, last)[:, first:]


def _decoded(take: _Take, latent: Tensor, first_frame: int, last_frame: int) -> Iterator[Tensor]:
    """Frames [first_frame, last_frame) of a window's latents: chunks [t, 3, H, W] in 0..1 at the output's size."""
    final = Latents(take.recipe.statistics.unnormalise(latent), last=True)
    for chunk in decode_frames(
        take.models.vae, iter([final]), first_frame, last_frame, timestep=0, on_progress=take.on_progress
    ):
        yield off_canvas(chunk, take.canvas, take.size)


def _opening(take: _Take, latent: Tensor, first_frame: int, last_frame: int) -> Tensor:
    """The same of few frames, decoded with the latents around them alone."""
    temporal, around = take.models.card.temporal_compression, 2
    first = max(0, first_frame // temporal - around)
    last = latent_length(last_frame, temporal) + 1 + around
    frames = decode(take.models.vae, take.recipe.statistics.unnormalise(latent[:, :, first:last]), 0)
    begin = first_frame - first * temporal
    return off_canvas(frames[begin : begin + last_frame - first_frame], take.canvas, take.size)


class _Watched:
    """Passes chunks of frames on and keeps the last `count` of them, and of those `before` them, as whole numbers."""

    def __init__(self, chunks: Iterator[Tensor], before: Frames, count: int) -> None:
        self.chunks, self.last, self.count = chunks, before, count

    def __iter__(self) -> Iterator[Tensor]:
        for chunk in self.chunks:
            self.last = np.concatenate([self.last, _whole_numbers(chunk)])[-self.count :]
            if len(chunk):
                yield chunk


def _whole_numbers(frames: Tensor) -> Frames:
    """[t, 3, H, W] in 0..1 as [t, H, W, 3] uint8."""
    return (frames * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
