"""Pictures of a model become integers in host memory."""

import numpy as np
import pytest
import torch

from longtake.media.formats import PixelFormat
from longtake.media.pixels import as_integers, as_rgb


@pytest.mark.parametrize(("frame_format", "largest"), [("yuv420p", 255), ("rgb24", 255), ("yuv444p10le", 65_535)])
def test_pixels_become_full_range_integers(frame_format: PixelFormat, largest: int) -> None:
    pixels = torch.tensor([0, 100.6 / 255, 1]).reshape(1, 3, 1, 1)
    codes = as_integers(pixels, frame_format)
    assert (codes.shape, codes.flags.c_contiguous) == ((1, 1, 1, 3), True)
    assert codes.ravel().tolist() == [0, round(100.6 / 255 * largest), largest]


def test_no_code_is_off_by_more_than_rounding() -> None:
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    exact = pixels.double().permute(0, 2, 3, 1).numpy() * 65_535
    assert np.abs(as_integers(pixels, "yuv444p10le") - exact).max() <= 0.51
    assert (as_rgb(pixels) == np.rint(exact / 257)).mean() > 0.999


def test_the_frames_are_not_changed() -> None:
    pixels = torch.full((1, 3, 2, 2), 0.3)
    as_rgb(pixels)
    assert (pixels == 0.3).all()
