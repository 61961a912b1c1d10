"""Timelines: the rates of files, and which stored frame is shown when."""

from fractions import Fraction
from random import Random

import numpy as np
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


CS = Fraction(1, 100)


def recorded(rate: Fraction, runs: list[int], pause_ms: int) -> list[int]:
    """The times in ms of runs of so many frames at `rate`, with pauses between the runs."""
    times: list[int] = []
    at = Fraction(0)
    for run in runs:
        times += [round(at + 1000 * n / rate) for n in range(run)]
        at += 1000 * (run - 1) / rate + pause_ms
    return times


def steady(rate: Fraction, count: int, tick_s: Fraction, start: int = 0) -> list[int]:
    return [start + round(n / rate / tick_s) for n in range(count)]


@given(
    rate=st.sampled_from(STANDARD),
    count=st.integers(2, 400),
    tick_s=st.sampled_from([Fraction(1, 90_000), Fraction(1, 15_360), Fraction(1, 600), MS, Fraction(1, 24_000)]),
    start=st.integers(-1000, 10**9),
)
def test_a_declared_steady_rate_is_exact(rate: Fraction, count: int, tick_s: Fraction, start: int) -> None:
    line = timeline(steady(rate, count, tick_s, start), round(1 / rate / tick_s), tick_s, [rate])
    assert (line.rate, line.num_frames, line.variable) == (rate, count, False)
    span = Span(0, count, rate)
    assert line.stored(span) == list(range(count))


@given(rate=st.sampled_from(STANDARD), count=st.integers(60, 300))
def test_an_undeclared_rate_is_found_from_the_times(rate: Fraction, count: int) -> None:
    tick_s = Fraction(1, 90_000)
    assert timeline(steady(rate, count, tick_s), 0, tick_s, []).rate == rate


