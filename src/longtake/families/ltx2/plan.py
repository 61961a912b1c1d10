"""The plan of LTX-2.3: rates, how many frames, the windows of an extension, and canvases."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from longtake.errors import InvalidRequest
from longtake.families.ltx2.options import DEFAULT_CONTEXT, Direction, LTX2Choices, LTX2Options, Modality
from longtake.models.registry import LTX2Card
from longtake.plans import (
    Plan,
    Size,
    adapters_of_passes,
    brief,
    clip_length,
    frames_on_clock,
    model_canvas,
    padded_length,
    playable,
)
from longtake.sampling.levels import Acceleration, evaluates_model
from longtake.video import Span, VideoInfo

SECOND_SCALE_STEPS = 3
"""Steps of the second scale, each one evaluation."""

POSITION_RANGE_S = 20
POSITION_RANGE_PX = 2048
"""The reach of LTX-2's positions, in seconds and pixels: the longest window, and the longest side of a canvas."""

NTSC_RATES = (24, 30, 48, 60)
NTSC_ROUNDING = Fraction("0.005")
FINEST_RATE = 1001
"""The largest denominator of a rate, so that containers can store it."""

LATENT_FRAMES = 8
"""Frames of a latent (the first holds one)."""

LEAST_NEW_FRAMES = 8
"""A context that nobody asked for shrinks until so many frames are new."""


@dataclass(frozen=True)
class Extension:
    """One window of an extension, in frames of the plan's rate: `context_frames` given, `new_frames` wanted of it, and
    `take_frames` sampled in all.

    Forward the context is 8k+1 at the window's front, and all are 8k+1. Backward it is 8j at the window's end, behind
    8m+1 new ones, so that it fills whole latents; the wanted ones are the last of those.
    """

    context_frames: int
    new_frames: int
    take_frames: int


@dataclass(frozen=True, kw_only=True)
class LTX2Plan(LTX2Choices, Plan):
    """Extensions of LTX-2.3, picture and sound, one after the other: each continues what is there by then.

    `rate` is the context's too. `scales`: the canvas (width, height) of each pass, the second with twice the first's
    sides. The end image lies at the far end of what is made.
    """

    family: Literal["ltx2"] = "ltx2"
    extensions: tuple[Extension, ...]
    scales: tuple[Size, ...]
    video: Modality
    audio: Modality
    stg_blocks: tuple[int, ...]
    acceleration: Acceleration

    @property
    def num_windows(self) -> int:
        return len(self.extensions)

    @property
    def num_passes(self) -> int:
        return len(self.scales)

    @property
    def predictions(self) -> tuple[str, ...]:
        """The predictions of each step of the first scale: the one for the prompt, and those that the guidance of the
        picture or of the sound compares it with. Without sound there is no other modality to isolate."""
        guided = (self.video, self.audio) if self.sound else (self.video,)
        compared = {
            "negative": any(one.cfg != 1 for one in guided),
            "disturbed": any(one.stg != 0 for one in guided),
            "isolated": self.sound and any(one.modality != 1 for one in guided),
        }
        return ("prompt", *(name for name, needed in compared.items() if needed))

    @property
    def evaluations(self) -> int:
        evaluated = sum(evaluates_model(step, self.steps, self.acceleration) for step in range(self.steps))
        second = SECOND_SCALE_STEPS * (len(self.scales) - 1)
        return len(self.extensions) * (evaluated * len(self.predictions) + second)

    @property
    def source_last(self) -> bool:
        return self.direction == "backward"

    @property
    def makes_sound(self) -> bool:
        return self.sound

    @property
    def sound_strength(self) -> float:
        return self.audio_strength


def make_plan(options: LTX2Options, source: VideoInfo, card: LTX2Card, seed: int) -> LTX2Plan:
    """The plan of these options. Raises InvalidRequest naming the field that cannot be done."""
    rate = source_clock(source, None if options.own_rate else options.frame_rate)
    span = Span(0, frames_on_clock(source.num_frames, source.rate, rate), rate)
    counts = counts_of(options, len(span))
    limit = window_limit(rate, card)
    context = min(window_context(options, counts, len(span)), card.max_context_frames)
    made = extensions(options.direction, len(span), context, counts.new_frames, limit)
    size = even((source.width, source.height) if options.size is None else options.size)
    canvases = scales(size, 1 + options.multiscale, card)
    return LTX2Plan(
        **options.chosen(LTX2Choices),
        model=card.name,
        seed=seed,
        width=size[0],
        height=size[1],
        rate=rate,
        context=span,
        shown_frames=len(span),
        context_frames=made[0].context_frames,
        new_frames=counts.new_frames,
        billed_frames=counts.billed_frames,
        adapters=adapters_of_passes(options.adapters, len(canvases)),
        end_image=None if options.end_image is None else brief(options.end_image),
        extensions=made,
        scales=canvases,
        video=bearable(options.video, card.guidance_share),
        audio=bearable(options.audio, card.guidance_share),
        stg_blocks=card.stg_blocks,
        acceleration=options.acceleration or "none",
        notes=(*rate_notes(source, rate), *context_notes(options, counts, len(span), made[0])),
    )


