"""The plan of LTX-Video 0.9.x: which frames of the source are used, lengths, windows, sizes and passes."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from longtake.errors import InvalidRequest, NotSupported
from longtake.families.ltxv.options import LTXVChoices, LTXVOptions, PassOptions
from longtake.families.ltxv.profiles import NAG_SCALE, Guidance, Profile, profile
from longtake.models.registry import LTXVCard
from longtake.plans import (
    Plan,
    Size,
    adapters_of_passes,
    clip_length,
    frames_on_clock,
    latent_length,
    model_canvas,
    padded_length,
    playable,
)
from longtake.sampling.levels import Acceleration, evaluates_model, linear_quadratic
from longtake.video import Span, VideoInfo

NATIVE_SIZE_STEP = 32
"""Published 0.9.x models work on sides that are multiples of this."""

FIRST_PASS_SHARE = Fraction("0.6666666")
"""A two-scale flow's first pass works at this share of the size, the second at twice the first. As published: a hair
less than two thirds, so that 192 becomes 96, not 128."""

MOST_ASPECT = 5
"""A source longer than this to one is not shown whole: it has to be cropped."""

LEAST_NEW_FRAMES = 8
"""The least room for new frames beside the context; with less, the context gets half of `num_frames`."""


@dataclass(frozen=True)
class Window:
    """Latent frames [start, stop) of the generated clip, sampled at once."""

    start: int
    stop: int


@dataclass(frozen=True)
class Pass:
    """One scale of sampling: canvas (width, height), the schedule's length and what is cut off it, and guidance.
    `acceleration`: which of its steps extrapolate instead of evaluating the model."""

    canvas: Size
    steps: int
    skip_initial: int
    skip_final: int
    guidance: Guidance
    acceleration: Acceleration = "none"

    @property
    def evaluations(self) -> int:
        """The number of model evaluations over a window."""
        levels = linear_quadratic(self.steps)[self.skip_initial : self.steps - self.skip_final]
        evaluated = (t for step, t in enumerate(levels) if evaluates_model(step, len(levels), self.acceleration))
        return sum(self.guidance.evaluations(t) for t in evaluated)


@dataclass(frozen=True, kw_only=True)
class LTXVPlan(LTXVChoices, Plan):
    """The plan of a clip of `take_frames` (8k+1, context included), made in `windows` of latent frames, each in
    `passes`; what is beyond the asked number is cut off. The context comes first."""

    family: Literal["ltxv"] = "ltxv"
    take_frames: int
    windows: tuple[Window, ...]
    overlap_latents: int
    overlap_strength: float
    passes: tuple[Pass, ...]

    @property
    def num_windows(self) -> int:
        return len(self.windows)

    @property
    def num_passes(self) -> int:
        return len(self.passes)

    @property
    def evaluations(self) -> int:
        return len(self.windows) * sum(pass_.evaluations for pass_ in self.passes)

    @property
    def keeps_source(self) -> bool:
        return self.strength == 1 and self.guide == "rgb"

    @property
    def reversed_at_end(self) -> bool:
        return self.reverse


def make_plan(options: LTXVOptions, source: VideoInfo, card: LTXVCard, seed: int) -> LTXVPlan:
    """The plan of these options. Raises InvalidRequest naming the field that cannot be done."""
    if options.end_image is not None:
        raise NotSupported(f"{card.name} cannot arrive at an end image; the LTX-2.3 models can.", value=card.name)
    span = source_span(source, options)
    lengths = lengths_of(options, span, card)
    size = output_size(options.resolution, aspect_of(options.aspect_ratio, source))
    passes = passes_of(options, size, card)
    return LTXVPlan(
        **options.chosen(LTXVChoices),
        model=card.name,
        seed=seed,
        width=size[0],
        height=size[1],
        rate=playback_rate(options, span.rate),
        context=span.tail(max(lengths.shown_frames, lengths.context_frames)),
        shown_frames=lengths.shown_frames,
        context_frames=lengths.context_frames,
        new_frames=lengths.new_frames,
        billed_frames=lengths.billed_frames,
        adapters=adapters_of_passes(options.adapters, len(passes)),
        take_frames=lengths.take_frames,
        windows=lengths.windows,
        overlap_latents=card.overlap_latents,
        overlap_strength=card.overlap_strength,
        passes=passes,
        notes=(*rate_notes(options, source, span.rate), *lengths.notes),
    )


# Which frames of the source, and how fast they play


def source_span(source: VideoInfo, options: LTXVOptions) -> Span:
    """The frames of the source that the request uses, in playing order: from the start frame on, then limited to
    those next to the joint, then resampled, then reversed."""
    start, stop = options.start_frame, source.num_frames
    if start >= stop:
        raise InvalidRequest(
            f"video.start_frame_num is {start}, and the video has only {stop} frames; it must be less than that.",
            loc=("body", "video", "start_frame_num"),
            value=start,
        )
    if options.max_frames is not None and stop - start > options.max_frames:
        limit = options.max_frames
        start, stop = (start, start + limit) if options.reverse_source else (stop - limit, stop)
    clock = clock_of(options, source)
    if clock != source.rate:
        start, stop = int(start * clock / source.rate), frames_on_clock(stop, source.rate, clock)
        start = min(start, stop - 1)
    return Span(start, stop, clock, options.reverse_source)


def clock_of(options: LTXVOptions, source: VideoInfo) -> Fraction:
    """The rate at which the source is read: the one it is resampled to, else its own, within what can be played where
    the output keeps it."""
    if options.target_rate is not None:
        return Fraction(options.target_rate)
    return playable(source.rate) if options.own_rate or options.frame_rate is None else source.rate


def playback_rate(options: LTXVOptions, clock: Fraction) -> Fraction:
    """The rate the output plays at: the asked one; where the source's rounds to it (24 for 24000/1001), that."""
    asked = options.frame_rate
    if options.own_rate or asked is None or round(clock) == asked:
        return clock
    return Fraction(asked)


