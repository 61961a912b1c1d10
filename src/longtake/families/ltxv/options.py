"""The options of LTX-Video 0.9.x, onto which endpoints map their requests."""

from dataclasses import dataclass
from typing import Literal

from longtake.families.family import Options
from longtake.plans import Choices

Guide = Literal["rgb", "depth", "pose", "canny"]


@dataclass(frozen=True)
class PassOptions:
    """The schedule of one pass: its length, and how many of its first and last steps are left out."""

    steps: int
    skip_initial: int = 0
    skip_final: int = 0


@dataclass(frozen=True, kw_only=True)
class LTXVChoices(Choices):
    """The options of LTX-Video 0.9.x that a plan takes over unchanged.

    `guide` other than rgb: the source guides and is not shown; `preprocess` draws it as that. `reverse`: the finished
    video is played backwards.
    """

    guide: Guide = "rgb"
    preprocess: bool = False
    temporal_adain_factor: float = 0.5
    tone_map_compression_ratio: float = 0.0
    constant_rate_factor: int = 29
    reverse: bool = False


@dataclass(frozen=True, kw_only=True)
class LTXVOptions(LTXVChoices, Options):
    """The options of LTX-Video 0.9.x.

    `resolution`: lines of the short side, as in `720p`; `aspect_ratio`: as in `16:9`, or `auto`, the source's.
    `frame_rate`: the rate that the output plays at; None is the source's own. Of the source the frames from
    `start_frame` on are used, of these the `max_frames` next to the joint, at `target_rate` frames per second,
    backwards with `reverse_source`. `passes`: one or two. `few_steps`: the schedule is a distilled model's.
    `heed_negative`: the negative prompt counts on a model that runs without classifier-free guidance, too.
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
