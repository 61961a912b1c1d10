"""Sources, options and plans of 0.9.x for tests."""

from fractions import Fraction
from typing import Any

from longtake.families.ltxv.options import LTXVOptions, PassOptions
from longtake.families.ltxv.plan import LTXVPlan, make_plan
from longtake.video import Span, VideoInfo
from tests.models.cards import ltxv_card

NTSC = Fraction(24000, 1001)
MODEL, SMALL = ltxv_card("ltxv-13b-0.9.8-distilled"), ltxv_card("ltxv-tiny")


def source(num_frames: int = 100, rate: Fraction = Fraction(24)) -> VideoInfo:
    return VideoInfo("mp4", "h264", 1280, 720, rate, num_frames)


def options(**changes: Any) -> LTXVOptions:
    """Those of a request with one pass of eight steps, whose output plays at 24 frames per second."""
    fields: dict[str, Any] = {"prompt": "a", "passes": (PassOptions(8),), "frame_rate": 24, "few_steps": True}
    return LTXVOptions(**{**fields, **changes})


def span(num_frames: int) -> Span:
    return Span(0, num_frames, Fraction(24))


def plan(facts: VideoInfo, **changes: Any) -> LTXVPlan:
    return make_plan(options(**changes), facts, MODEL, 7)
