"""The steady motion of a source, measured step by step or over many frames."""

from collections.abc import Sequence

import numpy as np
import pytest

from longtake.carried.optical_flow import as_picture, small_luma
from longtake.carried.steady_motion import measured
from tests.carried.film import HEIGHT, WIDTH, film


def speed(places: Sequence[float], noise: float = 0) -> tuple[float, float]:
    """The measured pixels per frame of a camera that looks at these places, and the error that the motion leaves.

    noise: the standard deviation of the camera's noise, in code values."""
    noisy = film(places) + np.random.default_rng(2).normal(0, noise, (len(places), HEIGHT, WIDTH, 3))
    steady, proof = measured([small_luma(as_picture(frame)) for frame in np.clip(noisy, 0, 255).astype(np.uint8)])
    return float(np.median(steady.mean[20:-20, 40:-40, 0])), proof.left


@pytest.mark.parametrize("step", [0.1, 0.3, 1.0, 3.0])
def test_a_steady_motion_is_known_well_at_any_speed(step: float) -> None:
    places = [20 + step * at for at in range(25)]
    found, left = speed(places)
    assert found == pytest.approx(step, rel=0.05)
    assert left < 0.1
    assert speed(places, noise=8)[0] == pytest.approx(step, rel=0.05, abs=0.01), "noise does not look like motion"


def test_a_motion_that_began_a_moment_ago_is_measured_as_it_is_now() -> None:
    begun = [20.0] * 12 + [20.0 + at for at in range(13)]
    assert speed(begun)[0] == pytest.approx(1, rel=0.1)


def test_a_motion_that_has_become_slower_is_measured_as_it_is_now() -> None:
    slower = [20.0 + 3 * at for at in range(17)] + [68.0 + at for at in range(1, 9)]
    assert speed(slower)[0] == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize(("count", "error"), [(2, 0.2), (7, 0.1), (9, 0.1), (17, 0.05)])
def test_a_short_source_is_enough(count: int, error: float) -> None:
    assert speed([20.0 + at for at in range(count)])[0] == pytest.approx(1, rel=error)


def test_a_picture_that_stands_still_has_no_motion() -> None:
    assert speed([20.0] * 25)[0] == 0
