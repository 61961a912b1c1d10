"""Notes about plans of LTX-2.3: each is there where a request does what its fields do not show, and only there."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from longtake.video import SoundInfo
from tests.families.ltx2.planning import plan, source

SOUNDING = replace(source(), sound=SoundInfo(48_000, 2, "stereo"))
UNSEEN = "the model sees nothing of the source and makes"
UNHEARD = "audio_strength is 0: the model hears nothing of the source's sound."


def test_a_slow_source_has_a_note() -> None:
    note = "The source has 0.5 frames per second; its frames are repeated at"
    assert plan(source(10, Fraction(1, 2))).notes == (f"{note} 1.",)
    assert plan(source(10, Fraction(1, 2)), frame_rate=24).notes == (f"{note} 24.",)
    assert plan(source(10, Fraction(1))).notes == ()


def test_a_fast_source_has_a_note() -> None:
    note = "The source has 120 frames per second; it is read at 60, the most that a result has."
    assert plan(source(240, Fraction(120))).notes == (note,)
    assert plan(source(240, Fraction(120)), frame_rate=24).notes == ()
    assert plan(source(240, Fraction(60))).notes == ()


@pytest.mark.parametrize(
    ("changes", "notes"),
    [
        ({}, ()),
        ({"strength": 0.1, "audio_strength": 0.1, "end_image": "x", "end_image_strength": 0.1}, ()),
        ({"strength": 0.0}, (f"video_strength is 0: {UNSEEN} 121 frames of its own, after a cut.",)),
        ({"audio_strength": 0.0}, (UNHEARD,)),
        ({"audio_strength": 0.0, "sound": False}, ()),
        ({"end_image": "x", "end_image_strength": 0.0}, ("end_image_strength is 0: the end image has no effect.",)),
        ({"end_image_strength": 0.0}, ()),
        (
            {"context_frames": 0, "strength": 0.0, "audio_strength": 0.0},
            (f"num_context_frames is 0: {UNSEEN} 121 frames of its own, after a cut.",),
        ),
        (
            {"context_frames": 0, "new_frames": 1},
            (f"num_context_frames is 0: {UNSEEN} 1 frame of its own, after a cut.",),
        ),
    ],
)
def test_what_is_switched_off_is_named(changes: dict[str, Any], notes: tuple[str, ...]) -> None:
    assert plan(SOUNDING, **changes).notes == notes


def test_a_source_that_the_model_wholly_replaces_leaves_no_cut() -> None:
    assert plan(source(25), strength=0.0).notes == (f"video_strength is 0: {UNSEEN} 121 frames of its own.",)


def test_a_source_without_sound_is_not_said_to_be_unheard() -> None:
    assert plan(source(), audio_strength=0.0).notes == ()