def bearable(scales: Modality, share: float) -> Modality:
    """Guidance with each scale interpolated towards off by `share` (1: as asked, 0: off): a small model breaks under
    scales that were found for a large one."""
    return Modality(
        cfg=1 + share * (scales.cfg - 1),
        stg=share * scales.stg,
        modality=1 + share * (scales.modality - 1),
        rescale=scales.rescale,
    )


# Rates


def exact_rate(fps: float) -> Fraction:
    """The rate that a decimal number means: 23.976, 23.98, 29.97, 47.95 and 59.94 are the NTSC ones (24000/1001), any
    other is itself (12.5 is 25/2)."""
    rate = Fraction(str(fps))
    ntsc = (Fraction(1000 * lines, 1001) for lines in NTSC_RATES)
    near = next((exact for exact in ntsc if abs(exact - rate) < NTSC_ROUNDING), None)
    return near or rate.limit_denominator(FINEST_RATE)


def source_clock(source: VideoInfo, fps: float | None) -> Fraction:
    """The rate that source and output play at: `fps`, or with None the source's own, kept within 1..60."""
    return playable(source.rate) if fps is None else exact_rate(fps)


def rate_notes(source: VideoInfo, rate: Fraction) -> tuple[str, ...]:
    """A sentence on a source below one frame per second."""
    if source.rate >= 1:
        return ()
    return (f"The source has {float(source.rate):g} frames per second; its frames are repeated at {float(rate):g}.",)


# How many frames


@dataclass(frozen=True)
class Counts:
    """The numbers of frames of a request, whichever model runs: of the context, new ones, and billed ones."""

    context_frames: int
    new_frames: int
    billed_frames: int


def wanted_context(options: LTX2Options) -> int:
    """The context that is asked for, in frames, before it is put into whole latents."""
    return clip_length(options.context_frames) if options.context_rounds_down else options.context_frames


def counts_of(options: LTX2Options, available: int) -> Counts:
    """The counts of a request on a source of `available` frames.

    Raises InvalidRequest where the context that it asks for leaves no room, and where backward the source has no whole
    latent of context.
    """
    direction, num_frames = options.direction, options.num_frames
    if direction == "backward" and options.context_frames and available < LATENT_FRAMES:
        raise InvalidRequest(
            f"The video has {available} frames; to be extended backward it needs at least {LATENT_FRAMES}.",
            loc=("body", "extend_direction"),
            value=direction,
            ctx={"min_frames": LATENT_FRAMES},
        )
    context = snapped(direction, wanted_context(options), available)
    if options.new_frames is not None:
        return Counts(context, options.new_frames, context + options.new_frames)
    if options.context_field is None and num_frames - context < LEAST_NEW_FRAMES:
        # Backward a context is never less than one latent, and then both together may be more than `num_frames`.
        context = min(context, context_length(direction, num_frames - LEAST_NEW_FRAMES))
        return Counts(context, max(num_frames - context, LEAST_NEW_FRAMES), num_frames)
    if num_frames <= context:
        raise InvalidRequest(
            f"{options.context_field} is {options.context_frames}, which takes {context} of num_frames = {num_frames} "
            f"and leaves no room for new ones: num_frames must be at least {context + 1}, "
            f"{context + 1 - num_frames} more.",
            loc=("body", str(options.context_field)),
            value=options.context_frames,
            ctx={"context_frames": context, "least_num_frames": context + 1},
        )
    return Counts(context, num_frames - context, num_frames)


