"""The options of LTX-2.3, onto which endpoints map their requests."""

from dataclasses import dataclass
from typing import Literal

from longtake.families.family import Options
from longtake.plans import Choices, Size
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
class LTX2Choices(Choices):
    """The options of LTX-2.3 that a plan takes over unchanged.

    `sound`: whether any is made. `audio_strength` holds the context's sound, 0..1. `gamma` (gradient estimation) and
    `eta` (the share of noise that each step takes away further and puts back) are off at 0.
    """

    direction: Direction = "forward"
    sound: bool = True
    audio_strength: float = 1.0
    steps: int = 15
    scheduler: Scheduler = "beta"
    gamma: float = 0.0
    eta: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LTX2Options(LTX2Choices, Options):
    """The options of LTX-2.3.

    `num_frames` counts the context and the new frames. `context_frames`: how many of the source's frames are continued;
    `context_field` is the field that asked for them, None where none did; `context_rounds_down`: to whole latents they
    are cut instead of raised. `size`: (width, height), None the source's.
    `frame_rate`: None is the source's own. `multiscale`: two passes. `video`, `audio`: the guidance of each modality.
    """

    context_frames: int = DEFAULT_CONTEXT
    context_field: str | None = None
    context_rounds_down: bool = False
    size: Size | None = None
    frame_rate: float | None = None
    multiscale: bool = True
    video: Modality
    audio: Modality