def rate_notes(options: LTXVOptions, source: VideoInfo, clock: Fraction) -> tuple[str, ...]:
    """Notes on a source below one frame per second."""
    if source.rate >= 1:
        return ()
    if clock == source.rate:
        times = float(playback_rate(options, clock) / source.rate)
        return (f"The source has {float(source.rate):g} frames per second and plays {times:g} times as fast.",)
    return (f"The source has {float(source.rate):g} frames per second; its frames are repeated at {clock}.",)


# How many frames


@dataclass(frozen=True)
class Lengths:
    """The lengths of a plan, in frames; see `Plan` and `LTXVPlan`."""

    shown_frames: int
    context_frames: int
    new_frames: int
    billed_frames: int
    take_frames: int
    windows: tuple[Window, ...]
    notes: tuple[str, ...] = ()


def lengths_of(options: LTXVOptions, span: Span, card: LTXVCard) -> Lengths:
    """The lengths by whichever way of counting the options ask for."""
    if options.guide != "rgb":
        return guide_lengths(span, options.new_frames or options.num_frames, card)
    if options.new_frames is not None:
        return whole_source_lengths(span, options.new_frames, card)
    return total_lengths(span, options.num_frames, card, options.count_field)


def whole_source_lengths(span: Span, new_frames: int, card: LTXVCard) -> Lengths:
    """The lengths where all of the source is shown and `new_frames` are added, however long it is."""
    return _lengths(len(span), clip_length(len(span)), new_frames, len(span) + new_frames, card)


