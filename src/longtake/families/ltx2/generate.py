"""LTX-2.3: from a plan and a context of picture and sound to what comes after it, or before it.

Read from the bottom: `generate` is the whole way, `sample_window` the passes over one window. The conditioning of a
window is in `conditioning.py`.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longtake.families.family import Context, Frames, Piece, Samples, Work
from longtake.families.ltx2.audio import decode_sound
from longtake.families.ltx2.conditioning import audio_conditioning, latent_shape, video_conditioning
from longtake.families.ltx2.guidance import UNGUIDED, Guide, predict
from longtake.families.ltx2.parts import LTX2Parts
from longtake.families.ltx2.plan import LTX2Plan
from longtake.families.ltx2.sampler import Sampler, sample
from longtake.families.ltx2.tracks import Track
from longtake.media.formats import SOUND_RATE
from longtake.media.sound import CROSS_FADE_S, MOST_LAG_S, num_samples
from longtake.models.audiovisual import PositionedTracks, Stream
from longtake.models.memory import predictions_at_once
from longtake.plans import latent_length
from longtake.prompts import expand as expand_prompt
from longtake.sampling.caching import cached
from longtake.sampling.levels import Acceleration
from longtake.sampling.noise import Noise
from longtake.sampling.positions import to_latent, to_tokens
from longtake.sampling.schedules import SECOND_SCALE, sigmas
from longtake.sampling.vae import Latents, Statistics, decode, decode_frames, off_canvas, upsample
from longtake.sampling.windows import Loop, OnStep, Tensors, Window, sample_windows
from longtake.video import Progress

LTX2Work = Work[LTX2Plan, LTX2Parts]

SPARE = round((MOST_LAG_S + CROSS_FADE_S) * SOUND_RATE)
"""Samples that bringing a sound into step may take from its far end."""


@dataclass(frozen=True)
class Setup:
    """The set-up of sampling, the same for every window.

    `set_pass` is called with the number of each pass before it, to set the adapters' strengths; `acceleration` says
    which steps of the first pass extrapolate.
    """

    transformer: Any
    upsampler: Any | None
    statistics: Statistics
    guide: Guide
    sampler: Sampler
    set_pass: Callable[[int], None] = lambda number: None
    acceleration: Acceleration = "none"


@dataclass(frozen=True)
class Sampled:
    """A window's normalised video latents [1, C, F, H, W] and audio tokens [1, T, C] (None without sound)."""

    video: Tensor
    audio: Tensor | None

    def to_tensors(self) -> dict[str, Tensor]:
        """Both by name, as they are saved."""
        return {"video": self.video} | ({} if self.audio is None else {"audio": self.audio})


def sample_window(
    setup: Setup,
    video: Sequence[Track],
    shapes: Sequence[tuple[int, ...]],
    audio: Track | None,
    noise: Callable[[int], Noise],
    on_step: OnStep = lambda step, steps: None,
) -> Sampled:
    """Samples one window in one pass or two; `video` holds its track and `shapes` its latents' shape for each.

    The second pass has twice the size: it refines the first's latents, upsampled, in the last distilled steps, with
    one prediction a step. It hears the first pass's sound, noised like the picture, but that sound itself is kept.
    """
    tracks: dict[Stream, Track] = {"video": video[0]}
    if audio:
        tracks["audio"] = audio
    setup.set_pass(0)
    positioned = PositionedTracks.of(setup.transformer, tracks)

    def predicted(tokens: Mapping[Stream, Tensor], step: int, sigma: float) -> dict[Stream, Tensor]:
        return predict(setup.transformer, tracks, positioned, setup.guide, tokens, sigma)

    predicting = cached(predicted, setup.sampler.sigmas, setup.acceleration)
    made = sample(tracks, setup.sampler, predicting, noise(0), on_step=on_step)
    latent = to_latent(video[0].result(made["video"]), shapes[0])
    if len(video) == 2:
        larger = upsample(setup.upsampler, latent, setup.statistics)
        if audio:
            tracks["audio"] = Track(audio.clean, torch.ones_like(audio.mask), audio.bounds)
        tracks["video"] = video[1]
        latent = _refined(setup, tracks, larger, made, noise(1), on_step)
    return Sampled(latent, made.get("audio"))


