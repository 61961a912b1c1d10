"""How a decoded frame becomes the RGB picture that a viewer sees: colour, alpha, square pixels, turned and mirrored."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from longtake.media.tonemap import to_sdr
from longtake.video import Transfer

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
_SCALER = Interpolation.LANCZOS | Interpolation.ACCURATE_RND


@dataclass(frozen=True)
class Look:
    """How the stored pictures are shown.

    `width, height` are as seen; the stored picture is transposed if `transposed`, then its columns (`flip_x`) and
    rows (`flip_y`) reversed. `matrix` is swscale's number of the Y'CbCr matrix.
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
    bit_depth: int

    @property
    def mirrored(self) -> bool:
        return self.transposed ^ self.flip_x ^ self.flip_y

    @property
    def rotation(self) -> int:
        """Degrees clockwise by which the stored picture is turned (after mirroring left to right, if mirrored)."""
        if self.transposed:
            return 90 if self.flip_x else 270
        return 180 if self.flip_y else 0


def look_of(frame: Any, pixel_aspect: Fraction | None) -> Look:
    """The look of the stream whose first frame this is.

    An untagged matrix is guessed: BT.709 from 720 lines on, else BT.601 (what players do).
    """
    transposed, flip_x, flip_y = _orientation(frame)
    width, height = _square(frame.width, frame.height, pixel_aspect)
    if transposed:
        width, height = height, width
    guess = Colorspace.ITU709 if frame.height >= _HD_HEIGHT else Colorspace.ITU601
    components = frame.format.components
    return Look(
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
        alpha=any(component.is_alpha for component in components),
        bit_depth=max((component.bits for component in components), default=8),
    )


class Developer:
    """Turns decoded frames of one look into RGB uint8 [height, width, 3] of one size (`width, height`)."""

    def __init__(self, look: Look, size: tuple[int, int] | None) -> None:
        self._look = look
        width, height = size or (look.width, look.height)
        self._size = width, height
        scale = max(Fraction(width, look.width), Fraction(height, look.height))
        self._covering = max(width, round(look.width * scale)), max(height, round(look.height * scale))
        self._swscale = VideoReformatter()

    def develop(self, frame: Any) -> NDArray[np.uint8]:
        look = self._look
        width, height = self._covering[::-1] if look.transposed else self._covering
        hdr = look.transfer != "sdr" or look.wide_gamut
        format_ = "rgb48le" if hdr else "rgba" if look.alpha else "rgb24"
        picture: NDArray[Any] = self._swscale.reformat(
            frame,
            width=width,
            height=height,
            format=format_,
            src_colorspace=look.matrix,
            src_color_range=ColorRange.JPEG if look.full_range or frame.format.is_rgb else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=_SCALER if (width, height) != (frame.width, frame.height) else Interpolation.BICUBIC,
        ).to_ndarray()
        if look.alpha and not hdr:
            picture = _on_black(picture)
        picture = self._turned_and_cropped(picture)
        return to_sdr(picture, look.transfer) if hdr else picture

    def _turned_and_cropped(self, picture: NDArray[Any]) -> NDArray[Any]:
        if self._look.transposed:
            picture = picture.transpose(1, 0, 2)
        if self._look.flip_x:
            picture = picture[:, ::-1]
        if self._look.flip_y:
            picture = picture[::-1]
        width, height = self._size
        left, top = (self._covering[0] - width) // 2, (self._covering[1] - height) // 2
        return picture[top : top + height, left : left + width]


def _on_black(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Straight alpha over black; opaque pixels keep their very values."""
    weighted = picture[..., :3].astype(np.uint16) * picture[..., 3:] + 127
    return (weighted // 255).astype(np.uint8)


def _orientation(frame: Any) -> tuple[bool, bool, bool]:
    """(transposed, flip_x, flip_y) of the display matrix: x' = a x + c y, y' = b x + d y (ISO 14496-12, 6.2.2)."""
    for side_data in frame.side_data:
        if side_data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = (int(number) for number in np.frombuffer(bytes(side_data), "<i4")[:5])
            if abs(b) + abs(c) > abs(a) + abs(d):
                return True, c < 0, b < 0
            return False, a < 0, d < 0
    return False, False, False


def _square(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """The size in square pixels: the short side of a pixel is stretched, so that nothing is thrown away."""
    if not aspect or not Fraction(1, _WIDEST_PIXEL) <= aspect <= _WIDEST_PIXEL:
        return width, height
    if aspect >= 1:
        return round(width * aspect), height
    return width, round(height / aspect)
