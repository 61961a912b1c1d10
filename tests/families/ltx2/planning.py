"""Sources, options and plans of LTX-2.3 for tests."""

from fractions import Fraction
from typing import Any

from longtake.families.ltx2.options import GuidanceScales, LTX2Options
from longtake.families.ltx2.plan import LTX2Plan, make_plan
from longtake.video import VideoInfo
from tests.models.cards import ltx2_card

NTSC = Fraction(24000, 1001)
MODEL, SMALL = ltx2_card("ltx-2.3"), ltx2_card("ltx2-tiny")


def source(num_frames: int = 100, rate: Fraction = Fraction(24)) -> VideoInfo:
    return VideoInfo("mp4", "h264", 1280, 720, rate, num_frames)


def options(**changes: Any) -> LTX2Options:
    return LTX2Options(**{"prompt": "a", "video": GuidanceScales(), "audio": GuidanceScales(), **changes})


def plan(facts: VideoInfo, **changes: Any) -> LTX2Plan:
    return make_plan(options(**changes), facts, MODEL, 7)
