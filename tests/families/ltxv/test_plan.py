"""The plan of 0.9.x: tables of what the documents say, and properties that hold for every request."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.errors import InvalidRequest, NotSupported
from longtake.families.ltxv.options import LTXVOptions, PassOptions
from longtake.families.ltxv.plan import (
    Lengths,
    LTXVPlan,
    aspect_of,
    first_pass_canvas,
    guide_lengths,
    lengths_of,
    make_plan,
    output_size,
    passes_of,
    playback_rate,
    source_span,
    total_lengths,
    whole_source_lengths,
    windows,
)
from longtake.families.ltxv.profiles import NAG_SCALE, NONE
from longtake.plans import clip_length, frames_on_clock
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


@given(st.integers(1, 400), st.integers(2, 40), st.data())
def test_windows_cover_a_take(total: int, tile: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(1, tile - 1))
    plan = windows(total, tile, overlap)
    assert plan[0].start == 0
    assert plan[-1].stop == total
    assert all(w.stop - w.start <= tile for w in plan)
    assert all(b.start == a.stop - overlap for a, b in pairwise(plan))
    assert all(w.stop - w.start > overlap for w in plan[1:]), "every later window brings something new"


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
    asked = options(start_frame=start, max_frames=most, target_rate=target, reverse_source=reverse)
    if start >= num_frames:
        with pytest.raises(InvalidRequest, match="start_frame_num"):
            source_span(facts, asked)
        return
    used = source_span(facts, asked)
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
    assert source_span(source(100, Fraction(rate)), options(**changes)) == used


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
    facts, asked = source(10, Fraction(rate)), options(**changes)
    assert source_span(facts, asked) == used
    assert playback_rate(asked, used.rate) == plays


@given(st.integers(1, 500), st.fractions(Fraction(1, 50), 120, max_denominator=1001))
def test_a_source_at_its_own_rate_lasts_as_long_as_before(num_frames: int, rate: Fraction) -> None:
    used = source_span(source(num_frames, rate), options(own_rate=True))
    assert 1 <= used.rate <= 60
    assert abs(len(used) / used.rate - num_frames / rate) <= 1 / used.rate


def test_a_slow_source_is_told_what_becomes_of_it() -> None:
    slow = source(10, Fraction(1, 2))
    assert plan(slow, own_rate=True).notes == ("The source has 0.5 frames per second; its frames are repeated at 1.",)
    assert plan(slow).notes == ("The source has 0.5 frames per second and plays 48 times as fast.",)
    assert plan(source(10, Fraction(1)), own_rate=True).notes == ()


def test_tail_is_what_plays_last() -> None:
    assert Span(0, 100, Fraction(24)).tail(9) == Span(91, 100, Fraction(24))
    assert Span(0, 100, Fraction(24), True).tail(9) == Span(0, 9, Fraction(24), True)


@pytest.mark.parametrize(
    ("asked", "clock", "rate"),
    [
        (24, NTSC, NTSC),
        (30, Fraction(30000, 1001), Fraction(30000, 1001)),
        (24, Fraction(25), Fraction(24)),
        (60, Fraction(120), Fraction(60)),
        (None, Fraction(25), Fraction(25)),
    ],
)
def test_playback_rate(asked: int | None, clock: Fraction, rate: Fraction) -> None:
    assert playback_rate(options(frame_rate=asked), clock) == rate
    assert playback_rate(options(frame_rate=asked, own_rate=True), clock) == clock


def counted(lengths: Lengths) -> tuple[int, int, int, int]:
    return lengths.shown_frames, lengths.context_frames, lengths.new_frames, lengths.billed_frames


@pytest.mark.parametrize(
    ("available", "num_frames", "counts", "take", "note"),
    [
        (60, 121, (57, 57, 64, 121), 121, None),
        (1, 9, (1, 1, 8, 9), 9, None),
        (113, 121, (113, 113, 8, 121), 121, "Only 8 of num_frames = 121 are new"),
        (97, 121, (97, 97, 24, 121), 121, "Only 24 of num_frames = 121 are new"),
        (89, 121, (89, 89, 32, 121), 121, None),
        (120, 121, (113, 113, 8, 121), 121, "Only 8 of num_frames = 121 are new"),
        (121, 121, (121, 57, 64, 121), 121, "the source has 121: all are shown, and 64 are new"),
        (125, 121, (125, 57, 64, 121), 121, "the source has 125"),
        (5000, 121, (5000, 57, 64, 121), 121, "the source has 5000: all are shown"),
        (9, 9, (9, 1, 8, 9), 9, "all are shown, and 8 are new"),
        (9, 16, (9, 1, 15, 16), 17, "all are shown, and 15 are new"),
        (9, 17, (9, 9, 8, 17), 17, None),
        (2000, 1441, (2000, 121, 728, 1441), 849, "all are shown, and 728 are new"),
    ],
)
def test_total_lengths(
    available: int, num_frames: int, counts: tuple[int, int, int, int], take: int, note: str | None
) -> None:
    lengths = total_lengths(span(available), num_frames, MODEL)
    assert counted(lengths) == counts
    assert lengths.take_frames == take
    assert len(lengths.notes) == (note is not None)
    assert note is None or note in lengths.notes[0]


@given(st.integers(1, 3000), st.integers(9, 1441))
def test_a_total_is_never_refused(available: int, num_frames: int) -> None:
    """The output has `num_frames`, or all of the source where that leaves no room, and at least 8 are new."""
    lengths = total_lengths(span(available), num_frames, MODEL)
    shown, context, new, billed = counted(lengths)
    assert billed == num_frames
    assert new >= 8
    assert context % 8 == 1
    assert context <= shown <= available
    assert new + context <= lengths.take_frames
    assert lengths.take_frames % 8 == 1
    if num_frames - clip_length(available) >= 8:
        assert shown + new == num_frames
        assert available - shown < 8, "only what does not fill a latent is left out"
        assert bool(lengths.notes) == (4 * new < num_frames)
    else:
        assert shown == available
        assert num_frames / 2 <= new <= num_frames / 2 + 8
        assert lengths.notes


@given(st.integers(1, 20_000), st.integers(1, 1000))
def test_a_long_source_costs_no_more(length: int, new: int) -> None:
    lengths = whole_source_lengths(span(length), new, MODEL)
    assert lengths.shown_frames == length
    assert lengths.new_frames == new
    assert lengths.billed_frames == length + new
    assert lengths.context_frames % 8 == 1
    assert lengths.take_frames >= lengths.context_frames + new
    if lengths.take_frames > MODEL.window_frames:
        assert lengths.context_frames <= MODEL.max_context_frames
    assert len(lengths.windows) <= 1 + (121 + new + 8) // ((33 - 3) * 8) + 1


def test_a_guide_shows_nothing() -> None:
    lengths = guide_lengths(span(500), 121, MODEL)
    assert counted(lengths) == (0, 121, 121, 121)
    assert lengths.take_frames == 121


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({"num_frames": 121}, (57, 57, 64, 121)),
        ({"num_frames": 121, "new_frames": 40}, (60, 57, 40, 100)),
        ({"num_frames": 121, "guide": "depth"}, (0, 57, 121, 121)),
        ({"num_frames": 121, "guide": "depth", "new_frames": 40}, (0, 41, 40, 40)),
    ],
)
def test_each_way_of_counting(changes: dict[str, Any], counts: tuple[int, int, int, int]) -> None:
    assert counted(lengths_of(options(**changes), span(60), MODEL)) == counts


def test_a_plan_reads_what_it_shows_or_sees() -> None:
    assert plan(source(200), num_frames=121).context == Span(0, 200, Fraction(24)), "all of it is shown"
    assert plan(source(60), num_frames=121).context == Span(3, 60, Fraction(24)), "57 frames, those next to the joint"
    assert plan(source(200), num_frames=121, guide="depth").context == Span(79, 200, Fraction(24))
    long = plan(source(200), num_frames=121)
    assert (long.num_frames, long.billed_frames, long.kept_frames) == (264, 121, 200)


def test_an_aspect_is_asked_for_or_the_sources_own() -> None:
    assert aspect_of("9:16", source()) == Fraction(9, 16)
    assert aspect_of("auto", source()) == Fraction(16, 9)
    with pytest.raises(InvalidRequest, match="1000x100, longer than 5:1") as told:
        aspect_of("auto", replace(source(), width=1000, height=100))
    assert told.value.loc == ("body", "aspect_ratio")
    assert aspect_of("16:9", replace(source(), width=1000, height=100)) == Fraction(16, 9)


def test_two_passes_work_at_two_scales() -> None:
    asked = options(passes=(PassOptions(8, skip_final=1), PassOptions(12, 5)))
    first, second = passes_of(asked, (1280, 704), MODEL)
    assert (first.canvas, second.canvas) == ((832, 448), (1664, 896))
    assert (first.steps, first.skip_final, second.steps, second.skip_initial) == (8, 1, 12, 5)
    small = passes_of(asked, (1280, 704), SMALL)
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
