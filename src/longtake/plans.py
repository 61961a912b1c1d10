"""The plan of a request: a pure function of the request, the source's facts and the model. The rest only obeys it.

This file holds what the plans of all families say, and the arithmetic of frames (8k+1) and sizes that they share.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

from longtake.errors import Loc
from longtake.media.formats import OutputFormat, OutputType, Quality, WriteMode, output_format
from longtake.video import Span

FORM = 2
"""The form of a plan's JSON. A plan of another form is not carried out: its request is planned anew."""

LEAST_RATE, MOST_RATE = Fraction(1), Fraction(60)
"""The slowest and the fastest that an output plays, in frames per second."""

Size = tuple[int, int]


def clip_length(num_frames: int) -> int:
    """The longest 8k+1 that is not above `num_frames` (0 for none)."""
    return (num_frames - 1) // 8 * 8 + 1 if num_frames > 0 else 0


def padded_length(num_frames: int) -> int:
    """The shortest 8k+1 that is not below `num_frames`."""
    return -(-(num_frames - 1) // 8) * 8 + 1


def latent_length(num_frames: int, temporal: int) -> int:
    """Latent frames of a clip of `num_frames` (k * temporal + 1): the first holds one frame, the others `temporal`."""
    return (num_frames - 1) // temporal + 1


def frames_on_clock(num_frames: int, rate: Fraction, clock: Fraction) -> int:
    """The number of frames of `clock` that a video of `num_frames` at `rate` lasts, at least one; halves round up."""
    return max(1, int(num_frames * clock / rate + Fraction(1, 2)))


def playable(rate: Fraction) -> Fraction:
    """The rate, or the nearest that an output can play at."""
    return min(max(rate, LEAST_RATE), MOST_RATE)


def model_canvas(size: Size, short_side: int | None, step: int) -> Size:
    """The canvas a model works on: the size itself, or its aspect at the model's own short side, in steps of `step`."""
    if short_side is None:
        return size
    share = Fraction(short_side, min(size))
    return _nearest(size[0] * share, step), _nearest(size[1] * share, step)


def _nearest(value: Fraction, step: int) -> int:
    return max(int(value / step + Fraction(1, 2)) * step, step)


def brief(url: str) -> str:
    """The address as people read it: of a data URI its kind, without the data."""
    return f"{url.partition(',')[0][:100]},..." if url[:5].lower() == "data:" else url


@dataclass(frozen=True)
class PlannedAdapter:
    """A LoRA that is applied while a plan is carried out.

    `source`: a URL, hub repository or path; with `own`, the name of one of the model's own adapters. `weight_name`
    picks the file of a repository. `scales`: its strength in each pass. `field`: the path of the request's field that
    asked for it, which errors name.
    """

    source: str
    scales: tuple[float, ...]
    field: Loc
    weight_name: str | None = None
    own: bool = False


def adapters_of_passes(adapters: tuple[PlannedAdapter, ...], passes: int) -> tuple[PlannedAdapter, ...]:
    """The adapters with one scale for each of so many passes; one whose scales are all 0 is left out."""
    trimmed = (PlannedAdapter(one.source, one.scales[:passes], one.field, one.weight_name, one.own) for one in adapters)
    return tuple(one for one in trimmed if any(one.scales))


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The options of all families that a plan takes over unchanged.

    `strength`: how strongly the context's picture is held, 0..1; `end_image_strength`: the same for the end image.
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

    def chosen(self, kind: "type[Choices]") -> dict[str, Any]:
        """The values of the fields of `kind`, a class of choices that this object has."""
        return {field.name: getattr(self, field.name) for field in fields(kind)}


@dataclass(frozen=True, kw_only=True)
class Plan(Choices, ABC):
    """A plan: everything that is decided before the work begins. This class has what the plans of all families share.

    `context` are the frames of the source that are read. The output shows `shown_frames` of them (none where they are
    guidance only) and `new_frames` made ones. The model sees the `context_frames` of them that are next to the joint.
    `billed_frames`: the frames that the request counts. `end_image`: the address of the picture to arrive at, or None.
    `notes`: sentences for the user on what differs from the request. The endpoint adds its id and the price:
    `billed_units` of `unit`.
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
        """(width, height) of the output."""
        return self.width, self.height

    @property
    def num_frames(self) -> int:
        """Frames of the output."""
        return self.shown_frames + self.new_frames

    @property
    def duration_s(self) -> float:
        return float(self.num_frames / self.rate)

    @property
    def speed(self) -> Fraction:
        """The speed of the picture, as a multiple of the source's."""
        return self.rate / self.context.rate

    @property
    def kept_frames(self) -> int:
        """The number of the source's own frames in the output: those farthest from the joint, or all."""
        return self.shown_frames if self.keeps_source else max(0, self.shown_frames - self.context_frames)

    @property
    def keeps_source(self) -> bool:
        """True if the context's own pixels are shown, rather than the model's rendition of them."""
        return self.strength == 1

    @property
    def source_last(self) -> bool:
        """True if the new frames are made before the source's, in playing order."""
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
        """True if the model makes sound for the new frames."""
        return False

    @property
    def sound_strength(self) -> float:
        """The strength with which the context's sound is held, 0..1; below 1 the model's rendition of it is heard."""
        return 1.0

    @property
    @abstractmethod
    def num_windows(self) -> int:
        """Windows that are sampled one after the other."""

    @property
    @abstractmethod
    def num_passes(self) -> int:
        """Passes over each window."""

    @property
    @abstractmethod
    def evaluations(self) -> int:
        """The number of model evaluations in all."""
