"""Conversion of decoded frames: exact colours, against arithmetic of these tests; planes that stay as they are."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.media.convert import FrameConverter
from longtake.media.formats import PixelFormat
from longtake.media.picture import PictureFormat, picture_format
from longtake.media.planes import unpacked

COLUMNS, ROWS, SIDE = 12, 8, 32
"""The patches of one colour each in a test picture, and a patch's side in pixels."""

WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
"""Code point of a matrix in H.273 -> the weights of red and blue in its luma."""

PRIMARIES = {
    1: ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
D65 = (0.3127, 0.3290)

Colours = NDArray[np.float64]
"""Colours [3, n] in 0..1."""


def in_bt709(rgb: Colours, primaries: int) -> Colours:
    """The codes in BT.709 of the colours with other primaries, with a display gamma of 2.4."""
    matrices = []
    for chosen in (PRIMARIES[primaries], PRIMARIES[1]):
        columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in chosen]).T
        white = np.array((D65[0] / D65[1], 1, (1 - sum(D65)) / D65[1]))
        matrices.append(columns * np.linalg.solve(columns, white))
    light = np.linalg.inv(matrices[1]) @ matrices[0] @ np.clip(rgb, 0, 1) ** 2.4
    return np.asarray(np.sign(light) * np.abs(light) ** (1 / 2.4))


@dataclass(frozen=True)
class Coding:
    """How a stored frame codes its colours."""

    pixel_format: str
    matrix: int = 1
    full: bool = False
    primaries: int = 1

    @property
    def bits(self) -> int:
        bits: int = av.VideoFormat(self.pixel_format, 16, 16).components[0].bits
        return bits

    def scales(self) -> tuple[Colours, Colours]:
        """The factors and offsets [3, 1] from (luma 0..1, chroma -0.5..0.5) to codes."""
        step = 2 ** (self.bits - 8)
        middle = 128 * step
        if self.full:
            return np.full((3, 1), 2**self.bits - 1.0), np.array([[0], [middle], [middle]], float)
        return np.array([[219], [224], [224]], float) * step, np.array([[16 * step], [middle], [middle]], float)

    def codes(self, rgb: Colours) -> Colours:
        """The codes of Y, Cb and Cr, not rounded."""
        red, blue = WEIGHTS[self.matrix]
        luma = red * rgb[0] + (1 - red - blue) * rgb[1] + blue * rgb[2]
        ycc = np.stack([luma, (rgb[2] - luma) / (2 - 2 * blue), (rgb[0] - luma) / (2 - 2 * red)])
        factors, offsets = self.scales()
        return ycc * factors + offsets

    def colours(self, codes: Colours) -> Colours:
        """The RGB colours of codes."""
        red, blue = WEIGHTS[self.matrix]
        factors, offsets = self.scales()
        luma, cb, cr = (codes - offsets) / factors
        r, b = luma + (2 - 2 * red) * cr, luma + (2 - 2 * blue) * cb
        return np.stack([r, (luma - red * r - blue * b) / (1 - red - blue), b])


