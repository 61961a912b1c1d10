"""The frames in which a source shows a new picture are found, and when the next ones come."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.carried.repeated_frames import RepeatedFrames

COUNT = 49


def film(new: Sequence[int], noise: float = 0) -> NDArray[np.uint8]:
    """Frames of a square that jumps on in these frames of COUNT, the nearest frame first."""
    random, place, frames = np.random.default_rng(0), 4, []
    for number in range(COUNT):
        place += number in new
        frame = np.full((40, 80, 3), 90.0)
        frame[10:30, place : place + 12] = 200
        frames.append(frame + random.normal(0, noise, frame.shape) if noise else frame)
    return np.stack(frames).round().astype(np.uint8)[::-1]


@pytest.mark.parametrize("noise", [0, 1.5])
@pytest.mark.parametrize("last", [47, 48])
def test_pictures_on_twos(last: int, noise: float) -> None:
    repeated = RepeatedFrames.of(film(range(last % 2, COUNT, 2), noise))
    assert repeated is not None
    assert repeated.is_regular
    assert repeated.numbers[:3] == (0, 49 - last, 51 - last)
    steps = [repeated.steps(distance) for distance in range(4)]
    assert steps == ([0, 1, 1, 2] if last == 48 else [1, 1, 2, 2])


def test_a_clock_stands_still_for_as_long_as_usual() -> None:
    repeated = RepeatedFrames.of(film(range(0, COUNT, 12)))
    assert repeated is not None
    assert [repeated.steps(distance) for distance in (0, 10, 11, 22, 23)] == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("period", [1.25, 2.5])
def test_a_mean_rate_is_found(period: float) -> None:
    times = [math.ceil(number * period) for number in range(80)]
    repeated = RepeatedFrames.of(film([time for time in times if time < COUNT]))
    assert repeated is not None
    assert repeated.is_regular
    assert repeated.period == pytest.approx(period, rel=0.03)
    for distance in range(24):
        true = sum(COUNT <= time <= COUNT + distance for time in times)
        assert abs(repeated.steps(distance) - true) <= 1


@pytest.mark.parametrize("repeated", [(42,), (35, 36), (30, 44)])
def test_frames_that_are_repeated_now_and_then_do_not_tell_when_the_next_one_is(repeated: Sequence[int]) -> None:
    assert RepeatedFrames.of(film([number for number in range(COUNT) if number not in repeated])) is None


def test_pictures_that_come_irregularly() -> None:
    repeated = RepeatedFrames.of(film([5, 9, 17, 19, 25, 26, 34, 40, 45, 46]))
    assert repeated is not None
    assert not repeated.is_regular
    assert 4 < repeated.period < 5
    assert [repeated.steps(distance) for distance in (0, 1, 2, 6)] == [0, 0, 1, 2]


def test_a_picture_that_is_shown_for_long_stays() -> None:
    repeated = RepeatedFrames.of(film(range(30)))
    assert repeated is not None
    assert repeated.steps(500) == 0


@pytest.mark.parametrize("new", [[], range(COUNT), range(20, COUNT), [48], [20, 46]])
def test_other_sources_have_no_repeated_frames(new: Sequence[int]) -> None:
    assert RepeatedFrames.of(film(new)) is None
    assert RepeatedFrames.of(film(new)[:1]) is None


def test_slow_motion_is_no_repetition() -> None:
    fading = np.repeat(np.arange(COUNT, dtype=np.uint8)[::-1] * 3, 40 * 80 * 3).reshape(COUNT, 40, 80, 3)
    assert RepeatedFrames.of(fading) is None


def test_a_nearly_still_scene_has_no_repeated_frames() -> None:
    """Something small moves slowly, and in each frame the light of another part changes a little."""
    frames = np.full((COUNT, 40, 80, 3), 90, np.uint8)
    for number in range(COUNT):
        frames[number, 20:30, 10:20] += np.uint8(number % 2 * (5 if number % 3 else 2))
    frames[COUNT // 2 :, 5:15, 40:50] = 120
    assert RepeatedFrames.of(frames) is None
