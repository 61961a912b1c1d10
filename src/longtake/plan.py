"""The plan of a request: a pure function of what is asked and what the source is. Everything after it only obeys.

All arithmetic of frames (8k+1), sizes (multiples of 32), rates and windows is here and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from longtake.clip import Span
from longtake.media.formats import OutputType, Quality, WriteMode
from longtake.profiles import Guidance, linear_quadratic

MOST_RATE = Fraction(60)
"""The fastest that an output plays."""

Size = tuple[int, int]
Direction = Literal["forward", "backward"]
Scheduler = Literal["ltx2", "linear_quadratic", "beta"]
Acceleration = Literal["none", "regular", "high", "full"]

SECOND_SCALE_STEPS = 3
"""Steps of LTX-2's second scale, each one evaluation."""


CACHE_INTERVALS: Mapping[Acceleration, int] = {"none": 1, "regular": 2, "high": 3, "full": 4}


def asks_model(step: int, steps: int, acceleration: Acceleration) -> bool:
    """Whether step `step` of `steps` evaluates the model, rather than carrying on what earlier steps predicted: the
    first two, every so many from there by the level, and the last."""
    return step < 2 or (step - 1) % CACHE_INTERVALS[acceleration] == 0 or step == steps - 1


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


def model_canvas(size: Size, short_side: int | None, step: int) -> Size:
    """The canvas a model works on: the size itself, or its aspect at the model's own short side, in steps of `step`."""
    if short_side is None:
        return size
    share = Fraction(short_side, min(size))
    return _nearest(size[0] * share, step), _nearest(size[1] * share, step)


def _nearest(value: Fraction, step: int) -> int:
    return max(int(value / step + Fraction(1, 2)) * step, step)


@dataclass(frozen=True)
class Window:
    """Latent frames [start, stop) of a take, sampled at once."""

    start: int
    stop: int


@dataclass(frozen=True)
class Pass:
    """One scale of sampling: canvas (width, height), the schedule's length and what is cut off it, and guidance.
    `acceleration`: which of its steps are carried on without the model."""

    canvas: Size
    steps: int
    skip_initial: int
    skip_final: int
    guidance: Guidance
    acceleration: Acceleration = "none"

    @property
    def evaluations(self) -> int:
        """How often the model is evaluated over a window."""
        levels = linear_quadratic(self.steps)[self.skip_initial : self.steps - self.skip_final]
        asked = (t for step, t in enumerate(levels) if asks_model(step, len(levels), self.acceleration))
        return sum(self.guidance.evaluations(t) for t in asked)


@dataclass(frozen=True)
class LoRA:
    """A LoRA to be applied: where it is, how strongly, and which file of a repository."""

    path: str
    scale: float
    weight_name: str | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be done, decided: what every family's plan says.

    `context` are the frames of the source that are read. The output shows `shown_frames` of them (none where they are
    guidance only) and `new_frames` made ones. The model sees the `context_frames` of them that are next to the joint,
    and holds them with `strength`.
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
    strength: float
    loras: tuple[LoRA, ...]
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
        """How many of the source's own frames are in the output: those farthest from the joint, or all."""
        return self.shown_frames if self.keeps_source else max(0, self.shown_frames - self.context_frames)

    @property
    def keeps_source(self) -> bool:
        """Whether the context's own pixels are shown, rather than the model's rendition of them."""
        return self.strength == 1

    @property
    def new_first(self) -> bool:
        """Whether the output begins with the new frames."""
        return False


@dataclass(frozen=True, kw_only=True)
class LTXVPlan(Plan):
    """A take of LTX-Video 0.9.x: `take_frames` (8k+1, context included) made in `windows` of latent frames, each in
    `passes`; what is beyond the asked number is cut off. The context comes first."""

    family: Literal["ltxv"] = "ltxv"
    take_frames: int
    windows: tuple[Window, ...]
    guide: str
    preprocess: bool
    overlap_latents: int
    overlap_strength: float
    passes: tuple[Pass, ...]
    temporal_adain_factor: float
    tone_map_compression_ratio: float
    constant_rate_factor: int
    reverse: bool

    @property
    def num_passes(self) -> int:
        """Passes over each window."""
        return len(self.passes)

    @property
    def evaluations(self) -> int:
        """How often the model is evaluated in all."""
        return len(self.windows) * sum(pass_.evaluations for pass_ in self.passes)

    @property
    def keeps_source(self) -> bool:
        return self.strength == 1 and self.guide == "rgb"

    @property
    def new_first(self) -> bool:
        return self.reverse