def patches(seed: int) -> Colours:
    """Colours that all gamuts contain, with a third of greys."""
    generator = np.random.default_rng(seed)
    rgb = generator.uniform(0.2, 0.8, (3, COLUMNS * ROWS))
    rgb[:, ::3] = generator.uniform(0, 1, COLUMNS * ROWS // 3)
    return rgb


def stored(coding: Coding, codes: Colours) -> Any:
    """A decoded frame with the codes [3, n] of one patch each."""
    frame = av.VideoFrame(COLUMNS * SIDE, ROWS * SIDE, coding.pixel_format)
    for plane, values in zip(frame.planes, codes, strict=False):
        grid = values.reshape(ROWS, COLUMNS)
        large = np.kron(grid, np.ones((plane.height // ROWS, plane.width // COLUMNS)))
        rows = np.zeros((plane.height, plane.line_size // (1 if coding.bits <= 8 else 2)))
        rows[:, : plane.width] = large
        plane.update(rows.astype(np.uint8 if coding.bits <= 8 else np.uint16).tobytes())
    frame.colorspace, frame.color_range, frame.color_primaries = (
        coding.matrix,
        2 if coding.full else 1,
        coding.primaries,
    )
    return frame


def patch_means(plane: NDArray[Any]) -> Colours:
    """The mean of the inner half of each patch in a plane [height, width]: [n]."""
    height, width = plane.shape[0] // ROWS, plane.shape[1] // COLUMNS
    cells = plane.reshape(ROWS, height, COLUMNS, width)
    return np.asarray(cells[:, height // 4 : -height // 4, :, width // 4 : -width // 4].mean((1, 3)).ravel())


def result_planes(result: Any, pixel_format: PixelFormat) -> list[NDArray[Any]]:
    if pixel_format == "rgb24":
        return [result[..., channel] for channel in range(3)]
    if pixel_format == "yuv444p10le":
        return list(result)
    height = result.shape[0] * 2 // 3
    return [result[:height], *result[height:].reshape(2, height // 2, -1)]


def upright(frame: Any, **changes: Any) -> PictureFormat:
    facts = {**vars(picture_format(frame, None)), **changes}
    return PictureFormat(**facts)


def errors(frame: Any, source: PictureFormat, wanted: Colours, pixel_format: PixelFormat, share: Fraction) -> Colours:
    """The differences [3, n] in 8-bit codes between the result at `share` of the size and the colours `wanted`."""
    size = int(source.width * share), int(source.height * share)
    result = FrameConverter(source, size, pixel_format).convert(frame)
    found = np.stack([patch_means(plane) for plane in result_planes(result, pixel_format)])
    coding = Coding("yuv444p10le" if pixel_format == "yuv444p10le" else "yuv420p")
    right = wanted * 255 if pixel_format == "rgb24" else coding.codes(wanted)
    return np.asarray((found - right) / 2 ** (coding.bits - 8))


STORED = [
    *(Coding(format_) for format_ in ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p12le")),
    *(Coding("yuv420p", matrix, full) for matrix in (1, 5, 6, 7, 9) for full in (False, True)),
    *(Coding("yuv420p10le", matrix, full) for matrix in (1, 6, 9) for full in (False, True)),
    *(Coding("yuv444p", 6, full) for full in (False, True)),
    *(Coding(format_, 1, full) for format_ in ("yuv420p16le", "yuv422p16le") for full in (False, True)),
    *(Coding("yuv420p", 6, primaries=primaries) for primaries in (5, 6)),
    *(Coding("yuv420p10le", 9, full, 9) for full in (False, True)),
    *(Coding(format_, 1, primaries=12) for format_ in ("yuv420p", "yuv420p10le")),
]


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p10le", "rgb24"])
@pytest.mark.parametrize("coding", STORED, ids=str)
def test_colours_do_not_shift(coding: Coding, pixel_format: PixelFormat) -> None:
    codes = np.rint(coding.codes(patches(1)))
    frame = stored(coding, codes)
    wanted = in_bt709(coding.colours(codes), coding.primaries)
    inside = ((wanted >= 0) & (wanted <= 1)).all(axis=0)
    for share in (Fraction(1), Fraction(1, 2), Fraction(3, 2)):
        wrong = errors(frame, picture_format(frame, None), wanted, pixel_format, share)[:, inside]
        assert np.abs(wrong.mean(axis=1)).max() <= 0.1
        assert np.abs(wrong).max() <= (0.26 if pixel_format == "yuv444p10le" else 0.75)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 6])
def test_turned_frames_keep_their_colours(matrix: int, full: bool) -> None:
    coding = Coding("yuv420p", matrix, full)
    codes = np.rint(coding.codes(patches(2)))
    frame = stored(coding, codes)
    wanted = coding.colours(codes).reshape(3, ROWS, COLUMNS)[:, ::-1, ::-1].reshape(3, -1)
    for pixel_format in ("yuv420p", "yuv444p10le", "rgb24"):
        wrong = errors(frame, upright(frame, flip_x=True, flip_y=True), wanted, pixel_format, Fraction(1))
        inside = ((wanted >= 0) & (wanted <= 1)).all(axis=0)
        assert np.abs(wrong[:, inside].mean(axis=1)).max() <= 0.1
        assert np.abs(wrong[:, inside]).max() <= 0.75


@pytest.mark.parametrize(("name", "bits"), [("gbrp", 8), ("gbrp10le", 10), ("gbrp12le", 12), ("gbrp16le", 16)])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p10le", "rgb24"])
def test_rgb_frames_keep_their_colours(name: str, bits: int, pixel_format: PixelFormat) -> None:
    codes = np.rint(patches(3) * (2**bits - 1))
    frame = stored(Coding(name), codes[[1, 2, 0]])
    frame.colorspace = 0
    for share in (Fraction(1), Fraction(3, 2)):
        wrong = errors(frame, picture_format(frame, None), codes / (2**bits - 1), pixel_format, share)
        assert np.abs(wrong.mean(axis=1)).max() <= 0.1
        assert np.abs(wrong).max() <= 0.75


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("name", "bits"), [("gray", 8), ("gray10le", 10), ("gray16le", 16)])
def test_grey_frames_keep_their_tagged_range(name: str, bits: int, full: bool) -> None:
    levels = np.linspace(0, 1, COLUMNS * ROWS)
    coding = Coding(name, full=full)
    factors, offsets = coding.scales()
    codes = np.rint(levels * factors[0] + offsets[0])
    frame = stored(coding, codes[None])
    wanted = np.repeat((codes - offsets[0])[None] / factors[0], 3, axis=0)
    for pixel_format in ("yuv420p", "rgb24"):
        wrong = errors(frame, picture_format(frame, None), wanted, pixel_format, Fraction(1))
        assert np.abs(wrong.mean(axis=1)).max() <= 0.1
        assert np.abs(wrong).max() <= 0.75


def noise(pixel_format: str, width: int = 64, height: int = 48) -> Any:
    generator = np.random.default_rng(0)
    frame = av.VideoFrame(width, height, pixel_format)
    for plane in frame.planes:
        plane.update(generator.integers(16, 236, (plane.height, plane.line_size), dtype=np.uint8).tobytes())
    frame.colorspace, frame.color_range, frame.color_primaries = 1, 1, 1
    return frame


def test_planes_of_the_same_format_stay_as_they_are() -> None:
    frame = noise("yuv420p")
    kept = unpacked(FrameConverter(picture_format(frame, None), None, "yuv420p").convert(frame), "yuv420p")
    for before, after in zip(frame.planes, kept.planes, strict=True):
        rows = [np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width] for plane in (before, after)]
        np.testing.assert_array_equal(rows[0], rows[1])


@pytest.mark.parametrize("size", [(63, 48), (64, 47), (63, 47)])
def test_of_an_odd_size_only_the_last_pixel_is_cut_off(size: tuple[int, int]) -> None:
    frame = noise("yuv420p", *size)
    even = size[0] // 2 * 2, size[1] // 2 * 2
    kept = FrameConverter(picture_format(frame, None), even, "yuv420p").convert(frame)
    for plane, after, scale in zip(frame.planes, result_planes(kept, "yuv420p"), (1, 2, 2), strict=True):
        before = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
        np.testing.assert_array_equal(
            after.reshape(even[1] // scale, -1), before[: even[1] // scale, : even[0] // scale]
        )


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "yuv444p"])
@pytest.mark.parametrize("turned", [{}, {"flip_x": True, "flip_y": True}])
def test_colours_of_an_odd_size_are_converted(pixel_format: str, turned: dict[str, bool]) -> None:
    """Of a grey frame with a brighter border of one pixel, the border at the right and at the bottom is cut off."""
    frame = noise(pixel_format, 63, 47)
    frame.colorspace = 6
    deep = 4 if pixel_format.endswith("10le") else 1
    for number, plane in enumerate(frame.planes):
        rows = np.full((plane.height, plane.line_size // (1 if deep == 1 else 2)), deep * (128 if number else 60))
        if not number:
            rows[[0, -1]] = rows[:, [0, plane.width - 1]] = deep * 180
        plane.update(rows.astype(np.uint8 if deep == 1 else np.uint16).tobytes())
    luma = result_planes(FrameConverter(upright(frame, **turned), (62, 46), "yuv420p").convert(frame), "yuv420p")[0]
    assert luma[0].min() == luma[:, 0].min() == 180
    assert luma[1:, 1:].max() == 60


def test_ten_bits_stay_ten_bits() -> None:
    coding = Coding("yuv444p10le")
    codes = np.random.default_rng(0).integers(64, 940, (3, COLUMNS * ROWS)).astype(float)
    frame = stored(coding, codes)
    kept = FrameConverter(picture_format(frame, None), None, "yuv444p10le").convert(frame)
    np.testing.assert_array_equal([patch_means(plane) for plane in kept], codes)


def test_the_crop_is_the_same_in_all_formats() -> None:
    """A bright square is found at the same place in the planes and in the RGB picture."""
    frame = noise("yuv420p", 256, 96)
    for plane, level, scale in zip(frame.planes, (40, 128, 128), (1, 2, 2), strict=True):
        rows = np.full((plane.height, plane.line_size), level, np.uint8)
        rows[40 // scale : 56 // scale, 120 // scale : 136 // scale] = 200 if scale == 1 else 90
        plane.update(rows.tobytes())
    places = []
    for pixel_format in ("yuv420p", "yuv444p10le", "rgb24"):
        result = FrameConverter(picture_format(frame, None), (150, 96), pixel_format).convert(frame)
        for plane in result_planes(result, pixel_format):
            step = 150 // plane.shape[1]
            rows, columns = np.nonzero(np.abs(plane.astype(int) - int(plane[0, 0])) > 20)
            places.append([rows.mean() * step, columns.mean() * step])
    assert np.ptp(np.array(places), axis=0).max() <= 1


def test_a_frame_of_another_size_keeps_the_shape_of_its_things() -> None:
    first, later = noise("yuv420p", 64, 64), noise("yuv420p", 128, 96)
    for plane, scale in zip(later.planes, (1, 2, 2), strict=True):
        rows = np.full((plane.height, plane.line_size), 40 if scale == 1 else 128, np.uint8)
        if scale == 1:
            rows[32:64, 48:80] = 200
        plane.update(rows.tobytes())
    result = FrameConverter(picture_format(first, None), None, "rgb24").convert(later)
    rows, columns = np.nonzero(result[..., 0] > 120)
    assert result.shape == (64, 64, 3)
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 1
