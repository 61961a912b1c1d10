"""Notes about plans of 0.9.x: each is there where a request does what its fields do not show, and only there."""

from fractions import Fraction
from typing import Any

import pytest

from longtake.plans import PlannedAdapter
from tests.families.ltxv.planning import NTSC, plan, source

LORA = PlannedAdapter("depth.safetensors", (1.0,), ("body", "loras", 0, "path"))


@pytest.mark.parametrize(
    ("rate", "changes", "note"),
    [
        ("24", {}, None),
        ("24000/1001", {}, None),
        ("30", {"own_rate": True}, None),
        ("30", {"frame_rate": None}, None),
        ("30", {"guide": "depth", "adapters": (LORA,)}, None),
        ("30000/1001", {}, "The source has 29.97 frames per second and plays 0.801 times as fast, because frame_rate "
         "is 24; 30 keeps its speed."),
        ("120", {}, "The source has 120 frames per second and plays 0.2 times as fast, because frame_rate is 24."),
        ("24", {"target_rate": 12}, "The source is resampled to 12 fps and plays 2 times as fast, "
         "because frame_rate is 24; 12 keeps its speed."),
        ("1/2", {}, "The source has 0.5 frames per second and plays 48 times as fast, because frame_rate is 24."),
        ("120", {"own_rate": True}, "The source has 120 frames per second; it is read at 60, the most that a result "
         "has."),
        ("60", {"own_rate": True}, None),
        ("1/2", {"own_rate": True}, "The source has 0.5 frames per second; its frames are repeated at 1."),
    ],
)  # fmt: skip
def test_another_speed_is_named(rate: str, changes: dict[str, Any], note: str | None) -> None:
    assert plan(source(41, Fraction(rate)), num_frames=200, **changes).notes == (() if note is None else (note,))


@pytest.mark.parametrize(
    ("num_frames", "changes", "note"),
    [
        (200, {"start_frame": 80}, "113 source frames are used, from frame 87 on: the last 8k+1 that "
         "video.start_frame_num = 80 allows."),
        (201, {"start_frame": 80}, None),
        (200, {"start_frame": 80, "max_frames": 20}, "17 source frames are used, from frame 183 on: the last 8k+1 that "
         "video.start_frame_num = 80 and video.max_num_frames = 20 allow."),
        (200, {"start_frame": 80, "max_frames": 17}, "17 source frames are used, from frame 183 on: the last ones that "
         "video.start_frame_num = 80 and video.max_num_frames = 17 allow."),
        (200, {"start_frame": 80, "reverse_source": True}, None),
        (200, {"max_frames": 20}, "17 source frames are used, from frame 183 on: the last 8k+1 that "
         "video.max_num_frames = 20 allows."),
        (200, {"max_frames": 20, "reverse_source": True}, "17 source frames are used, from frame 0 on: the first 8k+1 "
         "that video.max_num_frames = 20 allows."),
        (200, {"max_frames": 17}, None),
        (200, {"max_frames": 8}, "1 source frame is used, from frame 199 on: the last 8k+1 that "
         "video.max_num_frames = 8 allows."),
        (60, {"max_frames": 200}, None),
        (60, {}, None),
    ],
)  # fmt: skip
def test_frames_that_are_asked_for_and_not_used_are_named(
    num_frames: int, changes: dict[str, Any], note: str | None
) -> None:
    assert plan(source(num_frames), num_frames=300, **changes).notes == (() if note is None else (note,))


def test_a_long_source_that_is_shown_from_its_start_frame_on_is_not_moved() -> None:
    (note,) = plan(source(300), num_frames=121, start_frame=80).notes
    assert "all are shown" in note


@pytest.mark.parametrize("guide", ["depth", "pose", "canny"])
def test_a_guide_without_a_lora_is_named(guide: str) -> None:
    (note,) = plan(source(41), guide=guide).notes
    assert note.startswith(f"video.conditioning_type is {guide}, and no LoRA that follows such a guide is given")
    assert plan(source(41), guide=guide, adapters=(LORA,)).notes == ()
    off = PlannedAdapter("depth.safetensors", (0.0,), ("body", "loras", 0, "path"))
    assert plan(source(41), guide=guide, adapters=(off,)).notes == (note,), "at scale 0 it is not applied"


def test_strength_0_is_named() -> None:
    assert plan(source(41), strength=0.0).notes == (
        "video.strength is 0: the model sees nothing of the source and makes 121 frames of its own.",
    )
    (count, note) = sorted(plan(source(200), strength=0.0).notes)
    assert "all are shown" in count
    assert note.endswith("makes 121 frames of its own, after a cut.")
    assert "video.strength is 0: the guide has no effect." in plan(source(41), strength=0.0, guide="canny").notes


@pytest.mark.parametrize(
    ("changes", "has_note"),
    [({}, True), ({"strength": 0.5}, False), ({"guide": "canny", "adapters": (LORA,)}, False)],
)
def test_a_tone_map_that_sets_in_is_named(changes: dict[str, Any], has_note: bool) -> None:
    """Without frames of the source's own there is nothing that it would have to fit to."""
    notes = plan(source(41), tone_map_compression_ratio=0.5, **changes).notes
    assert notes == (("tone_map_compression_ratio acts on new frames alone and sets in over their first second, "
                      "without a step.",) if has_note else ())  # fmt: skip


def test_an_ordinary_request_has_no_note() -> None:
    assert plan(source(60, NTSC)).notes == ()