@dataclass(frozen=True)
class Modality:
    """Guidance of the picture or of the sound, in x0: `cfg` (1 = off), `stg` (0 = off), `modality` (1 = off: how much
    it follows the other one), and `rescale` of the spread to the conditional prediction's (0 = off).

    Source: the multi-modal guidance of LTX-2.
    """

    cfg: float
    stg: float
    modality: float
    rescale: float


@dataclass(frozen=True)
class Extension:
    """One window of an extension, in frames of the plan's rate: `context_frames` given, `new_frames` wanted of it, and
    `take_frames` sampled in all.

    Forward the context is 8k+1 at the window's front, and the take 8k+1. Backward it is 8j at the window's end, behind
    8m+1 new ones, so that it fills whole latents; the wanted ones are the last of those.
    """

    context_frames: int
    new_frames: int
    take_frames: int


@dataclass(frozen=True)
class Scale:
    """One pass over a window: canvas (width, height) and the strength of the distill adapter (0 = off)."""

    canvas: Size
    distill: float


@dataclass(frozen=True, kw_only=True)
class LTX2Plan(Plan):
    """Extensions of LTX-2.3, picture and sound, one after the other: each continues what is there by then.

    `rate` is the context's too. `scales`: one, or two, the second with twice the canvas. `gamma` (gradient estimation)
    and `eta` (ancestral renoise) are off at 0. `strength` holds the context's picture, `audio_strength` its sound.
    `sound`: whether any is made. The end image lies at the far end of what is made.
    """

    family: Literal["ltx2"] = "ltx2"
    direction: Direction
    extensions: tuple[Extension, ...]
    scales: tuple[Scale, ...]
    scheduler: Scheduler
    steps: int
    video: Modality
    audio: Modality
    stg_blocks: tuple[int, ...]
    gamma: float
    eta: float
    acceleration: Acceleration
    sound: bool
    audio_strength: float
    end_image: str | None
    end_image_strength: float
    camera: str | None
    camera_scale: float
    output: OutputType
    quality: Quality
    write_mode: WriteMode
    sync_mode: bool

    @property
    def num_passes(self) -> int:
        """Passes over each window."""
        return len(self.scales)

    @property
    def predictions(self) -> tuple[str, ...]:
        """What is predicted at each step of the first scale: for the prompt, and what the guidance of the picture or
        of the sound compares that with. Without sound there is no other modality to isolate."""
        told = (self.video, self.audio) if self.sound else (self.video,)
        compared = {
            "negative": any(one.cfg != 1 for one in told),
            "disturbed": any(one.stg != 0 for one in told),
            "isolated": self.sound and any(one.modality != 1 for one in told),
        }
        return ("prompt", *(name for name, needed in compared.items() if needed))

    @property
    def evaluations(self) -> int:
        """How often the model is evaluated in all."""
        asked = sum(asks_model(step, self.steps, self.acceleration) for step in range(self.steps))
        second = SECOND_SCALE_STEPS * (len(self.scales) - 1)
        return len(self.extensions) * (asked * len(self.predictions) + second)

    @property
    def new_first(self) -> bool:
        return self.direction == "backward"


AnyPlan = LTXVPlan | LTX2Plan

_JSON: TypeAdapter[AnyPlan] = TypeAdapter(Annotated[AnyPlan, Field(discriminator="family")])


def to_json(plan: AnyPlan) -> dict[str, Any]:
    """The plan as plain JSON values; rates are written as fractions."""
    document = _JSON.dump_python(plan, mode="json")
    assert isinstance(document, dict)
    return document


def from_json(document: dict[str, Any]) -> AnyPlan:
    """The plan that `to_json` wrote."""
    return _JSON.validate_python(document)
