"""The arithmetic of 0.9.x plans: tables of what the documents say, and properties that hold for every request."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.clip import Source, Span
from longtake.errors import InvalidRequest
from longtake.plans import frames_on_clock
from longtake.families.ltxv.plan import (
    Footage,
    first_pass_canvas,
    footage_span,
    guide_lengths,
    output_size,
    playback_rate,
    total_lengths,
    whole_source_lengths,
    windows,
)

NTSC = Fraction(24000, 1001)


class Model:
    """Facts of a model as the registry's cards state them."""

    name = "m"
    guidance = "distilled"
    native_short_side: int | None = None
    spatial_compression = 32
    temporal_compression = 8
    window_frames = 257
    overlap_latents = 3
    overlap_strength = 0.5
    max_context_frames = 121


def source(num_frames: int = 100, rate: Fraction = Fraction(24)) -> Source:
    return Source("mp4", "h264", 1280, 720, rate, num_frames)


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
    st.none() | st.integers(1, 60).map(Fraction),
    st.booleans(),
)
def test_footage_lies_in_the_source(
    num_frames: int, rate: Fraction, start: int, most: int | None, clock: Fraction | None, reverse: bool
) -> None:
    facts = source(num_frames, rate)
    footage = Footage(start, most, clock, reverse)
    if start >= num_frames:
        with pytest.raises(InvalidRequest, match="start_frame_num"):
            footage_span(facts, footage)
        return
    span = footage_span(facts, footage)
    assert 0 <= span.start < span.stop
    assert span.stop <= frames_on_clock(num_frames, rate, span.rate)
    assert span.reverse == reverse
    if clock is None or clock == rate:
        assert len(span) == min(num_frames - start, most or num_frames)
        assert span.start == start if reverse or not most else span.stop == num_frames, "the joint's end is kept"


def test_footage_is_limited_next_to_the_joint() -> None:
    assert footage_span(source(100), Footage(8, 20)) == Span(80, 100, Fraction(24))
    assert footage_span(source(100), Footage(8, 20, reverse=True)) == Span(8, 28, Fraction(24), True)
    assert footage_span(source(100, Fraction(50)), Footage(0, None, Fraction(25))) == Span(0, 50, Fraction(25))


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
    ],
)
def test_playback_rate(asked: int, clock: Fraction, rate: Fraction) -> None:
    assert playback_rate(asked, clock) == rate


def test_total_lengths_are_exact() -> None:
    lengths = total_lengths(Span(0, 60, Fraction(24)), 121, Model(), advice="")
    assert (lengths.shown_frames, lengths.context_frames, lengths.new_frames) == (57, 57, 64)
    assert (lengths.take_frames, len(lengths.windows)) == (121, 1)


def test_no_room_says_how_many_would_do() -> None:
    with pytest.raises(InvalidRequest, match=r"121 frames.*no room.*in 121; take fewer") as error:
        total_lengths(Span(0, 125, Fraction(24)), 121, Model(), advice="take fewer")
    assert error.value.loc == ("body", "num_frames")
    assert error.value.ctx == {"context_frames": 121, "least_num_frames": 122}


@given(st.integers(1, 20_000), st.integers(1, 1000))
def test_a_long_source_costs_no_more(length: int, new: int) -> None:
    lengths = whole_source_lengths(Span(0, length, Fraction(24)), new, Model())
    assert lengths.shown_frames == length
    assert lengths.new_frames == new
    assert lengths.context_frames % 8 == 1
    assert lengths.take_frames >= lengths.context_frames + new
    if lengths.take_frames > Model.window_frames:
        assert lengths.context_frames <= Model.max_context_frames
    assert len(lengths.windows) <= 1 + (121 + new + 8) // ((33 - 3) * 8) + 1


def test_a_guide_shows_nothing() -> None:
    lengths = guide_lengths(Span(0, 500, Fraction(24)), 121, Model())
    assert (lengths.shown_frames, lengths.context_frames, lengths.new_frames, lengths.take_frames) == (0, 121, 121, 121)
