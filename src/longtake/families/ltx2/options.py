"""The options of LTX-2.3, onto which endpoints map their requests."""

from dataclasses import dataclass
from typing import Literal

from longtake.families.family import Options
from longtake.plans import PlanOptions, Size
from longtake.sampling.levels import Scheduler

Direction = Literal["forward", "backward"]
"""Whether the new frames come after the source or before it."""

DEFAULT_CONTEXT = 25
"""The number of context frames if no option says another."""


@dataclass(frozen=True)
class GuidanceScales:
    """The guidance of one modality, video or audio, applied to the clean prediction.

    `cfg`: away from the negative prompt (1 = off). `stg`: away from a prediction with disturbed self-attention (0 =
    off). `modality`: towards following the other modality (1 = off). `rescale`: how far the guided prediction's
    standard deviation is brought back to the conditional one's, 0 (off) to 1. Source: LTX-2's multi-modal guidance.
    """

    cfg: float = 1.0
    stg: float = 0.0
    modality: float = 1.0
    rescale: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LTX2PlanOptions(PlanOptions):
    """The options of LTX-2.3 that a plan copies unchanged.

    `sound`: generate sound for the new frames. `audio_strength`: how strongly the context's sound is held, 0..1.
    `gamma` is that of gradient estimation (0 = off). `eta` (0 = off) is the share by which each step overshoots its
    noise level before fresh noise brings it back.
    """

    direction: Direction = "forward"
    sound: bool = True
    audio_strength: float = 1.0
    steps: int = 15
    scheduler: Scheduler = "beta"
    gamma: float = 0.0
    eta: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LTX2Options(LTX2PlanOptions, Options):
    """The options of LTX-2.3.

    `num_frames` counts context and new frames. `context_frames`: how many source frames are continued, raised to whole
    latents, or with `context_rounds_down` cut to them; `context_field`: the request's field that said so, None if no
    field did. `size`: (width, height) of the output, None for the source's. `frame_rate`: the output's in frames per
    second, None for the source's. `multiscale`: two passes. `video`, `audio`: the guidance of each modality.
    """

    context_frames: int = DEFAULT_CONTEXT
    context_field: str | None = None
    context_rounds_down: bool = False
    size: Size | None = None
    frame_rate: float | None = None
    multiscale: bool = True
    video: GuidanceScales
    audio: GuidanceScales
