"""Placing pieces of sound by inexact timestamps: one unbroken sound, except where sound is really missing."""

import itertools
from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.media.sound import Samples
from longtake.media.sound_timing import placed, stretched

RATE = 48_000
MS = RATE // 1000
PACKET = 20 * MS

Piece = tuple[int | None, Samples]


def pieces(times: Sequence[int | None], length: int = PACKET) -> list[Piece]:
    """Pieces of `length` samples at these times; sample n of the sound has the value n."""
    counted = np.arange(len(times) * length, dtype=np.float32).reshape(len(times), length)
    return [(time, np.stack([samples, samples])) for time, samples in zip(times, counted, strict=True)]


def breaks(given: list[Piece]) -> list[tuple[int, int]]:
    """(number of the piece, samples of silence before it; negative: of overlap) of each break in the placed sound."""
    found = list(placed(given, RATE))
    ends = [position + samples.shape[1] for position, samples in found]
    steps = [position - end for (position, _), end in zip(found[1:], ends, strict=False)]
    return [(number, step) for number, step in enumerate(steps, 1) if step]


JITTER = st.lists(st.integers(-4 * MS, 4 * MS), min_size=60, max_size=60)


@settings(max_examples=30)
@given(jitter=JITTER, start=st.integers(-RATE, RATE), length=st.sampled_from([480, 960, 1024, 1152, 2880]))
def test_jitter_is_no_gap(jitter: list[int], start: int, length: int) -> None:
    given = pieces([start + n * length + late for n, late in enumerate(jitter)], length)
    assert not breaks(given)
    found = list(placed(given, RATE))
    assert all(before is after for (_, before), (_, after) in zip(given, found, strict=True))
    assert abs(found[0][0] - start) <= 4 * MS


@settings(max_examples=30)
@given(jitter=JITTER, data=st.data())
def test_missing_sound_is_a_gap_at_its_place(jitter: list[int], data: st.DataObject) -> None:
    """Even one missing packet counts, and the gaps are as long as the missing sound, within the jitter."""
    number = data.draw(st.integers(1, 59))
    missing = data.draw(st.integers(25, 2000)) * MS
    times = [n * PACKET + late + (missing if n >= number else 0) for n, late in enumerate(jitter)]
    [(place, length)] = breaks(pieces(times))
    assert place == number
    assert abs(length - missing) <= 8 * MS


def test_gaps_are_exact_where_the_timestamps_are() -> None:
    times = [n * PACKET + (n >= 5) * PACKET + (n >= 8) * 30 * MS for n in range(40)]
    assert breaks(pieces(times)) == [(5, PACKET), (8, 30 * MS)]


def test_an_overlap_is_a_negative_gap() -> None:
    times = [n * PACKET - (n >= 9) * 50 * MS for n in range(40)]
    assert breaks(pieces(times)) == [(9, -50 * MS)]


def test_late_timestamps_of_a_few_pieces_are_no_gap() -> None:
    """A busy browser stamps some packets late, and then catches up."""
    late = {7: 60 * MS, 8: 40 * MS, 9: 20 * MS}
    assert not breaks(pieces([n * PACKET + late.get(n, 0) for n in range(40)]))


def test_rounded_timestamps_are_no_gap() -> None:
    assert not breaks(pieces([round(n * 1024 / RATE * 1000) * MS for n in range(300)], 1024))


def test_pieces_without_timestamps_follow_on() -> None:
    times = [5000, None, None, *(5000 + n * PACKET for n in range(3, 20)), None, None]
    assert not breaks(pieces(times))
    found = list(placed(pieces([None] * 5), RATE))
    assert [position for position, _ in found] == [n * PACKET for n in range(5)]


@settings(max_examples=6)
@given(per_million=st.integers(-1500, 1500), jitter=JITTER)
def test_a_slow_drift_is_no_gap_and_stays_in_step(per_million: int, jitter: list[int]) -> None:
    late, length, count = itertools.cycle(jitter), 4 * PACKET, 1000
    times = [round(n * length * (1 + per_million / 1e6)) + next(late) for n in range(count)]
    given = pieces(times, length)
    assert not breaks(given)
    position, samples = list(placed(given, RATE))[-1]
    end = round(count * length * (1 + per_million / 1e6))
    assert abs(position + samples.shape[1] - end) <= 50 * MS


def test_stretching_keeps_the_wave() -> None:
    for length in (958, 960, 962):
        wave = np.sin(2 * np.pi * 3000 * np.arange(960) / RATE).astype(np.float32)
        exact = np.sin(2 * np.pi * 3000 * np.arange(length) * (960 / length) / RATE)
        [found, _] = stretched(np.stack([wave, wave]), length)
        np.testing.assert_allclose(found, exact, atol=2e-3)
