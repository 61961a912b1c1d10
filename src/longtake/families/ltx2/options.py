"""The options of a request to LTX-2.3. An endpoint makes them from the fields of its request."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from longtake.families.family import Options
from longtake.plans import PlanOptions, Size
from longtake.sampling.levels import Scheduler

Direction = Literal["forward", "backward"]
"""Whether the new frames come after the source (forward) or before it (backward)."""

DEFAULT_CONTEXT = 25
"""The number of context frames if the request does not set it."""


@dataclass(frozen=True)
class GuidanceScales:
    """The guidance scales of one modality, video or audio. Guidance changes the model's prediction of the clean tokens.

    `cfg`: classifier-free guidance: moves the prediction away from the one for the negative prompt; 1 is off.
    `stg`: spatio-temporal guidance: moves the prediction away from one with self-attention switched off in some blocks;
        0 is off.
    `modality`: moves the prediction away from one that ignores the other modality; 1 is off.
    `rescale`: how far the standard deviation of the guided prediction is brought back to that of the unguided one, 0
        (off) to 1.

    Source: LTX-2's multi-modal guidance.
    """

    cfg: float = 1.0
    stg: float = 0.0
    modality: float = 1.0
    rescale: float = 0.0


def needed_predictions(scales: Sequence[GuidanceScales]) -> tuple[str, ...]:
    """Returns the names of the predictions that guidance combines in each step. `scales` are those of each modality
    that is sampled: of video and audio, or of video alone.

    - `prompt`: for the prompt. It is always needed.
    - `negative`: for the negative prompt. It is needed if `cfg` is on for a modality.
    - `disturbed`: with self-attention switched off in some blocks. It is needed if `stg` is on for a modality.
    - `isolated`: without attention between video and audio. It is needed if there are both, and `modality` is on for
      one of them.
    """
    compared = {
        "negative": any(each.cfg != 1 for each in scales),
        "disturbed": any(each.stg != 0 for each in scales),
        "isolated": len(scales) > 1 and any(each.modality != 1 for each in scales),
    }
    return ("prompt", *(name for name, is_needed in compared.items() if is_needed))


@dataclass(frozen=True, kw_only=True)
class LTX2PlanOptions(PlanOptions):
    """The options of a request to LTX-2.3 that the plan of its video has unchanged.

    `direction`: `forward` if the new frames come after the source, `backward` if they come before it.
    `sound`: True if the model generates sound for the new frames.
    `audio_strength`: how strongly the sound of the context (the source frames that are continued) is kept, 0 (ignored)
        to 1 (unchanged).
    `steps`: the number of steps of the first pass.
    `scheduler`: the schedule of the first pass's noise levels.
    `gamma`: how much each step's velocity is changed by that of the step before (gradient estimation), 0 (off) to 10;
        see `sampler.Sampler`.
    `eta`: how much noise each step replaces with fresh noise, 0 (none) to 1; see `sampler.Sampler`.
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
    """The options of LTX-2.3. `num_frames` counts the context frames and the new frames together.

    `context_frames`: the number of source frames that are continued, before it is rounded to whole latents.
    `context_rounds_down`: True if `context_frames` is rounded down, False if it is rounded up.
    `context_field`: the name of the request's field that sets `context_frames`; None if the request does not set it.
    `size`: (width, height) of the output in pixels; None for the source's size.
    `frame_rate`: the output's rate in frames per second; None for the source's rate.
    `multiscale`: True for two passes, the second at twice the width and height of the first; False for one pass.
    `video`, `audio`: the guidance scales of each modality.
    """

    context_frames: int = DEFAULT_CONTEXT
    context_field: str | None = None
    context_rounds_down: bool = False
    size: Size | None = None
    frame_rate: float | None = None
    multiscale: bool = True
    video: GuidanceScales
    audio: GuidanceScales