def snapped(direction: Direction, context_frames: int, available: int) -> int:
    """The context of so many frames, in whole latents, as far as the source goes: forward the next 8k+1 (24 is 25),
    backward 8k for the same k (25 is 24)."""
    if context_frames == 0:
        return 0
    whole = padded_length(context_frames)
    if direction == "forward":
        return min(whole, clip_length(available))
    return min(max(whole - 1, LATENT_FRAMES), available // LATENT_FRAMES * LATENT_FRAMES)


def window_context(options: LTX2Options, counts: Counts, available: int) -> int:
    """The context of a window that has frames enough, as those after the first: what was asked for, even where the
    source is shorter."""
    wanted = wanted_context(options)
    if counts.context_frames < snapped(options.direction, wanted, available):
        return counts.context_frames
    return snapped(options.direction, wanted, available=wanted + LATENT_FRAMES)


def context_length(direction: Direction, frames: int) -> int:
    """The longest context of at most so many frames: 8k+1 forward, 8j (at least 8) backward; 0 for none."""
    if frames <= 0:
        return 0 if direction == "forward" else LATENT_FRAMES
    return clip_length(frames) if direction == "forward" else max(frames // LATENT_FRAMES, 1) * LATENT_FRAMES


def context_notes(options: LTX2Options, counts: Counts, available: int, first: Extension) -> tuple[str, ...]:
    """Sentences on a context that is not the one that was asked for."""
    asked, field = options.context_frames, options.context_field
    notes = []
    if counts.context_frames + counts.new_frames > counts.billed_frames:
        both = f"{counts.context_frames} frames of context and {counts.new_frames} new ones"
        notes.append(f"num_frames is {counts.billed_frames}; {both} are the least that there can be.")
    elif field is None and counts.context_frames < snapped(options.direction, wanted_context(options), available):
        notes.append(
            f"num_frames is {counts.billed_frames}: {counts.context_frames} of them are context, so that "
            f"{counts.new_frames} are new."
        )
    if field is not None and counts.context_frames != asked:
        reason = "the source has no more" if asked > available else "a context fills whole latents"
        notes.append(f"{field} asks for {asked} frames; the context has {counts.context_frames}, for {reason}.")
    if first.context_frames < counts.context_frames and (field is not None or asked > DEFAULT_CONTEXT):
        notes.append(
            f"The model sees {first.context_frames} of the context's {counts.context_frames} frames: its window holds "
            f"no more beside the new ones."
        )
    return tuple(notes)


def window_limit(rate: Fraction, card: LTX2Card) -> int:
    """The most frames (8k+1) of one window: what the model's positions reach, and what it was made for."""
    return clip_length(min(int(POSITION_RANGE_S * rate + 4), card.window_frames))


def extensions(
    direction: Direction, available: int, context: int, new_frames: int, limit: int
) -> tuple[Extension, ...]:
    """The windows that add `new_frames` to `available` ones, each given `context` frames, as far as they are there: a
    window after the first continues what the one before it was given and made.

    The context is what a window holds beside all new frames, but at most half a window where that is more; forward it
    is cut to 8k+1, backward to 8j. What one window has no room for is made in several of about equal length. A
    `context` of 0 is the first window's alone.
    """
    beside = limit - (new_frames if direction == "forward" else padded_length(new_frames))
    wanted = min(context or DEFAULT_CONTEXT, max(beside, limit // 2))
    room = limit - (context_length(direction, wanted) if context or padded_length(new_frames) > limit else 0)
    count = -(-new_frames // room)
    share = _share(direction, -(-new_frames // count))
    made: list[Extension] = []
    for done in range(0, new_frames, share):
        given = context_length(direction, min(wanted, available)) if context or made else 0
        new = min(share, new_frames - done)
        take = padded_length(given + new) if direction == "forward" else padded_length(new) + given
        made.append(Extension(given, new, take))
        available = given + new
    return tuple(made)


def _share(direction: Direction, new_frames: int) -> int:
    """The least number of new frames from `new_frames` on that fills a window's last latent."""
    return padded_length(new_frames + 1) - 1 if direction == "forward" else padded_length(new_frames)


# Sizes


def even(size: Size) -> Size:
    """The size in whole pairs of pixels, as colour is stored: a last odd column or row is left out."""
    return max(size[0] // 2 * 2, 2), max(size[1] // 2 * 2, 2)


def scales(size: Size, passes: int, card: LTX2Card) -> tuple[Size, ...]:
    """The canvas of each pass: one, or two of which the second has twice the first's sides.

    The last canvas is the size rounded up to what the scales can halve to; above the model's positions, the largest
    of that aspect within them. A small model's first canvas is its own.
    """
    step = card.spatial_compression
    if card.native_short_side is not None:
        width, height = model_canvas(size, card.native_short_side, step)
    else:
        width, height = _covering(size, step * passes)
        width, height = width // passes, height // passes
    return tuple((width * factor, height * factor) for factor in range(1, passes + 1))


def _covering(size: Size, step: int) -> Size:
    share = min(Fraction(1), Fraction(POSITION_RANGE_PX, max(size)))
    width, height = (-(-side * share // step) * step for side in size)
    return int(width), int(height)
