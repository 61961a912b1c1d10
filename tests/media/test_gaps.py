"""Gaps in sound: they take no memory and no work, and the sound around them is the same as with silent samples."""

from collections.abc import Iterator

import numpy as np
import pytest

from longtake.media.downmix import limited
from longtake.media.gaps import batches, gap, is_gap
from longtake.media.sound import Samples
from longtake.media.sound_reader import _resampled

ENDLESS = 48_000 * 10**6


def loud(seed: int, length: int = 15_000) -> Samples:
    return np.random.default_rng(seed).normal(0, 0.7, (2, length)).astype(np.float32)


def whole(stream: Iterator[Samples]) -> Samples:
    return np.concatenate(list(stream), axis=1)


def test_a_part_of_a_gap_is_a_gap() -> None:
    silence = gap(100)[:, 20:50]
    assert silence.shape == (2, 30)
    assert is_gap(silence, 29)
    assert not is_gap(silence, 30)
    assert not is_gap(np.zeros((2, 100), np.float32), 10)


def test_batches_have_the_least_size_except_before_a_gap_and_at_the_end() -> None:
    pieces = [loud(1, 4), loud(2, 7), gap(5), loud(3, 3), gap(50), loud(4, 2)]
    found = list(batches(iter(pieces), 10))
    assert [piece.shape[1] for piece in found] == [11, 8, 50, 2]
    np.testing.assert_array_equal(np.concatenate(found, axis=1), np.concatenate(pieces, axis=1))


@pytest.mark.parametrize("own", [96_000, 44_100, 47_999])
@pytest.mark.parametrize("length", [10, 20_000, 100_003])
def test_a_gap_sounds_like_silent_samples(own: int, length: int) -> None:
    before, after = loud(1), loud(2)
    with_gap = whole(_resampled(limited(iter([before, gap(length), after]), own), own, 48_000))
    silent = np.concatenate([before, np.zeros((2, length), np.float32), after], axis=1)
    np.testing.assert_array_equal(with_gap, whole(_resampled(limited(iter([silent]), own), own, 48_000)))


def test_a_gap_of_eleven_days_costs_nothing() -> None:
    stream = _resampled(limited(iter([loud(1), gap(ENDLESS), loud(2)]), 96_000), 96_000, 48_000)
    assert abs(sum(piece.shape[1] for piece in stream) - (ENDLESS + 30_000) // 2) < 100
