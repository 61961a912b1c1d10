"""Timelines: the rates of files, and which stored frame is shown when."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.errors import InvalidRequest
from longtake.media.timeline import Timeline, timeline
from longtake.video import Span

NTSC_FILM = Fraction(24000, 1001)
MS = Fraction(1, 1000)

STANDARD = [Fraction(n) for n in (1, 8, 10, 12, 15, 16, 20, 24, 25, 30, 48, 50, 60, 120)]
STANDARD += [Fraction(n * 1000, 1001) for n in (24, 30, 60)]


def steady(rate: Fraction, count: int, tick_s: Fraction, start: int = 0) -> list[int]:
    return [start + round(n / rate / tick_s) for n in range(count)]


@given(
    rate=st.sampled_from(STANDARD),
    count=st.integers(2, 400),
    tick_s=st.sampled_from([Fraction(1, 90_000), Fraction(1, 15_360), Fraction(1, 600), MS, Fraction(1, 24_000)]),
    start=st.integers(-1000, 10**9),
)
def test_a_declared_steady_rate_is_exact(rate: Fraction, count: int, tick_s: Fraction, start: int) -> None:
    line = timeline(steady(rate, count, tick_s, start), round(1 / rate / tick_s), tick_s, rate)
    assert (line.rate, line.num_frames, line.variable) == (rate, count, False)
    span = Span(0, count, rate)
    assert line.stored(span) == list(range(count))


@given(rate=st.sampled_from(STANDARD), count=st.integers(60, 300))
def test_an_undeclared_rate_is_found_from_the_times(rate: Fraction, count: int) -> None:
    tick_s = Fraction(1, 90_000)
    assert timeline(steady(rate, count, tick_s), 0, tick_s, None).rate == rate


@pytest.mark.parametrize(
    ("pts", "last", "tick_s", "declared", "rate", "count", "variable"),
    [
        # a rate that is no standard one
        (
            [2998 * n for n in range(36)],
            2998,
            Fraction(1, 90_000),
            Fraction(45000, 1499),
            Fraction(45000, 1499),
            36,
            False,
        ),
        # milliseconds declared as video
        (steady(NTSC_FILM, 240, MS), 42, MS, Fraction(1000, 42), NTSC_FILM, 240, False),
        # a camera's jitter, every frame still shown once
        ([n * 3000 + n * 37 % 5 * 200 for n in range(91)], 3000, Fraction(1, 90_000), None, Fraction(30), 91, False),
        # frames dropped on a grid
        ([0, 1, 3, 4, 7, 8, 9], 1, Fraction(1, 24), Fraction(14, 2), Fraction(24), 10, True),
        # a screen recording that stood still; most frames are 33 ms apart
        ([33 * n + (700 if n > 15 else 0) for n in range(30)], 33, MS, Fraction(18), Fraction(1000, 33), 51, True),
        # every third frame dropped
        ([512 * n for n in (0, 1, 3, 4, 6, 7, 9, 10)], 512, Fraction(1, 12_288), Fraction(16), Fraction(24), 11, True),
        # slides
        ([0, 2000, 9000], 4000, MS, Fraction(1, 3), Fraction(1), 13, True),
        # single frames
        ([512], 512, Fraction(1, 12_800), Fraction(25), Fraction(25), 1, False),
        ([0], 0, MS, None, Fraction(25), 1, False),
        ([0], 40, MS, None, Fraction(25), 1, False),
    ],
)
def test_rates(
    pts: list[int],
    last: int,
    tick_s: Fraction,
    declared: Fraction | None,
    rate: Fraction,
    count: int,
    variable: bool,
) -> None:
    line = timeline(pts, last, tick_s, declared)
    assert (line.rate, line.num_frames, line.variable) == (rate, count, variable)


def test_the_frame_before_a_dropped_one_is_repeated() -> None:
    line = timeline([0, 1, 3, 4, 7, 8, 9], 1, Fraction(1, 24), None)
    assert line.stored(Span(0, 10, Fraction(24))) == [0, 1, 1, 2, 3, 3, 3, 4, 5, 6]
    assert line.stored(Span(2, 6, Fraction(24), reverse=True)) == [3, 3, 2, 1]


@given(
    rate=st.sampled_from(STANDARD),
    shown_rate=st.sampled_from(STANDARD),
    count=st.integers(1, 40),
    variable=st.booleans(),
)
@settings(deadline=None)
def test_another_rate_shows_the_nearest_frame(rate: Fraction, shown_rate: Fraction, count: int, variable: bool) -> None:
    line = Timeline(tuple(range(count)), count, 1 / rate, rate, count, variable)
    total = int(count * shown_rate / rate)
    if not total:
        return
    shown = line.stored(Span(0, total, shown_rate))
    assert len(shown) == total
    for n, stored in enumerate(shown):
        middle = (n + Fraction(1, 2)) / shown_rate
        assert stored / rate < middle
        assert stored == count - 1 or (stored + 1) / rate >= middle


@pytest.mark.parametrize("span", [Span(0, 26, Fraction(24)), Span(-1, 5, Fraction(24)), Span(5, 5, Fraction(24))])
def test_a_span_outside_the_video_is_refused(span: Span) -> None:
    line = timeline(list(range(24)), 1, Fraction(1, 24), None)
    with pytest.raises(InvalidRequest, match="of 24 frames at 24 per second"):
        line.stored(span)
