"""The endpoint of LTX-2.3 with lengths in seconds: published names, defaults, ranges, and the effect of each field."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longtake.endpoints import ltx23, ltx23_seconds
from longtake.video import VideoInfo
from tests.endpoints.conftest import LENGTH, NEW, Make, frames_of
from tests.endpoints.planning import (
    PROMPT,
    REQUIRED,
    Effect,
    changed,
    check_ranges,
    options_of,
    plan_of,
    request_of,
    schema_of,
)

pytestmark = pytest.mark.usefixtures("forked_decoders")

ENDPOINT = ltx23_seconds.ENDPOINT
LONG = VideoInfo("mp4", "h264", 1280, 720, Fraction(24), 1000)

PUBLISHED = {
    "video_url": (REQUIRED,),
    "prompt": ("",),
    "duration": (5.0, 2, 20),
    "mode": ("end",),
    "context": (None, 1, 20),
}


def test_the_request_is_the_published_one() -> None:
    assert schema_of(ENDPOINT.Request) == PUBLISHED
    assert list(schema_of(ENDPOINT.Request)) == list(PUBLISHED)
    assert list(ENDPOINT.Response.model_fields) == ["video"]
    assert ENDPOINT.count_field == "duration"


def test_ranges_are_inclusive_and_name_the_field() -> None:
    check_ranges(ENDPOINT)


def test_the_default_plan() -> None:
    plan = plan_of(ENDPOINT, {}, LONG)
    assert (plan.new_frames, plan.context_frames, plan.shown_frames, plan.num_frames) == (120, 361, 1000, 1120)
    assert (plan.size, plan.rate, plan.sound, plan.direction) == ((1280, 720), 24, True, "forward")
    assert (plan.unit, plan.billed_units, plan.price_usd) == ("seconds", 5, Fraction("0.5"))
    (note,) = plan.notes
    assert "The model sees 361 of the context's 385 frames" in note, "505 less 120, which its window has no room for"


def test_everything_else_is_the_default_of_22b() -> None:
    other = changed(options_of(ltx23.ENDPOINT, {}, LONG), options_of(ENDPOINT, {}, LONG))
    (distill,) = other.pop("adapters")
    assert other == {"new_frames": 120, "context_frames": 385}
    assert (distill.scales, distill.field) == ((0.2, 0.5), ("body",)), "no field of this endpoint sets the adapter"


SENT = {"context_field": "context"}
EFFECTS = [
    Effect({"prompt": "p"}, {"prompt": "p"}, {"prompt": "p"}),
    Effect({"prompt": ""}, {"prompt": ""}, {"prompt": ""}),
    Effect({"duration": 2}, {"new_frames": 48, "context_frames": 457}, {"new_frames": 48}, source=LONG),
    Effect({"duration": 2}, {"new_frames": 48}, {"new_frames": 48, "price_usd": Fraction(2, 10)}),
    Effect({"mode": "start"}, {"direction": "backward"}, {"source_last": True, "new_frames": 120}),
    Effect(
        {"context": 1},
        {"context_frames": 24, **SENT},
        {"context_frames": 25, "new_frames": 120},
        source=LONG,
    ),
    Effect(
        {"context": 10},
        {"context_frames": 240, **SENT},
        {"context_frames": 241, "num_windows": 1},
        source=LONG,
    ),
]


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: "-".join(effect.fields))
def test_each_field_has_its_effect(effect: Effect) -> None:
    effect.check(ENDPOINT)


def test_no_field_is_left_out() -> None:
    assert {name for effect in EFFECTS for name in effect.fields} == set(PUBLISHED) - {"video_url"}
    assert ENDPOINT.source_url(request_of(ENDPOINT, {"video_url": "a.mp4"})) == "a.mp4"


@pytest.mark.parametrize(
    ("duration", "rate", "new"),
    [(5, Fraction(24), 120), (2.02, Fraction(25), 50), (20, Fraction(60), 1200), (3, Fraction(24000, 1001), 72)],
)
def test_seconds_become_whole_frames_of_the_source_s_rate(duration: float, rate: Fraction, new: int) -> None:
    plan = plan_of(ENDPOINT, {"duration": duration}, VideoInfo("mp4", "h264", 640, 480, rate, 200))
    assert (plan.new_frames, plan.rate) == (new, rate)
    assert plan.billed_units == round(duration), "whole seconds stay whole at any rate"
    assert plan.price_usd == plan.billed_units / 10


@pytest.mark.parametrize(
    ("source", "fields", "context"),
    [
        (60, {}, 57),
        (1000, {"duration": 20}, 25),
        (1000, {"duration": 10}, 241),
        (1000, {"duration": 10, "mode": "start"}, 240),
        (10, {}, 9),
    ],
)
def test_the_default_context_is_what_fits(source: int, fields: dict[str, Any], context: int) -> None:
    plan = plan_of(ENDPOINT, fields, VideoInfo("mp4", "h264", 640, 480, Fraction(24), source))
    assert plan.context_frames == context


def test_a_default_context_limited_by_the_source_has_no_note() -> None:
    plan = plan_of(ENDPOINT, {}, VideoInfo("mp4", "h264", 640, 480, Fraction(24), 60))
    assert (plan.context_frames, plan.notes) == (57, ())


def test_a_context_larger_than_the_window_has_a_note() -> None:
    plan = plan_of(ENDPOINT, {"context": 20}, LONG)
    assert any("The model sees 361 of the context's 481 frames" in note for note in plan.notes)


def test_a_prompt_is_not_needed() -> None:
    request = request_of(ENDPOINT, {"prompt": ""})
    assert ENDPOINT.options(request, LONG).prompt == ""
    assert ENDPOINT.options(request, LONG).expand_prompt, "a language model may write the prompt"
    assert plan_of(ENDPOINT, {}).prompt == PROMPT


def test_the_new_frames_come_first_in_mode_start_and_an_empty_prompt_is_noted(make: Make, clip: Path) -> None:
    result = make(ENDPOINT, {"prompt": "", "mode": "start"})
    frames, own = frames_of(result.path).astype(int), frames_of(clip)
    assert len(frames) == NEW + LENGTH
    assert np.abs(frames[NEW:] - own).mean() < 3
    assert result.prompt == ""
    assert any("There is no prompt" in note for note in result.notes)
