"""The plan of LTX-Video 0.9.x: the used source frames, frame counts, sizes, and the steps of sampling."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from longtake.errors import InvalidRequest, NotSupported
from longtake.families.ltxv.frame_counts import Window, frame_counts
from longtake.families.ltxv.notes import plan_notes
from longtake.families.ltxv.options import LTXVOptions, LTXVPlanOptions, PassOptions
from longtake.families.ltxv.profiles import NAG_SCALE, Guidance, Profile, profile
from longtake.models.registry import LTXVCard
from longtake.plans import Plan, Size, adapters_of_passes, model_canvas, playable_rate, span_on_clock
from longtake.sampling.levels import Acceleration, evaluates_model, linear_quadratic
from longtake.video import Span, VideoInfo

NATIVE_SIZE_STEP = 32
"""The published 0.9.x models work on sides that are multiples of this number of pixels."""

FIRST_PASS_SHARE = Fraction("0.6666666")
"""The width and height of the frames in the first of two passes, as a share of the output's. The second pass works at
twice these.

Sides are rounded down to multiples of 32 pixels. The published value is slightly below two thirds, so a side of 192
becomes 96 in the first pass, not 128.
"""

LARGEST_ASPECT = 5
"""The largest ratio of the source's long side to its short side. Above it, the request must set an aspect ratio."""


@dataclass(frozen=True)
class Pass:
    """One pass over a window: a run through the sampling steps of the frames that the model samples together.

    `canvas`: (width, height) in pixels of the frames that the pass samples.
    `steps`: the number of steps of the whole schedule.
    `skip_initial`: the number of steps that are left out at the start of the schedule.
    `skip_final`: the number of steps that are left out at the end of the schedule.
    `guidance`: the guidance scales by noise level.
    `acceleration`: how many steps extrapolate earlier predictions instead of evaluating the model.
    """

    canvas: Size
    steps: int
    skip_initial: int
    skip_final: int
    guidance: Guidance
    acceleration: Acceleration = "none"

    @property
    def evaluations(self) -> int:
        """The number of model evaluations in this pass over one window."""
        levels = linear_quadratic(self.steps)[self.skip_initial : self.steps - self.skip_final]
        evaluated = (t for step, t in enumerate(levels) if evaluates_model(step, len(levels), self.acceleration))
        return sum(self.guidance.evaluations(t) for t in evaluated)


@dataclass(frozen=True, kw_only=True)
class LTXVPlan(LTXVPlanOptions, Plan):
    """The plan of LTX-Video 0.9.x: one clip, sampled in overlapping windows.

    The clip begins with the source frames that the model sees (the context), and continues with the new frames.

    `sampled_frames`: the number of frames of the clip, 8k+1. Frames after the last new frame are cut off.
    `windows`: the windows of the clip. Each one is sampled in all `passes`.
    `overlap_latents`: the number of latent frames that a window shares with the window before it.
    `overlap_strength`: how closely a window follows these latent frames, 0 (not at all) to 1 (unchanged).
    """

    family: Literal["ltxv"] = "ltxv"
    sampled_frames: int
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
    def context_crf(self) -> int:
        return self.constant_rate_factor

    @property
    def keeps_source(self) -> bool:
        return self.strength == 1 and self.guide == "rgb"

    @property
    def reversed_at_end(self) -> bool:
        return self.reverse


def make_plan(options: LTXVOptions, source: VideoInfo, card: LTXVCard, seed: int) -> LTXVPlan:
    """Returns the plan for extending a video.

    `options`: the options of the request.
    `source`: the facts of the source video.
    `card`: the card of the model.
    `seed`: the seed of all random numbers.

    Raises InvalidRequest, whose `loc` is the request's field at fault, if the options do not suit the source. Raises
    NotSupported if the options have an end image, which these models cannot use.
    """
    if options.end_image is not None:
        raise NotSupported(f"{card.name} cannot arrive at an end image; the LTX-2.3 models can.", value=card.name)
    span = source_span(source, options)
    counts = frame_counts(options, span, card)
    size = output_size(options.resolution, aspect_of(options.aspect_ratio, source))
    passes = passes_of(options, size, card)
    plan = LTXVPlan(
        **options.values_of(LTXVPlanOptions),
        model=card.name,
        seed=seed,
        width=size[0],
        height=size[1],
        rate=playback_rate(options, span.rate),
        context=span.tail(max(counts.shown_frames, counts.context_frames)),
        shown_frames=counts.shown_frames,
        context_frames=counts.context_frames,
        new_frames=counts.new_frames,
        billed_frames=counts.billed_frames,
        adapters=adapters_of_passes(options.adapters, len(passes)),
        sampled_frames=counts.sampled_frames,
        windows=counts.windows,
        overlap_latents=card.overlap_latents,
        overlap_strength=card.overlap_strength,
        passes=passes,
    )
    return replace(plan, notes=(*plan_notes(options, source, span, plan), *counts.notes))


# Which frames of the source are used, and how fast they play


