"""The plan of a generation: a pure function of the request, the source's facts and the model. Later code only obeys it.

This module has what the plans of all families share, and the arithmetic of frame counts (8k+1) and sizes.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

from longtake.errors import Loc
from longtake.media.formats import OutputFormat, OutputType, Quality, WriteMode, output_format
from longtake.video import Span

FORM = 3
"""The version of a plan's JSON. A stored plan of another version is not carried out; its request is planned anew."""

LEAST_RATE, MOST_RATE = Fraction(1), Fraction(60)
"""The slowest and the fastest playback rate of an output, in frames per second."""

Size = tuple[int, int]
"""(width, height) in pixels."""


def clip_length(num_frames: int) -> int:
    """Returns the largest 8k+1 up to `num_frames`, or 0 for none."""
    return (num_frames - 1) // 8 * 8 + 1 if num_frames > 0 else 0


def padded_length(num_frames: int) -> int:
    """Returns the smallest 8k+1 from `num_frames` on."""
    return -(-(num_frames - 1) // 8) * 8 + 1


def latent_length(num_frames: int, temporal: int) -> int:
    """Returns the number of latent frames of a clip of `num_frames` (k * temporal + 1): the first covers one frame, the
    others `temporal`."""
    return (num_frames - 1) // temporal + 1


def frames_on_clock(num_frames: int, rate: Fraction, clock: Fraction) -> int:
    """Returns how many frames at rate `clock` last as long as `num_frames` at `rate`: at least one, rounded half up."""
    return max(1, int(num_frames * clock / rate + Fraction(1, 2)))


def playable_rate(rate: Fraction) -> Fraction:
    """Returns the rate in frames per second, limited to what an output can play at."""
    return min(max(rate, LEAST_RATE), MOST_RATE)


def model_canvas(size: Size, short_side: int | None, step: int) -> Size:
    """Returns the canvas that a model works on: the size itself, or if the model has its own `short_side`, the size
    scaled to that and rounded to multiples of `step`."""
    if short_side is None:
        return size
    share = Fraction(short_side, min(size))
    return _nearest(size[0] * share, step), _nearest(size[1] * share, step)


def _nearest(value: Fraction, step: int) -> int:
    return max(int(value / step + Fraction(1, 2)) * step, step)


def shortened_url(url: str) -> str:
    """Returns the address for people to read: a data URI without its data, any other unchanged."""
    return f"{url.partition(',')[0][:100]},..." if url[:5].lower() == "data:" else url


@dataclass(frozen=True)
class PlannedAdapter:
    """A LoRA that is applied while a plan is carried out.

    `source`: a URL, hub repository or path; if `own`, the name of one of the model's own adapters. `weight_name` picks
    the file of a repository; None if there is only one. `scales`: its strength in each pass. `field`: the path of the
    request's field that named it, for errors.
    """

    source: str
    scales: tuple[float, ...]
    field: Loc
    weight_name: str | None = None
    own: bool = False


def adapters_of_passes(adapters: tuple[PlannedAdapter, ...], passes: int) -> tuple[PlannedAdapter, ...]:
    """Returns the adapters with one scale for each of `passes` passes, without those whose scales are all 0."""
    trimmed = (PlannedAdapter(one.source, one.scales[:passes], one.field, one.weight_name, one.own) for one in adapters)
    return tuple(one for one in trimmed if any(one.scales))


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """The options of all families that a plan copies unchanged.

    `strength`: how strongly the context's frames are held, 0 (ignored) to 1 (shown unchanged); `end_image_strength`:
    how strongly the end image is held, 0..1. `sync_mode`: the response contains the video as a data URI.
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
        """Returns this object's values of the fields of `options`, one of its base classes."""
        return {field.name: getattr(self, field.name) for field in fields(options)}


@dataclass(frozen=True, kw_only=True)
class Plan(PlanOptions, ABC):
    """Everything that is decided before a generation begins; the base of the families' plans.

    `context`: the frames of the source that are read. The output shows `shown_frames` of them (0 if they only guide)
    and `new_frames` generated ones, at `rate` frames per second. The model sees the `context_frames` nearest to the
    joint. `billed_frames`: the frames that the request counts. `end_image`: the address of the image to arrive at, or
    None. `notes`: sentences for the user on what differs from the request. The endpoint adds its id as `endpoint`, and
    the price: `billed_units` of `unit` cost `price_usd` in all.
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
        """The settings of the encoder."""
        return output_format(self.output, self.quality, self.write_mode)

    @property
    def size(self) -> Size:
        """(width, height) of the output in pixels."""
        return self.width, self.height

    @property
    def num_frames(self) -> int:
        """Frames of the output."""
        return self.shown_frames + self.new_frames

    @property
    def duration_s(self) -> float:
        """Seconds that the output lasts."""
        return float(self.num_frames / self.rate)

    @property
    def speed(self) -> Fraction:
        """The playback speed of the source's frames, as a multiple of their own."""
        return self.rate / self.context.rate

    @property
    def source_frames(self) -> int:
        """Frames of the output whose pixels are the source's own: all shown ones, or below strength 1 those that the
        model does not see."""
        return self.shown_frames if self.keeps_source else max(0, self.shown_frames - self.context_frames)

    @property
    def keeps_source(self) -> bool:
        """True if the context is shown with its own pixels, False if with the model's rendition of them."""
        return self.strength == 1

    @property
    def source_last(self) -> bool:
        """True if the new frames are generated to play before the source's."""
        return False

    @property
    def reversed_at_end(self) -> bool:
        """True if the finished video is played backwards."""
        return False

    @property
    def new_first(self) -> bool:
        """True if the output begins with the new frames."""
        return self.source_last or self.reversed_at_end

    @property
    def makes_sound(self) -> bool:
        """True if the model generates sound for the new frames."""
        return False

    @property
    def sound_strength(self) -> float:
        """How strongly the context's sound is held, 0..1; below 1 the model's rendition of it is heard instead."""
        return 1.0

    @property
    @abstractmethod
    def num_windows(self) -> int:
        """The number of windows, which are sampled one after the other."""

    @property
    @abstractmethod
    def num_passes(self) -> int:
        """The number of passes over each window: 1 or 2."""

    @property
    @abstractmethod
    def evaluations(self) -> int:
        """The number of model evaluations in all windows and passes."""