@given(rate=st.sampled_from([Fraction(n) for n in (10, 12, 15, 20, 24, 25, 30, 48, 50)]), count=st.integers(25, 300))
def test_times_rounded_to_hundredths_give_the_whole_rate(rate: Fraction, count: int) -> None:
    line = timeline(steady(rate, count, CS), 100 // int(rate), CS, [])
    assert (line.rate, line.num_frames, line.variable) == (rate, count, False)


@pytest.mark.parametrize(
    ("pts", "last", "tick_s", "stated", "rate", "count", "variable"),
    [
        # a rate that is no standard one
        (
            [2998 * n for n in range(36)],
            2998,
            Fraction(1, 90_000),
            [Fraction(45000, 1499)],
            Fraction(45000, 1499),
            36,
            False,
        ),
        # milliseconds declared as video
        (steady(NTSC_FILM, 240, MS), 42, MS, [Fraction(1000, 42)], NTSC_FILM, 240, False),
        # a camera's jitter, every frame still shown once
        ([n * 3000 + n * 37 % 5 * 200 for n in range(91)], 3000, Fraction(1, 90_000), [], Fraction(30), 91, False),
        # frames dropped on a grid
        ([0, 1, 3, 4, 7, 8, 9], 1, Fraction(1, 24), [Fraction(14, 2)], Fraction(24), 10, True),
        # a screen recording that stood still; most frames are 33 ms apart
        ([33 * n + (700 if n > 15 else 0) for n in range(30)], 33, MS, [Fraction(18)], Fraction(1000, 33), 51, True),
        # a screen recording of 60.02 Hz that pauses for ten times as long as it moves
        (recorded(Fraction(6002, 100), [30, 30, 30], 5000), 17, MS, [Fraction(8)], Fraction(60), 688, True),
        # a camera that goes from 30 to 24 frames per second in the dark
        (
            [1000 * n // 30 for n in range(100)] + [3333 + 1000 * n // 24 for n in range(100)],
            41,
            MS,
            [Fraction(26)],
            Fraction(30),
            225,
            True,
        ),
        # frames that come in pairs
        ([33 * n + late for n in range(60) for late in (0, 5)], 28, MS, [], Fraction(60), 119, True),
        # a screen of 120 Hz, where three of ten frames are missing
        ([25 * n // 3 for n in range(200) if n % 10 < 7], 8, MS, [Fraction(84)], Fraction(120), 197, True),
        # every third frame dropped
        (
            [512 * n for n in (0, 1, 3, 4, 6, 7, 9, 10)],
            512,
            Fraction(1, 12_288),
            [Fraction(16)],
            Fraction(24),
            11,
            True,
        ),
        # slides
        ([0, 2000, 9000], 4000, MS, [Fraction(1, 3)], Fraction(1), 13, True),
        # half a frame per second
        ([0, 2000, 4000], 2000, MS, [Fraction(1, 2)], Fraction(1, 2), 3, False),
        # slides that are shown for irregular times
        ([0, 3100, 9200, 30000], 4000, MS, [Fraction(1, 10)], Fraction(1), 34, True),
        # single frames
        ([512], 512, Fraction(1, 12_800), [Fraction(25)], Fraction(25), 1, False),
        ([0], 0, MS, [], Fraction(25), 1, False),
        ([0], 0, MS, [Fraction(1000)], Fraction(25), 1, False),
        ([0], 0, MS, [Fraction(30)], Fraction(30), 1, False),
        ([0], 40, MS, [], Fraction(25), 1, False),
        ([0], 42, MS, [Fraction(24)], Fraction(24), 1, False),
        ([0], 3750, Fraction(1, 90_000), [Fraction(48)], Fraction(24), 1, False),
        ([0], 5000, MS, [Fraction(1, 5)], Fraction(1, 5), 1, False),
    ],
)
def test_rates(
    pts: list[int],
    last: int,
    tick_s: Fraction,
    stated: list[Fraction],
    rate: Fraction,
    count: int,
    variable: bool,
) -> None:
    line = timeline(pts, last, tick_s, stated)
    assert (line.rate, line.num_frames, line.variable) == (rate, count, variable)


@given(
    rate=st.sampled_from([Fraction(n) for n in (24, 25, 30, 50, 60)] + [NTSC_FILM, NTSC_FILM * 5 / 2]),
    error=st.sampled_from([Fraction(0), Fraction(1, 3000), Fraction(-1, 3000)]),
    jitter=st.sampled_from([0, Fraction(1, 20), Fraction(3, 20)]),
    dropped=st.sampled_from([0, 10, 30]),
    pause=st.sampled_from([0, 3]),
    tick_s=st.sampled_from([MS, Fraction(1, 90_000)]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60)
def test_every_frame_of_a_recording_is_shown_near_its_time(
    rate: Fraction, error: Fraction, jitter: Fraction, dropped: int, pause: int, tick_s: Fraction, seed: int
) -> None:
    """A recorder runs at `rate` x (1 + `error`). `dropped` percent of the frames are missing, and `pause` percent of
    them come after a pause. The times have errors of `jitter` frames and are rounded to ticks."""
    random = Random(seed)
    pts: list[int] = []
    at = Fraction(0)
    while len(pts) < 150:
        if random.randrange(100) >= dropped:
            pts.append(round((at + Fraction(random.uniform(-1, 1)) * jitter) / (rate * (1 + error)) / tick_s))
        at += Fraction(random.uniform(2, 11)) if random.randrange(100) < pause else 1
    average = (len(pts) - 1) / ((pts[-1] - pts[0]) * tick_s)
    line = timeline(pts, 0, tick_s, [average, rate])
    assert abs(line.rate - rate) <= rate / 1000
    shown = line.stored(Span(0, line.num_frames, line.rate))
    assert set(shown) == set(range(150))
    assert shown == sorted(shown)
    if line.variable:
        for stored, time in enumerate(pts):
            assert abs(shown.index(stored) / line.rate - (time - pts[0]) * tick_s) * line.rate <= 1


@given(rate=st.sampled_from(STANDARD), frames=st.integers(1, 40))
def test_the_timeline_is_as_long_as_the_times(rate: Fraction, frames: int) -> None:
    pts = [n * n * 40 for n in range(frames)]
    line = timeline(pts, 40, MS, [rate])
    assert abs(line.num_frames / line.rate - line.duration_s) <= 1 / line.rate


def test_the_frame_before_a_dropped_one_is_repeated() -> None:
    line = timeline([0, 1, 3, 4, 7, 8, 9], 1, Fraction(1, 24), [])
    assert line.stored(Span(0, 10, Fraction(24))) == [0, 1, 1, 2, 3, 3, 3, 4, 5, 6]
    assert line.stored(Span(2, 6, Fraction(24), reverse=True)) == [3, 3, 2, 1]


@given(
    rate=st.sampled_from(STANDARD),
    shown_rate=st.sampled_from(STANDARD),
    count=st.integers(1, 40),
    variable=st.booleans(),
)
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


def test_brief_frames_are_moved_where_a_lower_rate_has_room_for_them() -> None:
    """On average 46 frames per second. Where steps of 8 ms follow each other, there is no room even at this rate."""
    steps = np.random.default_rng(0).choice([8, 12, 17, 33, 50], 59)
    pts = (0, *(int(time) for time in np.cumsum(steps)))
    line = Timeline(pts, pts[-1] + 17, Fraction(1, 1000), Fraction(75), (pts[-1] + 17) * 75 // 1000, True)
    shown = line.stored(Span(0, line.num_frames * 60 // 75, Fraction(60)))
    assert len(set(shown)) == 56
    for slot, stored in enumerate(shown):
        assert pts[stored] <= (slot + 1) * 1000 / 60 + 1


@pytest.mark.parametrize("span", [Span(0, 26, Fraction(24)), Span(-1, 5, Fraction(24)), Span(5, 5, Fraction(24))])
def test_a_span_outside_the_video_is_refused(span: Span) -> None:
    line = timeline(list(range(24)), 1, Fraction(1, 24), [])
    with pytest.raises(InvalidRequest, match="of 24 frames at 24 per second"):
        line.stored(span)