def source_span(source: VideoInfo, options: LTXVOptions) -> Span:
    """Returns the span of the source frames that the request uses, reversed if the option `reverse_source` is True.

    The request may use the frames from the option `start_frame` to the source's end. If these are more than the option
    `max_frames`, only those next to the new frames are used: the last `max_frames` of them, or the first ones if the
    span is reversed. Both options count frames at the source's own rate. The source may be read at another rate (see
    `reading_rate`), and the span counts frames at that rate.

    Raises InvalidRequest if `start_frame` is beyond the source's end.
    """
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
    clock, reverse = reading_rate(options, source), options.reverse_source
    return span_on_clock(start, stop, source.rate, clock, reverse=reverse, joint_first=reverse)


def reading_rate(options: LTXVOptions, source: VideoInfo) -> Fraction:
    """Returns the rate in frames per second at which the source is read.

    - If the option `target_rate` is set, it is this rate.
    - Otherwise it is the source's own rate. If the output plays at this rate too (the option `own_rate` is True or
      `frame_rate` is None), it is limited to 1..60 frames per second.
    """
    if options.target_rate is not None:
        return Fraction(options.target_rate)
    return playable_rate(source.rate) if options.own_rate or options.frame_rate is None else source.rate


def playback_rate(options: LTXVOptions, clock: Fraction) -> Fraction:
    """Returns the output's rate in frames per second.

    `clock`: the rate in frames per second at which the source is read (see `reading_rate`).

    - If the option `own_rate` is True or `frame_rate` is None, the result is `clock`.
    - If `clock` rounds to `frame_rate`, the result is also `clock`: a source at 24000/1001 stays at this rate if 24 is
      requested.
    - Otherwise it is `frame_rate`, and the source plays faster or slower than at its own speed.
    """
    requested = options.frame_rate
    if options.own_rate or requested is None or round(clock) == requested:
        return clock
    return Fraction(requested)


# Which size, and which passes


def aspect_of(aspect_ratio: str, source: VideoInfo) -> Fraction:
    """Returns width / height of an aspect ratio such as `16:9`, or of the source for `auto`.

    For `auto`, raises InvalidRequest if the source's long side is more than 5 times (LARGEST_ASPECT) its short side.
    """
    if aspect_ratio != "auto":
        across, down = aspect_ratio.split(":")
        return Fraction(int(across), int(down))
    aspect = Fraction(source.width, source.height)
    if not Fraction(1, LARGEST_ASPECT) <= aspect <= LARGEST_ASPECT:
        raise InvalidRequest(
            f"The video is {source.width}x{source.height}, longer than {LARGEST_ASPECT}:1; "
            "set aspect_ratio to crop it.",
            loc=("body", "aspect_ratio"),
            value=aspect_ratio,
        )
    return aspect


def output_size(resolution: str, aspect: Fraction) -> Size:
    """Returns the output's (width, height) in pixels.

    `resolution`, such as `720p`, gives the short side. `aspect` is width / height. Both sides are rounded down to
    multiples of 32: 720p at 16:9 is 1280x704.
    """
    short = int(resolution.removesuffix("p"))
    width, height = (short * aspect, Fraction(short)) if aspect >= 1 else (Fraction(short), short / aspect)
    return _floor(width, NATIVE_SIZE_STEP), _floor(height, NATIVE_SIZE_STEP)


def first_pass_canvas(size: Size, step: int) -> Size:
    """Returns the canvas (width, height) in pixels of the frames in the first of two passes.

    Each side is two thirds (FIRST_PASS_SHARE) of the output's, rounded down to a multiple of `step` pixels.

    `size`: (width, height) of the output in pixels.
    """
    return _floor(size[0] * FIRST_PASS_SHARE, step), _floor(size[1] * FIRST_PASS_SHARE, step)


def _floor(value: Fraction, step: int) -> int:
    return max(int(value) // step * step, step)


def passes_of(options: LTXVOptions, size: Size, card: LTXVCard) -> tuple[Pass, ...]:
    """Returns the one or two passes of a plan whose output has `size` (width, height) in pixels.

    Their canvases are:
    - A single pass works at `size`.
    - The first of two passes works at two thirds (FIRST_PASS_SHARE) of the width and height of `size`, and the second
      at twice the width and height of the first.
    - Exception: if the card has a `native_short_side`, this is the short side of the single pass or of the first of two
      passes. The second still works at twice the width and height of the first.
    """
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
    """Returns the guidance scales of the model in its first and second pass.

    They are those with which the card's kind of model (such as `distilled`) is published. Exception: if the option
    `heed_negative` is True and the first pass would not use the negative prompt, both passes get normalised attention
    guidance (NAG), which uses it.
    """
    guidance = profile(card.guidance, options.few_steps)
    if options.heed_negative and not guidance.first.heeds_negative:
        return Profile(replace(guidance.first, nag=NAG_SCALE), replace(guidance.second, nag=NAG_SCALE))
    return guidance
