"""The options of LTX-Video 0.9.x, onto which endpoints map their requests."""

from dataclasses import dataclass
from typing import Literal

from longtake.families.family import Options
from longtake.plans import PlanOptions

ConditioningType = Literal["rgb", "depth", "pose", "canny"]
"""What the source's frames show: a video to continue (rgb), or depth, poses or edges that guide a new one."""


@dataclass(frozen=True)
class PassOptions:
    """The schedule of one pass: its number of steps, and how many of the first and of the last are left out."""

    steps: int
    skip_initial: int = 0
    skip_final: int = 0


@dataclass(frozen=True, kw_only=True)
class LTXVPlanOptions(PlanOptions):
    """The options of LTX-Video 0.9.x that a plan copies unchanged.

    `guide`: other than rgb, the source guides the new video and is not shown; `preprocess`: turn its frames into such a
    guide first. `temporal_adain_factor`: how far a later window takes on the first one's colours, 0..1.
    `tone_map_compression_ratio`: how far the latents' range is compressed, 0..1. `constant_rate_factor`: H.264
    compression of the context before it is encoded, 0 (none) to 51. `reverse`: the finished video is played backwards.
    """

    guide: ConditioningType = "rgb"
    preprocess: bool = False
    temporal_adain_factor: float = 0.5
    tone_map_compression_ratio: float = 0.0
    constant_rate_factor: int = 29
    reverse: bool = False


@dataclass(frozen=True, kw_only=True)
class LTXVOptions(LTXVPlanOptions, Options):
    """The options of LTX-Video 0.9.x.

    `resolution`: pixels of the short side, as in `720p`; `aspect_ratio`: as in `16:9`, or `auto` for the source's.
    `frame_rate`: the output's in frames per second; None is the source's. The source is used from `start_frame` on, at
    most the `max_frames` nearest to the joint (None: all), resampled to `target_rate` frames per second (None: not),
    and backwards if `reverse_source`. `passes`: one or two. `few_steps`: the schedule is a distilled model's.
    `heed_negative`: the negative prompt also counts on a model that runs without classifier-free guidance.
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