def total_lengths(span: Span, num_frames: int, card: LTXVCard, count_field: str | None = "num_frames") -> Lengths:
    """The output has exactly `num_frames`: the source trimmed to 8k+1 at its far end, and new frames.

    Where that leaves room for fewer than LEAST_NEW_FRAMES, the source's last frames count for half of `num_frames`, the
    rest is new, and all of the source is shown. Notes name `count_field`, the field that says `num_frames`.
    """
    context = clip_length(len(span))
    new_frames = num_frames - context
    if new_frames < LEAST_NEW_FRAMES:
        context = clip_length(num_frames // 2)
        new_frames = num_frames - context
        asked = f"{count_field} is {num_frames}" if count_field else f"{num_frames} frames are made"
        note = f"{asked}, and the source has {len(span)}: all are shown, and {new_frames} are new."
        return replace(_lengths(len(span), context, new_frames, num_frames, card), notes=(note,))
    lengths = _lengths(context, context, new_frames, num_frames, card)
    if new_frames * 4 < num_frames:
        of = f"{count_field} = {num_frames}" if count_field else f"{num_frames} frames"
        remedy = f"a larger {count_field}, or less of the source, makes" if count_field else "less of the source makes"
        note = f"Only {new_frames} of {of} are new, for the source fills {context} of them; {remedy} more."
        return replace(lengths, notes=(note,))
    return lengths


def guide_lengths(span: Span, num_frames: int, card: LTXVCard) -> Lengths:
    """Nothing of the source is shown: it guides the first window, and all `num_frames` are made."""
    take = padded_length(num_frames)
    context = clip_length(min(len(span), take, card.window_frames))
    return Lengths(0, context, num_frames, num_frames, take, _windows(take, card))


def _lengths(shown: int, context: int, new: int, billed: int, card: LTXVCard) -> Lengths:
    if padded_length(context + new) > card.window_frames:
        context = min(context, card.max_context_frames)
    take = padded_length(context + new)
    return Lengths(shown, context, new, billed, take, _windows(take, card))


def _windows(take_frames: int, card: LTXVCard) -> tuple[Window, ...]:
    total = latent_length(take_frames, card.temporal_compression)
    return windows(total, latent_length(card.window_frames, card.temporal_compression), card.overlap_latents)


def windows(total: int, tile: int, overlap: int) -> tuple[Window, ...]:
    """Windows of `tile` latent frames, each starting `overlap` before the last one's end, until `total` is covered.

    Source: the chunk ranges of ComfyUI-LTXVideo's looping sampler.
    """
    starts = range(0, max(total - overlap, 1), tile - overlap)
    return tuple(Window(start, min(start + tile, total)) for start in starts)


# Which size, and which passes


def aspect_of(aspect_ratio: str, source: VideoInfo) -> Fraction:
    """The asked aspect ratio (`16:9`), or the source's own for `auto`."""
    if aspect_ratio != "auto":
        across, down = aspect_ratio.split(":")
        return Fraction(int(across), int(down))
    aspect = Fraction(source.width, source.height)
    if not Fraction(1, MOST_ASPECT) <= aspect <= MOST_ASPECT:
        raise InvalidRequest(
            f"The video is {source.width}x{source.height}, longer than {MOST_ASPECT}:1; set aspect_ratio to crop it.",
            loc=("body", "aspect_ratio"),
            value=aspect_ratio,
        )
    return aspect


def output_size(resolution: str, aspect: Fraction) -> Size:
    """(width, height) with the resolution's lines on the short side, floored to multiples of 32 (720p: 1280x704)."""
    short = int(resolution.removesuffix("p"))
    width, height = (short * aspect, Fraction(short)) if aspect >= 1 else (Fraction(short), short / aspect)
    return _floor(width, NATIVE_SIZE_STEP), _floor(height, NATIVE_SIZE_STEP)


def first_pass_canvas(size: Size, step: int) -> Size:
    """The first of two scales: two thirds of the size, floored to the step."""
    return _floor(size[0] * FIRST_PASS_SHARE, step), _floor(size[1] * FIRST_PASS_SHARE, step)


def _floor(value: Fraction, step: int) -> int:
    return max(int(value) // step * step, step)


def passes_of(options: LTXVOptions, size: Size, card: LTXVCard) -> tuple[Pass, ...]:
    """One pass, or a first at two thirds of the size (a small model: at its own) and a second at twice that."""
    step, native = card.spatial_compression, card.native_short_side
    guidance = guidance_of(options, card)
    if len(options.passes) == 1:
        return (_pass(options, options.passes[0], model_canvas(size, native, step), guidance.first),)
    width, height = first_pass_canvas(size, step) if native is None else model_canvas(size, native, step)
    return (
        _pass(options, options.passes[0], (width, height), guidance.first),
        _pass(options, options.passes[1], (2 * width, 2 * height), guidance.second),
    )


def _pass(options: LTXVOptions, schedule: PassOptions, canvas: Size, guidance: Guidance) -> Pass:
    acceleration = options.acceleration or "none"
    return Pass(canvas, schedule.steps, schedule.skip_initial, schedule.skip_final, guidance, acceleration)


def guidance_of(options: LTXVOptions, card: LTXVCard) -> Profile:
    """The model's guidance by noise level. A distilled model, as published, makes nothing of a negative prompt: one
    that is to be heeded acts by normalised attention guidance."""
    guidance = profile(card.guidance, options.few_steps)
    if options.heed_negative and not guidance.first.heeds_negative:
        return Profile(replace(guidance.first, nag=NAG_SCALE), replace(guidance.second, nag=NAG_SCALE))
    return guidance
