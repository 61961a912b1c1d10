"""Keeping the grain of a source alive in frames that are made of one of its frames."""

import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.carried.grain import Grain
from longtake.carried.optical_flow import Pictures

HEIGHT, WIDTH = 64, 96


def noisy(count: int, sigma: float = 1.5) -> NDArray[np.uint8]:
    """Gray frames [count, 64, 96, 3] with noise of `sigma` code values that is different in each frame."""
    noise = np.random.default_rng(3).normal(128, sigma, (count, HEIGHT, WIDTH, 3))
    return noise.round().astype(np.uint8)


def new_frames(frames: NDArray[np.uint8], count: int) -> Pictures:
    """Frames [count, 64, 96, 3] made of the nearest frame of a source that does not move, and its grain."""
    grain = Grain.of(frames, np.zeros((HEIGHT, WIDTH, 2), np.float32))
    places = np.dstack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))).astype(np.float32)
    nearest = frames[0].astype(np.float32) / 255
    return np.stack([nearest + grain.at(nearest, places, distance) for distance in range(count)])


def change(frames: NDArray[np.uint8] | Pictures) -> float:
    return float(np.abs(np.diff(frames.astype(np.float32), axis=0)).mean())


def test_new_frames_change_as_much_as_the_source_s_frames() -> None:
    source = noisy(12)
    made = new_frames(source, 10)
    assert change(made) == pytest.approx(change(source) / 255, rel=0.3)
    assert made.std() == pytest.approx(source.std() / 255, rel=0.2)


def test_what_has_changed_is_not_grain() -> None:
    source = noisy(12, sigma=0)
    source[1:, 20:40, 20:40] = 250
    assert new_frames(source, 5) == pytest.approx(np.full((5, HEIGHT, WIDTH, 3), 128 / 255), abs=1e-3)


def test_a_nearest_frame_unlike_the_others_gets_less_grain() -> None:
    source = noisy(12, sigma=1)
    source[0] += 4
    assert Grain.of(source, np.zeros((HEIGHT, WIDTH, 2), np.float32)).strength < 0.5


def test_a_source_of_one_frame_has_no_grain() -> None:
    source = noisy(1)
    assert (new_frames(source, 3) == source.astype(np.float32) / 255).all()
