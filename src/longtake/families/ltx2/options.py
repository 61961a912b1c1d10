"""The options of LTX-2.3: what an endpoint's request asks for."""

from dataclasses import dataclass
from typing import Literal

from longtake.families.family import Options
from longtake.plans import Size
from longtake.sampling.levels import Scheduler

Direction = Literal["forward", "backward"]

DEFAULT_CONTEXT = 25
"""Frames that a window continues where nothing says how many."""


@dataclass(frozen=True)
class Modality:
    """Guidance of the picture or of the sound, in x0: `cfg` (1 = off), `stg` (0 = off), `modality` (1 = off: how much
    it follows the other one), and `rescale` of the spread to the conditional prediction's (0 = off).

    Source: the multi-modal guidance of LTX-2.
    """

    cfg: float = 1.0
    stg: float = 0.0
    modality: float = 1.0
    rescale: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LTX2Options(Options):
    """What a request asks of LTX-2.3.

    `num_frames` counts the context and the new frames. `context_frames`: how many of the source's frames are continued;
    `context_field` is the field that asked for them, None where none did. `size`: (width, height), None the source's.
    `frame_rate`: None is the source's own. `multiscale`: two passes. `renoise`: the share of noise that each step takes
    away further and puts back. `video_strength` and `audio_strength` hold the context's picture and sound, 0..1.
    """

    direction: Direction = "forward"
    context_frames: int = DEFAULT_CONTEXT
    context_field: str | None = None
    size: Size | None = None
    frame_rate: float | None = None
    sound: bool = True
    multiscale: bool = True
    steps: int = 15
    scheduler: Scheduler = "beta"
    video: Modality
    audio: Modality
    gamma: float = 0.0
    renoise: float = 0.0
    video_strength: float = 1.0
    audio_strength: float = 1.0
