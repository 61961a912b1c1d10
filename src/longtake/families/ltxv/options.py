"""The options of a request to LTX-Video 0.9.x. An endpoint makes them from the fields of its request."""

from dataclasses import dataclass
from typing import Literal

from longtake.families.family import Options
from longtake.plans import PlanOptions

ConditioningType = Literal["rgb", "depth", "pose", "canny"]
"""The use of the source's frames. "rgb": the new video continues them. "depth", "pose" and "canny" (edges): they
are depth maps, poses or edges, and guide a new video."""


@dataclass(frozen=True)
class PassOptions:
    """The schedule of one pass: `steps` noise levels, of which the first `skip_initial` and the last `skip_final` are
    left out."""

    steps: int
    skip_initial: int = 0
    skip_final: int = 0


@dataclass(frozen=True, kw_only=True)
class LTXVPlanOptions(PlanOptions):
    """The options of a request to LTX-Video 0.9.x that the plan of its video has unchanged.

    `guide`: what the source is used for. With `rgb`, the output shows the source and continues it. With `depth`, `pose`
        or `canny` (edges), the source is a guide: the output is a new video that follows it and does not show it.
    `preprocess`: True if the guide must be computed from the source's frames, False if the source is already a guide.
    `temporal_adain_factor`: how far each later window takes on the first window's colours, 0 (not) to 1 (fully).
    `tone_map_compression_ratio`: how far the range of the latents' values is compressed, 0 (not) to 1.
    `constant_rate_factor`: the H.264 compression of the source frames before the model sees them, 0 (none) to 51.
    `reverse`: True if the output has the frames of the finished video in reverse order, and its sound reversed.
    """

    guide: ConditioningType = "rgb"
    preprocess: bool = False
    temporal_adain_factor: float = 0.5
    tone_map_compression_ratio: float = 0.0
    constant_rate_factor: int = 29
    reverse: bool = False


@dataclass(frozen=True, kw_only=True)
class LTXVOptions(LTXVPlanOptions, Options):
    """The options of a request to LTX-Video 0.9.x. An endpoint makes them from the fields of its request.

    The inherited option `num_frames` counts source frames and new frames together. If the source is only a guide (the
    output follows it, but does not show it), `num_frames` counts new frames.

    `resolution`: the short side of the output in pixels, such as `720p`.
    `aspect_ratio`: the aspect ratio of the output, such as `16:9`; `auto` for that of the source.
    `frame_rate`: the output's rate in frames per second; None for the rate at which the source is read.
    `start_frame`: the number (from 0) of the first source frame that is used.
    `max_frames`: the largest number of source frames that are used, those nearest to the new frames; None for no limit.
    `target_rate`: the rate in frames per second to which the source is resampled; None for no resampling.
    `reverse_source`: True if the source's frames are used in reverse order.
    `passes`: the schedules of one or two passes.
    `few_steps`: True if the schedules are those of a distilled model.
    `heed_negative`: True if a model without classifier-free guidance should use the negative prompt too.
    """

    resolution: str = "720p"
    aspect_ratio: str = "auto"
    frame_rate: int | None = None
    start_frame: int = 0
    max_frames: int | None = None
    target_rate: int | None = None
    reverse_source: bool = False
    passes: tuple[PassOptions, ...]
    few_steps: bool = False
    heed_negative: bool = False
