"""Frames as arrays: layouts, and exact conversion of RGB pictures."""

import numpy as np
import pytest

from longtake.media.formats import PixelFormat
from longtake.media.planes import (
    Planes,
    eight_bit,
    frame_of,
    frame_shape,
    frame_type,
    from_rgb,
    packed,
    planes_of,
    unpacked,
)

FORMATS: tuple[PixelFormat, ...] = ("rgb24", "yuv420p", "yuv444p10le")


def test_eight_bits_are_the_nearest_codes() -> None:
    codes = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256, 1)
    exact = codes.astype(float) / 257
    assert np.abs(eight_bit(codes) - exact).max() <= 0.51
    eight = np.arange(256, dtype=np.uint8)
    assert (eight_bit(eight.astype(np.uint16) * 257) == eight).all()
    assert (eight_bit(eight) == eight).all()


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_an_array_has_the_stated_shape_and_type(pixel_format: PixelFormat) -> None:
    frame = from_rgb(np.zeros((48, 66, 3), np.uint8), pixel_format)
    assert frame.shape == frame_shape(pixel_format, 66, 48)
    assert frame.dtype == frame_type(pixel_format)


@pytest.mark.parametrize("height", [48, 50])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p10le"])
def test_planes_survive_a_round_trip(pixel_format: PixelFormat, height: int) -> None:
    """The width of 66 pixels is no multiple of the alignment of a frame's rows."""
    shape, dtype = frame_shape(pixel_format, 66, height), frame_type(pixel_format)
    array: Planes = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    frame = unpacked(array, pixel_format)
    assert (frame.width, frame.height, frame.format.name) == (66, height, pixel_format)
    assert (int(frame.colorspace), int(frame.color_range), int(frame.color_primaries), int(frame.color_trc)) == (
        1,
        1,
        1,
        1,
    )
    np.testing.assert_array_equal(packed(planes_of(frame), pixel_format), array)
    np.testing.assert_array_equal(packed(planes_of(frame_of(planes_of(frame), pixel_format)), pixel_format), array)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(("pixel_format", "step"), [("yuv420p", 1), ("yuv444p10le", 4)])
def test_rgb_is_converted_exactly(pixel_format: PixelFormat, step: int, deep: bool) -> None:
    """Against BT.709's formula, with a square of 32 pixels of each colour. Dithering is averaged over 8 x 8 codes."""
    rgb = np.random.default_rng(1).integers(0, 256, (3, 100)) / 255
    luma = 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]
    codes = [16 + 219 * luma, 128 + 224 * (rgb[2] - luma) / 1.8556, 128 + 224 * (rgb[0] - luma) / 1.5748]
    row = np.rint(rgb.T * (65535 if deep else 255)).astype(np.uint16 if deep else np.uint8).repeat(32, axis=0)
    frame = unpacked(from_rgb(np.repeat(row[None], 32, axis=0), pixel_format), pixel_format)
    for plane, exact in zip(planes_of(frame), codes, strict=True):
        side = plane.shape[0]
        squares = plane.reshape(side, 100, side)[side // 4 : -side // 4, :, side // 4 : -side // 4]
        wrong = squares.mean(axis=(0, 2)) / step - exact
        assert abs(wrong.mean()) <= 0.1
        assert np.abs(wrong).max() <= 0.75
