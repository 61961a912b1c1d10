"""Optical flow between two pictures."""

import cv2
import numpy as np
import pytest

from longtake.carried.optical_flow import FLOW_HEIGHT, contrast, followed, rough_flow, small_luma, smoothed


def test_the_flow_of_a_moved_picture_is_its_displacement() -> None:
    noise = cv2.GaussianBlur(np.random.default_rng(2).random((160, 220, 3)).astype(np.float32), (0, 0), 3)
    wide = (noise - noise.min()) / (noise.max() - noise.min())
    first, second = (small_luma(wide[:, at : at + 200]) for at in (0, 3))
    flow = smoothed(rough_flow(second, first), contrast(second))
    assert np.median(flow[..., 0]) == pytest.approx(3, abs=0.3)
    assert np.median(flow[..., 1]) == pytest.approx(0, abs=0.3)


def test_a_pixel_is_followed_to_where_each_step_has_brought_it() -> None:
    first, second = np.zeros((2, 4, 8, 2), np.float32)
    first[..., 0] = 2
    second[:, 2:, 1] = 5
    assert followed([first, second])[1, 0, :, 1].tolist() == [5] * 8


def test_large_pictures_are_measured_small() -> None:
    assert small_luma(np.ones((480, 640, 3), np.float32)).shape == (FLOW_HEIGHT, 320)


@pytest.mark.parametrize("size", [(2, 64), (64, 2), (3, 3), (11, 12)])
def test_the_flow_of_a_narrow_picture_has_its_size(size: tuple[int, int]) -> None:
    luma = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    assert np.abs(rough_flow(luma, luma)).max() < 0.5
    assert rough_flow(luma, luma).shape == (*size, 2)