def _refined(
    setup: Setup,
    tracks: Mapping[Stream, Track],
    latent: Tensor,
    made: Mapping[Stream, Tensor],
    noise: Noise,
    on_step: OnStep,
) -> Tensor:
    setup.set_pass(1)
    positioned = PositionedTracks.of(setup.transformer, tracks)
    unguided = replace(setup.guide, scales=dict.fromkeys(tracks, UNGUIDED))

    def predicted(tokens: Mapping[Stream, Tensor], step: int, sigma: float) -> dict[Stream, Tensor]:
        return predict(setup.transformer, tracks, positioned, unguided, tokens, sigma)

    init = {**made, "video": to_tokens(latent)}
    refined = sample(tracks, Sampler(torch.tensor(SECOND_SCALE)), predicted, noise, init=init, on_step=on_step)
    return to_latent(tracks["video"].result(refined["video"]), tuple(latent.shape))


def expand(work: LTX2Work, frame: Frames) -> tuple[str, str | None]:
    """The prompt to use, and a sentence where it is still the user's own: by the configured language model, else by
    the model's own, which sees the frame at the joint. Only that one can tell what goes on where there is no prompt."""
    plan, text = work.plan, work.parts.text
    if not plan.expand_prompt:
        return plan.prompt, None
    if not plan.prompt:
        if text.can_write and text.can_see:
            return text.expand("", frame, plan.seed), None
        return "", "There is no prompt, and no language model here that sees: the new part follows the source alone."
    if work.settings.expansion_url is None and text.can_write:
        return text.expand(plan.prompt, frame, plan.seed), None
    return expand_prompt(plan.prompt, work.settings)


def generate(work: LTX2Work, prompt: str, context: Context) -> Iterator[Piece]:
    """The plan's extensions in playing order, one piece each. What is sampled of a window is saved.

    Each window after the first is given the last frames that were made, encoded anew as the source's were, and the
    sound that was made with them: so its own first latent is one frame, as the model knows it.
    """
    plan = work.plan
    setup = setup_of(work, prompt)
    loop = Loop.of(plan, work.resume, work.on_progress, work.parts.device)
    extending = _Extending(work, setup, context.end_image)
    after = extending.backward if plan.source_last else extending.forward
    start = _Before(context.frames, context.sound)
    pieces = sample_windows(loop, start, extending.sampled, after)
    return reversed(list(pieces)) if plan.source_last else pieces


def setup_of(work: LTX2Work, prompt: str) -> Setup:
    """The set-up of a plan, with its prompts encoded."""
    plan, parts = work.plan, work.parts
    positive = parts.text.encode(prompt)
    negative = parts.text.encode(plan.negative_prompt) if "negative" in plan.predictions else None
    parts.text.release()
    longest = max(plan.extensions, key=lambda extension: extension.take_frames)
    num_tokens = prod(latent_shape(parts, longest, plan.scales[0])[2:])
    at_once = predictions_at_once(parts.transformer, num_tokens, parts.device)
    return Setup(
        transformer=parts.transformer,
        upsampler=parts.upsampler,
        statistics=Statistics.of(parts.vae, parts.device),
        guide=Guide(positive, negative, {"video": plan.video, "audio": plan.audio}, plan.stg_blocks, at_once),
        sampler=Sampler(sigmas(plan.scheduler, plan.steps), plan.gamma, plan.eta),
        set_pass=work.set_pass,
        acceleration=plan.acceleration,
    )


@dataclass(frozen=True)
class _Before:
    """The context of a window: `frames` [n, H, W, 3], of which it takes those next to it, and their `sound`. `shown`:
    the frame at the joint where an earlier window made it."""

    frames: Frames
    sound: Samples | None
    shown: Frames | None = None


