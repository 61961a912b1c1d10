"""The plan of a request: a pure function of what is asked and what the source is. Everything after it only obeys.

All arithmetic of frames (8k+1), sizes (multiples of 32), rates and windows is here and nowhere else.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pydantic import TypeAdapter

from longtake.clip import Source, Span
from longtake.errors import InvalidRequest
from longtake.profiles import Guidance, ModelFacts

NATIVE_SIZE_STEP = 32
"""Published 0.9.x models work on sides that are multiples of this."""

FIRST_PASS_SHARE = Fraction("0.6666666")
"""A two-scale flow's first pass works at this share of the size, the second at twice the first. As published: a hair
less than two thirds, so that 192 becomes 96, not 128."""

MOST_RATE = Fraction(60)
"""The fastest that an output plays."""

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
    """How many frames of `clock` a video of `num_frames` at `rate` lasts, at least one; halves round up."""
    return max(1, int(num_frames * clock / rate + Fraction(1, 2)))


def output_size(resolution: str, aspect: Fraction) -> Size:
    """(width, height) with the resolution's lines on the short side, floored to multiples of 32 (720p: 1280x704)."""
    short = int(resolution.removesuffix("p"))
    width, height = (short * aspect, Fraction(short)) if aspect >= 1 else (Fraction(short), short / aspect)
    return _floor(width, NATIVE_SIZE_STEP), _floor(height, NATIVE_SIZE_STEP)


def model_canvas(size: Size, short_side: int | None, step: int) -> Size:
    """The canvas a model works on: the size itself, or its aspect at the model's own short side, in steps of `step`."""
    if short_side is None:
        return size
    share = Fraction(short_side, min(size))
    return _nearest(size[0] * share, step), _nearest(size[1] * share, step)


def first_pass_canvas(size: Size, step: int) -> Size:
    """The first of two scales: two thirds of the size, floored to the step."""
    return _floor(size[0] * FIRST_PASS_SHARE, step), _floor(size[1] * FIRST_PASS_SHARE, step)


def _floor(value: Fraction, step: int) -> int:
    return max(int(value) // step * step, step)


def _nearest(value: Fraction, step: int) -> int:
    return max(int(value / step + Fraction(1, 2)) * step, step)


@dataclass(frozen=True)
class Window:
    """Latent frames [start, stop) of a take, sampled at once."""

    start: int
    stop: int


def windows(total: int, tile: int, overlap: int) -> tuple[Window, ...]:
    """Windows of `tile` latent frames, each starting `overlap` before the last one's end, until `total` is covered.

    Source: the chunk ranges of ComfyUI-LTXVideo's looping sampler.
    """
    starts = range(0, max(total - overlap, 1), tile - overlap)
    return tuple(Window(start, min(start + tile, total)) for start in starts)


@dataclass(frozen=True)
class Pass:
    """One scale of sampling: canvas (width, height), the schedule's length and what is cut off it, and guidance."""

    canvas: Size
    steps: int
    skip_initial: int
    skip_final: int
    guidance: Guidance


@dataclass(frozen=True)
class LoRA:
    """A LoRA to be applied: where it is, how strongly, and which file of a repository."""

    path: str
    scale: float
    weight_name: str | None


@dataclass(frozen=True)
class Plan:
    """What will be done, decided.

    `context` are the frames of the source that are read. The output shows `shown_frames` of them (none where they are
    guidance only), then `new_frames` made ones. The model sees the last `context_frames` of them and makes
    `take_frames` (8k+1, context included) in `windows` of latent frames; what is beyond the asked number is cut off.
    """

    endpoint: str
    model: str
    prompt: str
    negative_prompt: str
    expand_prompt: bool
    check_safety: bool
    seed: int
    width: int
    height: int
    rate: Fraction
    context: Span
    shown_frames: int
    context_frames: int
    new_frames: int
    take_frames: int
    guide: str
    preprocess: bool
    strength: float
    windows: tuple[Window, ...]
    overlap_latents: int
    overlap_strength: float
    passes: tuple[Pass, ...]
    loras: tuple[LoRA, ...]
    temporal_adain_factor: float
    tone_map_compression_ratio: float
    constant_rate_factor: int
    reverse: bool
    price_usd: Fraction

    @property
    def num_frames(self) -> int:
        """Frames of the output."""
        return self.shown_frames + self.new_frames

    @property
    def duration_s(self) -> float:
        return float(self.num_frames / self.rate)

    @property
    def speed(self) -> Fraction:
        """How many times faster than in the source the picture plays."""
        return self.rate / self.context.rate

    @property
    def kept_frames(self) -> int:
        """How many of the source's own frames the output begins with."""
        return self.shown_frames if self.keeps_source else max(0, self.shown_frames - self.context_frames)

    @property
    def keeps_source(self) -> bool:
        """Whether the context's own pixels are shown, rather than the model's rendition of them."""
        return self.strength == 1 and self.guide == "rgb"


_JSON = TypeAdapter(Plan)


def to_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain JSON values; rates are written as fractions."""
    document = _JSON.dump_python(plan, mode="json")
    assert isinstance(document, dict)
    return document


def from_json(document: dict[str, Any]) -> Plan:
    """The plan that `to_json` wrote."""
    return _JSON.validate_python(document)


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
