"""The arithmetic of LTX-Video 0.9.x plans: footage, lengths, windows and sizes."""

from dataclasses import dataclass
from fractions import Fraction

from longtake.clip import Source, Span
from longtake.errors import InvalidRequest
from longtake.plan import Size, Window, clip_length, frames_on_clock, latent_length, padded_length
from longtake.profiles import ModelFacts

NATIVE_SIZE_STEP = 32
"""Published 0.9.x models work on sides that are multiples of this."""

FIRST_PASS_SHARE = Fraction("0.6666666")
"""A two-scale flow's first pass works at this share of the size, the second at twice the first. As published: a hair
less than two thirds, so that 192 becomes 96, not 128."""


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


def windows(total: int, tile: int, overlap: int) -> tuple[Window, ...]:
    """Windows of `tile` latent frames, each starting `overlap` before the last one's end, until `total` is covered.

    Source: the chunk ranges of ComfyUI-LTXVideo's looping sampler.
    """
    starts = range(0, max(total - overlap, 1), tile - overlap)
    return tuple(Window(start, min(start + tile, total)) for start in starts)


@dataclass(frozen=True)
class Footage:
    """Which frames of a source a request uses: the values of its `video` field, and how many to keep of them."""

    start_frame: int = 0
    max_frames: int | None = None
    resample: Fraction | None = None
    reverse: bool = False


def footage_span(source: Source, footage: Footage) -> Span:
    """The frames of the source that the request uses, in playing order: from the start frame on, then limited to
    those next to the joint, then resampled, then reversed."""
    loc = ("body", "video", "start_frame_num")
    start, stop = footage.start_frame, source.num_frames
    if start >= stop:
        raise InvalidRequest(
            f"video.start_frame_num is {start}, and the video has only {stop} frames; it must be less than that.",
            loc=loc,
            given=start,
        )
    if footage.max_frames is not None and stop - start > footage.max_frames:
        start, stop = (start, start + footage.max_frames) if footage.reverse else (stop - footage.max_frames, stop)
    clock = footage.resample or source.rate
    if clock != source.rate:
        start, stop = int(start * clock / source.rate), frames_on_clock(stop, source.rate, clock)
        start = min(start, stop - 1)
    return Span(start, stop, clock, footage.reverse)


def playback_rate(asked: int, clock: Fraction) -> Fraction:
    """The rate the output plays at: the asked one; where the footage's own rounds to it (24 for 24000/1001), that."""
    return clock if round(clock) == asked else Fraction(asked)


@dataclass(frozen=True)
class Lengths:
    """How a take's frames add up; see Plan."""

    shown_frames: int
    context_frames: int
    new_frames: int
    take_frames: int
    windows: tuple[Window, ...]


def whole_source_lengths(span: Span, new_frames: int, model: ModelFacts) -> Lengths:
    """All of the footage is shown and `new_frames` are added, however long it is."""
    return _lengths(len(span), clip_length(len(span)), new_frames, model)


def total_lengths(span: Span, num_frames: int, model: ModelFacts, *, advice: str) -> Lengths:
    """The output has exactly `num_frames`, context included: the footage trimmed to 8k+1 at its far end."""
    context = clip_length(len(span))
    if context >= num_frames:
        raise InvalidRequest(
            f"The context takes {context} frames, which leaves no room for new ones in {num_frames}; {advice}",
            loc=("body", "num_frames"),
            given=num_frames,
            ctx={"context_frames": context, "least_num_frames": context + 1},
        )
    return _lengths(context, context, num_frames - context, model)


def guide_lengths(span: Span, num_frames: int, model: ModelFacts) -> Lengths:
    """Nothing of the footage is shown: it guides the first window, and all `num_frames` are made."""
    take = padded_length(num_frames)
    context = clip_length(min(len(span), take, model.window_frames))
    return Lengths(0, context, num_frames, take, _windows(take, model))


def _lengths(shown: int, context: int, new: int, model: ModelFacts) -> Lengths:
    if padded_length(context + new) > model.window_frames:
        context = min(context, model.max_context_frames)
    take = padded_length(context + new)
    return Lengths(shown, context, new, take, _windows(take, model))


def _windows(take_frames: int, model: ModelFacts) -> tuple[Window, ...]:
    total = latent_length(take_frames, model.temporal_compression)
    return windows(total, latent_length(model.window_frames, model.temporal_compression), model.overlap_latents)