@dataclass(frozen=True)
class _Extending:
    """The steps of `sample_windows` for one plan: how a window is sampled, and what comes of it in either direction."""

    work: LTX2Work
    setup: Setup
    end_image: Frames | None

    def sampled(self, window: Window, given: _Before) -> Tensors:
        plan, parts = self.work.plan, self.work.parts
        extension = plan.extensions[window.number]
        self.work.on_progress(Progress("context", 0, 1, window.number + 1, window.count))
        near = slice(extension.context_frames) if plan.source_last else slice(-extension.context_frames, None)
        context = Context(given.frames[near], given.sound, self.end_image if window.is_last else None)
        return sample_window(
            self.setup,
            [video_conditioning(parts, plan, extension, context, canvas) for canvas in plan.scales],
            [latent_shape(parts, extension, canvas) for canvas in plan.scales],
            audio_conditioning(parts, plan, extension, context.sound) if plan.sound else None,
            window.noise,
            window.on_step,
        ).to_tensors()

    def forward(self, window: Window, given: _Before, tensors: Tensors) -> Generator[Piece, None, _Before]:
        """Yields the window's frames after its context; they are decoded while they are taken."""
        plan = self.work.plan
        extension = plan.extensions[window.number]
        seen, stop = extension.context_frames, extension.context_frames + extension.new_frames
        sound = self._sound(tensors, 0, stop)
        keeps = seen > 0 and (plan.keeps_source or window.number > 0)
        decoded = self._decoded(tensors["video"], seen - 1 if keeps else 0, stop)
        rendition: Tensor | None = None
        if keeps:
            opening = next(decoded)
            rendition, decoded = opening[0], chain([opening[1:]], decoded)
        following = 1 if window.is_last else plan.extensions[window.number + 1].context_frames
        watched = _Watched(decoded, given.frames, following)
        yield Piece(iter(watched), extension.new_frames, seen, rendition, given.shown, sound)
        if sound is not None:
            sound = sound[:, : num_samples(stop, plan.rate)][:, -num_samples(following, plan.rate) :]
        return _Before(watched.last, sound, watched.last[-1])

    def backward(self, window: Window, given: _Before, tensors: Tensors) -> Generator[Piece, None, _Before]:
        """Yields the window's frames before its context. All windows are sampled, the one at the joint first, before
        any is decoded but for what the next one is given."""
        plan = self.work.plan
        extension = plan.extensions[window.number]
        before = extension.take_frames - extension.context_frames
        first = before - extension.new_frames
        sound = self._sound(tensors, first, extension.take_frames)
        keeps = extension.context_frames > 0 and (plan.keeps_source or window.number > 0)
        latent = tensors["video"]
        rendition = self._opening(latent, before, before + 1)[0] if keeps else None
        decoded = self._decoded(latent, first, before if keeps else extension.take_frames)
        yield Piece(decoded, extension.new_frames, extension.context_frames, rendition, given.shown, sound)
        if window.is_last:
            return given
        following = plan.extensions[window.number + 1].context_frames
        frames = _whole_numbers(self._opening(latent, first, first + following))
        spare = min(SPARE, num_samples(first, plan.rate))
        heard = None if sound is None else sound[:, spare : spare + num_samples(following, plan.rate)]
        return _Before(frames, heard, frames[0])

    def _sound(self, tensors: Tensors, first_frame: int, last_frame: int) -> Samples | None:
        """The sound of frames [first_frame, last_frame) of a window. With it comes SPARE at the end that is far from
        the joint, where the window has as much: it may be used up when the sound is brought into step."""
        if "audio" not in tensors:
            return None
        plan, parts = self.work.plan, self.work.parts
        self.work.on_progress(Progress("sound", 0, 1))
        first, last = (num_samples(frame, plan.rate) for frame in (first_frame, last_frame))
        first, last = (max(0, first - SPARE), last) if plan.source_last else (first, last + SPARE)
        return decode_sound(parts.audio_vae, parts.vocoder, tensors["audio"], last)[:, first:]

    def _decoded(self, latent: Tensor, first_frame: int, last_frame: int) -> Iterator[Tensor]:
        """Frames [first_frame, last_frame) of a window's latents: chunks [t, 3, H, W] in 0..1 at the output's size."""
        plan, vae = self.work.plan, self.work.parts.vae
        final = Latents(self.setup.statistics.unnormalise(latent), last=True)
        for chunk in decode_frames(
            vae, iter([final]), first_frame, last_frame, timestep=0, on_progress=self.work.on_progress
        ):
            yield off_canvas(chunk, plan.scales[-1], plan.size)

    def _opening(self, latent: Tensor, first_frame: int, last_frame: int) -> Tensor:
        """A few frames [first_frame, last_frame) as `_decoded` gives them, from only the latents around them."""
        plan, parts = self.work.plan, self.work.parts
        temporal, around = parts.card.temporal_compression, 2
        first = max(0, first_frame // temporal - around)
        last = latent_length(last_frame, temporal) + 1 + around
        frames = decode(parts.vae, self.setup.statistics.unnormalise(latent[:, :, first:last]), 0)
        begin = first_frame - first * temporal
        return off_canvas(frames[begin : begin + last_frame - first_frame], plan.scales[-1], plan.size)


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
