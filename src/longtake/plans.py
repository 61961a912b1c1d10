"""The plan of a generation: everything that is decided before it begins, computed from request, source and model.

This module has the base class of the plans of all model families, and functions for frame counts, rates and sizes. The
models generate clips whose number of frames is 8n + 1 (1, 9, 17, ...).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

from longtake.errors import Loc, VideoTooLong
from longtake.media.formats import OutputFormat, OutputType, Quality, WriteMode, output_format
from longtake.video import Span, VideoInfo

FORM = 3
"""The version of a plan's JSON. A stored plan of another version is discarded, and its request is planned again."""

LEAST_RATE, MOST_RATE = Fraction(1), Fraction(60)
"""The lowest and the highest frame rate of an output, in frames per second."""

FREE_REPEATS = 3
"""The plan of a video may always read its source as this many times the number of frames that the file stores, by
repeating frames.

So a source of 24 frames per second can be read at 60. `check_repeats` limits further repeats.
"""

MOST_REPEATED_PIXELS = 10**12
"""Largest number of pixels in the repeated frames that a plan reads; `check_repeats` refuses more. A stored frame that
is shown for long is read several times. Of the frames that are read, 3 times (FREE_REPEATS) the number of stored ones
do not count as repeated.

Example: 2 hours of 1920x1080 at 60 frames per second, made from a few stored frames, have fewer.
"""

MOST_REPEATED_ANIMATION_PIXELS = 10**11
"""Largest number of pixels in the repeated frames that a plan reads if the source is a GIF or WebP file. A stored frame
that is shown for long is read several times; MOST_REPEATED_PIXELS is the limit for other files."""

Size = tuple[int, int]
"""(width, height) in pixels."""


def clip_length(num_frames: int) -> int:
    """Returns the largest number 8n + 1 (n = 0, 1, ...) that is at most `num_frames`, or 0 if there is none."""
    return (num_frames - 1) // 8 * 8 + 1 if num_frames > 0 else 0


