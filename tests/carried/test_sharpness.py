"""A moved picture gets back the sharpness that interpolation and stretching have taken from it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.carried.optical_flow import pixel_places, sampled
from longtake.carried.sharpness import as_sharp, sharpness
from longtake.inspect.joint import joint_figures

Picture = NDArray[np.float32]


def scene() -> Picture:
    return np.random.default_rng(0).random((64, 96, 3)).astype(np.float32) * 0.5 + 0.25


def ratio(picture: Picture, before: Picture) -> float:
    first, second = (np.stack([np.clip(each * 255, 0, 255).round().astype(np.uint8)] * 2) for each in (before, picture))
    return joint_figures(first, second).sharpness_ratio


def smooth() -> Picture:
    """A picture whose detail is several pixels wide, as in a video."""
    return sampled(scene(), pixel_places(128, 192) / np.float32(2))


@pytest.mark.parametrize("scale", [0.9, 0.8])
def test_a_moved_picture_is_as_sharp_as_before(scale: float) -> None:
    moved = sampled(smooth(), pixel_places(128, 192) * np.float32(scale))
    assert ratio(moved, smooth()) < 0.9
    assert ratio(as_sharp(moved, sharpness(smooth())), smooth()) == pytest.approx(1, abs=0.02)


def test_detail_that_is_lost_wholly_is_not_invented() -> None:
    moved = sampled(smooth(), pixel_places(128, 192) / np.float32(4))
    sharper = as_sharp(moved, sharpness(smooth()))
    assert ratio(moved, smooth()) < ratio(sharper, smooth()) < 0.5
    assert np.abs(sharper - moved).max() < 0.1


def test_a_picture_that_is_sharp_enough_stays_as_it_is() -> None:
    flat = np.full((8, 8, 3), 0.5, np.float32)
    assert np.array_equal(as_sharp(smooth(), sharpness(smooth())), smooth())
    assert np.array_equal(as_sharp(flat, sharpness(smooth())), flat)
