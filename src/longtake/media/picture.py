"""Converts decoded frames to RGB pictures as a viewer sees them: converts colours, blends alpha, scales and rotates."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from longtake.media.tonemap import Transfer, to_sdr

# Code points of ITU-T H.273.
_PQ, _HLG, _BT2020 = 16, 18, 9
_TRANSFERS: dict[int, Transfer] = {_PQ: "pq", _HLG: "hlg"}
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
_HD_HEIGHT = 720
_FULL_RANGE = 2
_WIDEST_PIXEL = 16
"""Largest pixel aspect ratio (width / height) that is used. If a file states a larger one, or one below 1/16, its
pixels are read as square."""

_SCALER = Interpolation.LANCZOS | Interpolation.ACCURATE_RND


@dataclass(frozen=True)
class PictureFormat:
    """The facts that are needed to convert the stored frames of a video to pictures.

    width, height: size of the picture in square pixels, after rotation.
    transposed, flip_x, flip_y: the three steps that bring a stored frame upright: transpose it if `transposed`, then
        reverse its columns if `flip_x`, then reverse its rows if `flip_y`.
    matrix: swscale's number of the Y'CbCr matrix.
    full_range: True if codes use the full range (0..255 for 8 bits), False for the limited range (16..235).
    wide_gamut: True if the colours have BT.2020 primaries.
    interlaced: True if the first stored frame is interlaced.
    alpha: True if the frames have an alpha channel.
    """

    width: int
    height: int
    transposed: bool
    flip_x: bool
    flip_y: bool
    matrix: int
    full_range: bool
    transfer: Transfer
    wide_gamut: bool
    interlaced: bool
    alpha: bool


def picture_format(frame: Any, pixel_aspect: Fraction | None) -> PictureFormat:
    """Returns how the frames of a video stream are converted to pictures.

    `frame` is the stream's first decoded frame. `pixel_aspect` is the width / height of a pixel; None means square
    pixels.
    Frames without a matrix tag are read as BT.709 if they have 720 lines or more, else as BT.601, as players do.
    """
    transposed, flip_x, flip_y = _orientation(frame)
    width, height = _square(frame.width, frame.height, pixel_aspect)
    if transposed:
        width, height = height, width
    guess = Colorspace.ITU709 if frame.height >= _HD_HEIGHT else Colorspace.ITU601
    return PictureFormat(
        width=width,
        height=height,
        transposed=transposed,
        flip_x=flip_x,
        flip_y=flip_y,
        matrix=int(_MATRICES.get(int(frame.colorspace), guess)),
        full_range=int(frame.color_range) == _FULL_RANGE,
        transfer=_TRANSFERS.get(int(frame.color_trc), "sdr"),
        wide_gamut=int(frame.color_primaries) == _BT2020,
        interlaced=bool(frame.interlaced_frame),
        alpha=any(component.is_alpha for component in frame.format.components),
    )


class FrameConverter:
    """Converts decoded frames of the format `source` to 8-bit RGB pictures of `size` (width, height) in pixels.

    If `size` is None, the pictures have the size that `source` states. If `size` has another aspect ratio than
    `source`, frames are scaled to cover it and cropped at the centre.
    """

    def __init__(self, source: PictureFormat, size: tuple[int, int] | None) -> None:
        self._source = source
        width, height = size or (source.width, source.height)
        self._size = width, height
        scale = max(Fraction(width, source.width), Fraction(height, source.height))
        self._scaled_size = max(width, round(source.width * scale)), max(height, round(source.height * scale))
        self._swscale = VideoReformatter()

    def convert(self, frame: Any) -> NDArray[np.uint8]:
        """Returns the picture [height, width, 3] of a decoded frame."""
        source = self._source
        width, height = self._scaled_size[::-1] if source.transposed else self._scaled_size
        hdr = source.transfer != "sdr" or source.wide_gamut
        format_ = "rgb48le" if hdr else "rgba" if source.alpha else "rgb24"
        picture: NDArray[Any] = self._swscale.reformat(
            frame,
            width=width,
            height=height,
            format=format_,
            src_colorspace=source.matrix,
            src_color_range=ColorRange.JPEG if source.full_range or frame.format.is_rgb else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=_SCALER if (width, height) != (frame.width, frame.height) else Interpolation.BICUBIC,
        ).to_ndarray()
        if source.alpha and not hdr:
            picture = _on_black(picture)
        picture = self._turn_and_crop(picture)
        return to_sdr(picture, source.transfer) if hdr else picture

    def _turn_and_crop(self, picture: NDArray[Any]) -> NDArray[Any]:
        if self._source.transposed:
            picture = picture.transpose(1, 0, 2)
        if self._source.flip_x:
            picture = picture[:, ::-1]
        if self._source.flip_y:
            picture = picture[::-1]
        width, height = self._size
        left, top = (self._scaled_size[0] - width) // 2, (self._scaled_size[1] - height) // 2
        return picture[top : top + height, left : left + width]


def _on_black(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns RGB [H, W, 3] for RGBA [H, W, 4] with straight alpha, blended over black. Opaque pixels are unchanged."""
    weighted = picture[..., :3].astype(np.uint16) * picture[..., 3:] + 127
    return (weighted // 255).astype(np.uint8)


def _orientation(frame: Any) -> tuple[bool, bool, bool]:
    """Returns (transposed, flip_x, flip_y) of PictureFormat from the frame's display matrix; all False without one.

    The matrix maps a stored position (x, y) to the displayed position (x', y'):
    x' = a x + c y and y' = b x + d y (ISO 14496-12, 6.2.2).
    """
    for side_data in frame.side_data:
        if side_data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = (int(number) for number in np.frombuffer(bytes(side_data), "<i4")[:5])
            if abs(b) + abs(c) > abs(a) + abs(d):
                return True, c < 0, b < 0
            return False, a < 0, d < 0
    return False, False, False


def _square(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """Returns the size (width, height) that a frame of `width` x `height` stored pixels has in square pixels.

    `aspect` is the width / height of a stored pixel; None means that it is square. One side is enlarged; the other is
    unchanged, not reduced, so that no detail is lost.
    """
    if not aspect or not Fraction(1, _WIDEST_PIXEL) <= aspect <= _WIDEST_PIXEL:
        return width, height
    if aspect >= 1:
        return round(width * aspect), height
    return width, round(height / aspect)
