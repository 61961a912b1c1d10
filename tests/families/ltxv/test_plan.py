"""The plan of 0.9.x: tables from the documents, and properties that hold for every request."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.errors import InvalidRequest, NotSupported
from longtake.families.ltxv.options import PassOptions
from longtake.families.ltxv.plan import (
    aspect_of,
    first_pass_canvas,
    output_size,
    passes_of,
    playback_rate,
    source_span,
)
from longtake.families.ltxv.profiles import NAG_SCALE, NONE
from longtake.plans import frames_on_clock
from longtake.video import Span
from tests.families.ltxv.planning import MODEL, NTSC, SMALL, options, plan, source
from tests.models.cards import ltxv_card


@pytest.mark.parametrize(
    ("resolution", "aspect", "size"),
    [
        ("720p", Fraction(16, 9), (1280, 704)),
        ("480p", Fraction(16, 9), (832, 480)),
        ("720p", Fraction(9, 16), (704, 1280)),
        ("480p", Fraction(9, 16), (480, 832)),
        ("720p", Fraction(1), (704, 704)),
        ("480p", Fraction(4, 3), (640, 480)),
        ("480p", Fraction(5), (2400, 480)),
    ],
)
def test_output_sizes(resolution: str, aspect: Fraction, size: tuple[int, int]) -> None:
    assert output_size(resolution, aspect) == size


def test_first_pass_canvas() -> None:
    assert first_pass_canvas((1280, 704), 32) == (832, 448)
    assert first_pass_canvas((288, 192), 32) == (160, 96), "a hair less than two thirds, as published"


@given(
    st.integers(1, 3000),
    st.fractions(1, 60, max_denominator=1001),
    st.integers(0, 1440),
    st.none() | st.integers(1, 1441),
    st.none() | st.integers(1, 60),
    st.booleans(),
)
def test_the_used_frames_lie_in_the_source(
    num_frames: int, rate: Fraction, start: int, most: int | None, target: int | None, reverse: bool
) -> None:
    facts = source(num_frames, rate)
    requested = options(start_frame=start, max_frames=most, target_rate=target, reverse_source=reverse)
    if start >= num_frames:
        with pytest.raises(InvalidRequest, match="start_frame_num"):
            source_span(facts, requested)
        return
    used = source_span(facts, requested)
    assert 0 <= used.start < used.stop
    assert used.stop <= frames_on_clock(num_frames, rate, used.rate)
    assert used.reverse == reverse
    if target is None or target == rate:
        assert len(used) == min(num_frames - start, most or num_frames)
        assert used.start == start if reverse or not most else used.stop == num_frames, "the joint's end is used"


@pytest.mark.parametrize(
    ("rate", "changes", "used"),
    [
        (24, {"start_frame": 8, "max_frames": 20}, Span(80, 100, Fraction(24))),
        (24, {"start_frame": 8, "max_frames": 20, "reverse_source": True}, Span(8, 28, Fraction(24), True)),
        (50, {"target_rate": 25}, Span(0, 50, Fraction(25))),
        (50, {"target_rate": 25, "start_frame": 8, "max_frames": 20}, Span(40, 50, Fraction(25))),
    ],
)
def test_frames_are_limited_next_to_the_joint(rate: int, changes: dict[str, Any], used: Span) -> None:
    assert replace(source_span(source(100, Fraction(rate)), options(**changes)), shift=Fraction(0)) == used


@pytest.mark.parametrize(
    ("rate", "changes", "used", "plays"),
    [
        ("1/2", {}, Span(0, 10, Fraction(1, 2)), 24),
        ("1/2", {"own_rate": True}, Span(0, 20, Fraction(1)), 1),
        ("1/2", {"frame_rate": None}, Span(0, 20, Fraction(1)), 1),
        ("1/2", {"own_rate": True, "start_frame": 8}, Span(16, 20, Fraction(1)), 1),
        ("1/2", {"own_rate": True, "max_frames": 3}, Span(14, 20, Fraction(1)), 1),
        ("1/2", {"target_rate": 8}, Span(0, 160, Fraction(8)), 24),
        ("1/2", {"target_rate": 8, "own_rate": True}, Span(0, 160, Fraction(8)), 8),
        ("1", {"own_rate": True}, Span(0, 10, Fraction(1)), 1),
        ("120", {}, Span(0, 10, Fraction(120)), 24),
        ("120", {"own_rate": True}, Span(0, 5, Fraction(60)), 60),
    ],
)
def test_a_source_keeps_its_duration_unless_a_rate_is_asked_for(
    rate: str, changes: dict[str, Any], used: Span, plays: int
) -> None:
    facts, requested = source(10, Fraction(rate)), options(**changes)
    assert replace(source_span(facts, requested), shift=Fraction(0)) == used
    assert playback_rate(requested, used.rate) == plays


@given(st.integers(1, 500), st.fractions(Fraction(1, 50), 120, max_denominator=1001))
def test_a_source_at_its_own_rate_lasts_as_long_as_before(num_frames: int, rate: Fraction) -> None:
    used = source_span(source(num_frames, rate), options(own_rate=True))
    assert 1 <= used.rate <= 60
    assert abs(len(used) / used.rate - num_frames / rate) <= 1 / used.rate


def test_tail_is_what_plays_last() -> None:
    assert Span(0, 100, Fraction(24)).tail(9) == Span(91, 100, Fraction(24))
    assert Span(0, 100, Fraction(24), True).tail(9) == Span(0, 9, Fraction(24), True)


@pytest.mark.parametrize(
    ("requested", "clock", "rate"),
    [
        (24, NTSC, NTSC),
        (30, Fraction(30000, 1001), Fraction(30000, 1001)),
        (24, Fraction(25), Fraction(24)),
        (60, Fraction(120), Fraction(60)),
        (None, Fraction(25), Fraction(25)),
    ],
)
def test_playback_rate(requested: int | None, clock: Fraction, rate: Fraction) -> None:
    assert playback_rate(options(frame_rate=requested), clock) == rate
    assert playback_rate(options(frame_rate=requested, own_rate=True), clock) == clock


def test_a_plan_reads_what_it_shows_or_sees() -> None:
    assert plan(source(200), num_frames=121).context == Span(0, 200, Fraction(24)), "all of it is shown"
    assert plan(source(60), num_frames=121).context == Span(3, 60, Fraction(24)), "57 frames, those next to the joint"
    assert plan(source(200), num_frames=121, guide="depth").context == Span(79, 200, Fraction(24))
    long = plan(source(200), num_frames=121)
    assert (long.num_frames, long.billed_frames, long.source_frames) == (264, 121, 200)


def test_an_aspect_is_asked_for_or_the_sources_own() -> None:
    assert aspect_of("9:16", source()) == Fraction(9, 16)
    assert aspect_of("auto", source()) == Fraction(16, 9)
    with pytest.raises(InvalidRequest, match="1000x100, longer than 5:1") as raised:
        aspect_of("auto", replace(source(), width=1000, height=100))
    assert raised.value.loc == ("body", "aspect_ratio")
    assert aspect_of("16:9", replace(source(), width=1000, height=100)) == Fraction(16, 9)


def test_two_passes_work_at_two_scales() -> None:
    requested = options(passes=(PassOptions(8, skip_final=1), PassOptions(12, 5)))
    first, second = passes_of(requested, (1280, 704), MODEL)
    assert (first.canvas, second.canvas) == ((832, 448), (1664, 896))
    assert (first.steps, first.skip_final, second.steps, second.skip_initial) == (8, 1, 12, 5)
    small = passes_of(requested, (1280, 704), SMALL)
    assert [one.canvas for one in small] == [(112, 64), (224, 128)]


def test_a_distilled_model_heeds_a_negative_prompt_by_attention() -> None:
    size = (1280, 704)
    assert passes_of(options(), size, MODEL)[0].guidance == NONE
    assert passes_of(options(heed_negative=True), size, MODEL)[0].guidance == replace(NONE, nag=NAG_SCALE)
    dev = ltxv_card("ltxv-13b-0.9.7-dev")
    assert passes_of(options(heed_negative=True, few_steps=False), size, dev)[0].guidance.nag == 0, "it has CFG"


def test_there_is_no_end_image() -> None:
    with pytest.raises(NotSupported, match="cannot arrive at an end image"):
        plan(source(), end_image="x")