def padded_length(num_frames: int) -> int:
    """Returns the smallest number 8n + 1 (n = 0, 1, ...) that is at least `num_frames`, which is 1 or more."""
    return -(-(num_frames - 1) // 8) * 8 + 1


def latent_length(num_frames: int, temporal: int) -> int:
    """Returns the number of latent frames to which the autoencoder compresses a clip of `num_frames` frames.

    The first latent frame represents one frame, and each further one represents `temporal` frames. So
    `num_frames` - 1 must be a multiple of `temporal`.
    """
    return (num_frames - 1) // temporal + 1


def frames_on_clock(num_frames: int, rate: Fraction, clock: Fraction) -> int:
    """Returns how many frames at the rate `clock` last as long as `num_frames` frames at the rate `rate`.

    Both rates are in frames per second. The result is rounded half up and is at least 1.
    """
    return max(1, int(num_frames * clock / rate + Fraction(1, 2)))


def span_on_clock(
    start: int, stop: int, rate: Fraction, clock: Fraction, *, reverse: bool = False, joint_first: bool = False
) -> Span:
    """Returns the same stretch of the source, counted in frames of another rate, `clock`: frames 10 to 20 at 10 frames
    per second are frames 20 to 40 at 20.

    start, stop: numbers of the range's first frame, and of the one after its last, counted at the frame rate `rate`.
    rate, clock: in frames per second. If `clock` is lower than `rate`, the span leaves out frames, but not the joint
        (the frame next to the new frames).
    reverse: True if the span is played from its last frame to its first.
    joint_first: True if the joint is the first frame of the range, False if it is the last one. Numbers are rounded so
        that the joint stays the same picture.
    """
    count = frames_on_clock(stop - start, rate, clock)
    first = int(start * clock / rate) if joint_first else frames_on_clock(stop, rate, clock) - count
    own, shown = (start, first) if joint_first else (stop - 1, first + count - 1)
    shift = (own + Fraction(1, 2)) / rate - (shown + Fraction(1, 2)) / clock if clock < rate else Fraction(0)
    return Span(first, first + count, clock, reverse, shift)


def playable_rate(rate: Fraction) -> Fraction:
    """Returns `rate` (frames per second) limited to 1..60, the frame rates that an output can have."""
    return min(max(rate, LEAST_RATE), MOST_RATE)


def rate_note(own: Fraction, clock: Fraction) -> str | None:
    """Returns a note if a source is read at another rate because its own is outside 1..60 (see `playable_rate`).

    own, clock: the source's own rate and the rate at which it is read, in frames per second.
    """
    has = f"The source has {float(own):g} frames per second"
    if own < LEAST_RATE and clock != own:
        return f"{has}; its frames are repeated at {float(clock):g}."
    if own > MOST_RATE and clock == MOST_RATE:
        return f"{has}; it is read at {MOST_RATE}, the most that a result has."
    return None


def model_canvas(size: Size, short_side: int | None, step: int) -> Size:
    """Returns the size (width, height) in pixels of the frames that a model generates for an output of `size`.

    short_side: length in pixels to which the shorter side of `size` is scaled; the other side is scaled in proportion.
        None means that nothing is scaled or rounded: the result is `size`.
    step: both scaled sides are rounded to multiples of this number of pixels.
    """
    if short_side is None:
        return size
    share = Fraction(short_side, min(size))
    return _nearest(size[0] * share, step), _nearest(size[1] * share, step)


def _nearest(value: Fraction, step: int) -> int:
    return max(int(value / step + Fraction(1, 2)) * step, step)


def shortened_url(url: str) -> str:
    """Returns the URL in a form for people to read: a data URI without its data, any other URL unchanged."""
    stripped = url.lstrip()
    return f"{stripped.partition(',')[0][:100]},..." if stripped[:5].lower() == "data:" else url


@dataclass(frozen=True)
class PlannedAdapter:
    """A LoRA that is applied to make a video, with its strengths.

    source: URL, data URI, hub repository or path of the LoRA. If `own` is True, the name of one of the model's own
        adapters.
    scales: strength of the LoRA in each pass; 1 is its trained strength, 0 switches it off.
    field: path of the request's field that names the LoRA, for error messages.
    weight_name: name of the LoRA's file if `source` is a hub repository; None if the repository has only one LoRA file.
    own: True for an adapter that is installed as a part of the model.
    """

    source: str
    scales: tuple[float, ...]
    field: Loc
    weight_name: str | None = None
    own: bool = False


def adapters_of_passes(adapters: tuple[PlannedAdapter, ...], passes: int) -> tuple[PlannedAdapter, ...]:
    """Returns a request's adapters as a plan with `passes` passes contains them.

    - An adapter has one scale (strength) for each pass. The first `passes` scales are kept. If these are all 0, the
      adapter is left out.
    - Data URIs are shortened, because a plan is stored and shown.
    """
    trimmed = (replace(one, source=shortened_url(one.source), scales=one.scales[:passes]) for one in adapters)
    return tuple(one for one in trimmed if any(one.scales))


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """The options of a request that its plan contains unchanged, for all model families.

    prompt, negative_prompt: what the new frames should show, and what they should not.
    expand_prompt: True if a language model first rewrites the prompt as a detailed scene.
    check_safety: True if the safety checker checks the new frames.
    strength: how closely the output follows the context (the source frames that the model sees), from 0 (they are
        ignored) to 1 (they are shown unchanged).
    end_image_strength: how closely the video arrives at the end image, from 0 (the image is ignored) to 1.
    output: the codec and file type of the output.
    quality: the picture quality of the output.
    write_mode: how the output's encoder trades speed for file size.
    sync_mode: True if the response contains the video as a data URI instead of a URL.
    """

    prompt: str
    negative_prompt: str = ""
    expand_prompt: bool = False
    check_safety: bool = True
    strength: float = 1.0
    end_image_strength: float = 1.0
    output: OutputType = "X264 (.mp4)"
    quality: Quality = "high"
    write_mode: WriteMode = "balanced"
    sync_mode: bool = False

    def values_of(self, options: "type[PlanOptions]") -> dict[str, Any]:
        """Returns field name -> value, for those fields of this object that the class `options` has too.

        `options` is a base class of this object's class.
        """
        return {field.name: getattr(self, field.name) for field in fields(options)}


@dataclass(frozen=True, kw_only=True)
class Plan(PlanOptions, ABC):
    """Everything that is decided about a video before its generation begins, such as sizes, steps and price. The
    families' plans derive from it.

    form: version of the plan's JSON (FORM).
    family, model: names of the model's family and of the model.
    seed: seed of all random numbers.
    width, height: size of the output in pixels.
    rate: playback rate of the output in frames per second.
    context: all frames of the source that are read: the output shows them, the model sees them, or both.
    shown_frames: number of the source's frames that the output shows; 0 if the source only guides the model.
    context_frames: number of the source's frames that the model sees, those nearest to the new frames.
    new_frames: number of generated frames that are added to the shown ones.
    billed_frames: number of frames that the price is computed from.
    adapters: the LoRAs that are applied to the model.
    end_image: URL or path (a data URI without its data) of the picture that the new frames lead to: the last frame of
        the output should show it, or the first frame if `new_first` is True. None if there is no such picture.
    notes: sentences for the user about differences between the request and the plan.
    endpoint, unit, billed_units, price_usd: the endpoint's id, the name of the unit that it bills, the number of billed
        units, and the price of all of them in US dollars. The endpoint sets these fields.
    """

    form: int = FORM
    family: str
    endpoint: str = ""
    model: str
    seed: int
    width: int
    height: int
    rate: Fraction
    context: Span
    shown_frames: int
    context_frames: int
    new_frames: int
    billed_frames: int
    adapters: tuple[PlannedAdapter, ...]
    end_image: str | None = None
    notes: tuple[str, ...] = ()
    unit: str = ""
    billed_units: Fraction = Fraction(0)
    price_usd: Fraction = Fraction(0)

    @property
    def output_format(self) -> OutputFormat:
        """The output format that belongs to `output`, `quality` and `write_mode`."""
        return output_format(self.output, self.quality, self.write_mode)

    @property
    def size(self) -> Size:
        """(width, height) of the output in pixels."""
        return self.width, self.height

    @property
    def num_frames(self) -> int:
        """Number of frames of the output."""
        return self.shown_frames + self.new_frames

    @property
    def duration_s(self) -> float:
        """Length of the output in seconds."""
        return float(self.num_frames / self.rate)

    @property
    def speed(self) -> Fraction:
        """Playback speed of the source's frames in the output: 1 is the source's own speed, 2 is twice as fast."""
        return self.rate / self.context.rate

    @property
    def source_frames(self) -> int:
        """Number of frames of the output that are unchanged frames of the source.

        - If `keeps_source` is True: all source frames that the output shows.
        - Otherwise: only those that the model does not see. Those that it sees are shown as the model decodes them.
        """
        return self.shown_frames if self.keeps_source else max(0, self.shown_frames - self.context_frames)

    @property
    def keeps_source(self) -> bool:
        """True if the output shows the context (the source frames that the model sees) with its own pixels.

        False if the output shows the context as the model decodes it, or not at all.
        """
        return self.strength == 1

    @property
    def context_crf(self) -> int:
        """The constant rate factor at which the context's frames are compressed before the model sees them: 1..51, or 0
        for no compression."""
        return 0

    @property
    def source_last(self) -> bool:
        """True if the model generates the frames before the source's frames (a backward extension)."""
        return False

    @property
    def reversed_at_end(self) -> bool:
        """True if the source is read and continued backwards, and all frames are put into playing order at the end."""
        return False

    @property
    def new_first(self) -> bool:
        """True if the output begins with the new frames: if `source_last` or `reversed_at_end` is True."""
        return self.source_last or self.reversed_at_end

    @property
    def makes_sound(self) -> bool:
        """True if the model generates sound for the new frames."""
        return False

    @property
    def sound_strength(self) -> float:
        """How much of the source's sound the context (the source frames that the model sees) keeps, from 0 to 1.

        - 1: the output has the source's own sound during the context.
        - Below 1: the output has the model's version of that sound. The lower the value, the freer the version is.
        - 0: the model ignores the source's sound.
        """
        return 1.0

    @property
    @abstractmethod
    def num_windows(self) -> int:
        """The number of windows (groups of frames that are sampled together) in which the new frames are generated, one
        after the other."""

    @property
    @abstractmethod
    def num_passes(self) -> int:
        """The number of passes (runs through the sampling steps): 1, or 2 if a second pass adds detail."""

    @property
    @abstractmethod
    def evaluations(self) -> int:
        """The number of times that the transformer runs to make the video."""


def check_repeats(plan: Plan, source: VideoInfo) -> None:
    """Raises VideoTooLong if the plan reads far more frames than its source stores, by repeating stored frames.

    A file of a few kilobytes can store a few large frames that are each shown for minutes, and so cause hours of work.
    See FREE_REPEATS and MOST_REPEATED_PIXELS for the limit.
    """
    stored = source.num_frames if source.stored_frames is None else source.stored_frames
    is_animation = source.container in ("gif", "webp")
    pixels = max(source.width * source.height, plan.width * plan.height)
    most = FREE_REPEATS * stored + (MOST_REPEATED_ANIMATION_PIXELS if is_animation else MOST_REPEATED_PIXELS) // pixels
    if len(plan.context) > most:
        raise VideoTooLong(
            f"The video stores {stored} frames of {source.width} x {source.height} pixels, and at "
            f"{float(plan.context.rate):g} frames per second they become {len(plan.context)} frames; at most "
            f"{most} are possible. A shorter or smaller video, or a lower frame rate, has fewer.",
            ctx={"max_frames": most, "provided_frames": len(plan.context)},
        )


def unseen_source_note(plan: Plan, field: str) -> str:
    """Returns a note for the user: the model sees nothing of the source, because a strength in the request is 0.

    plan: the plan that gets the note.
    field: the name of the request's field that holds this strength.
    """
    made = plan.num_frames - plan.source_frames
    cut = ", after a cut" if plan.source_frames else ""
    frames = "1 frame" if made == 1 else f"{made} frames"
    return f"{field} is 0: the model sees nothing of the source and makes {frames} of its own{cut}."
