"""Reads from a decoded frame how a viewer sees it: its upright size, its colours and their range, and interlacing."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from longtake.media.tonemap import BT709, PRIMARIES, Primaries, Transfer

# Code points of ITU-T H.273.
_TRANSFERS: dict[int, Transfer] = {16: "pq", 18: "hlg"}
_BT601, _BT2020 = 6, 9
_MATRICES = {1: 1, 4: 4, 5: 6, 6: 6, 7: 7, 9: _BT2020, 10: _BT2020}
"""Code point of a Y'CbCr matrix in ITU-T H.273, as a file states it -> the code point in `PictureFormat.matrix`. Code
points with the same coefficients become the same one."""

_HD_HEIGHT = 720
_LIMITED_RANGE, _FULL_RANGE = 1, 2
TRANSPARENT_NOTE = "Parts of the source are transparent; they are shown over black."
HDR_NOTE = "The source is HDR ({transfer}); the result has the standard range of brightness (SDR, BT.709)."

OPAQUE = 250
"""The least alpha, of 255, that counts as opaque. Lossy codecs do not store an alpha of 255 exactly."""

_WIDEST_PIXEL = 16
"""Largest pixel aspect ratio (width / height) that is used. If a file states a larger one, or one below 1/16, its
pixels are taken as square."""


@dataclass(frozen=True)
class PictureFormat:
    """The facts that are needed to convert the stored frames of a video to pictures.

    width, height: size of the picture in square pixels, after rotation.
    pixel_aspect: width / height of a stored pixel; None means square pixels.
    transposed, flip_x, flip_y: the three steps that bring a stored frame upright: transpose it if `transposed`, then
        reverse its columns if `flip_x`, then reverse its rows if `flip_y`.
    matrix: code point in ITU-T H.273 of the Y'CbCr matrix: 1, 4, 6, 7 or 9.
    full_range: True if codes use the full range (0..255 for 8 bits), False for the limited range (16..235).
    transfer: the transfer function of the codes, such as pq for HDR10; sdr for all video that is not HDR.
    primaries: the chromaticities of the red, green, blue and white of the RGB codes.
    interlaced: True if the first stored frame is interlaced.
    alpha: True if the frames have an alpha channel.
    """

    width: int
    height: int
    pixel_aspect: Fraction | None
    transposed: bool
    flip_x: bool
    flip_y: bool
    matrix: int
    full_range: bool
    transfer: Transfer
    primaries: Primaries
    interlaced: bool
    alpha: bool

    @property
    def turned(self) -> bool:
        """True if stored frames must be rotated or mirrored."""
        return self.transposed or self.flip_x or self.flip_y

    @property
    def bt709_light(self) -> bool:
        """True if RGB codes mean the same colours as in BT.709 video: no HDR curve, and the primaries of BT.709."""
        return self.transfer == "sdr" and self.primaries == BT709


def picture_format(frame: Any, pixel_aspect: Fraction | None) -> PictureFormat:
    """Returns how the frames of a video stream are converted to pictures, according to the tags of its first frame.

    frame: the stream's first decoded frame.
    pixel_aspect: width / height of a stored pixel; None means square pixels.

    A value for which the frame has no tag is assumed:
    - transfer: sdr.
    - matrix: BT.709 if the frame has 720 lines or more, else BT.601, as players do.
    - primaries: those of BT.709, or of BT.2020 if the frame is HDR.
    - range: the limited range, or the full range if the frame is RGB or grey.
    """
    transposed, flip_x, flip_y = _orientation(frame)
    width, height = _square(frame.width, frame.height, pixel_aspect)
    if transposed:
        width, height = height, width
    transfer = _TRANSFERS.get(int(frame.color_trc), "sdr")
    guess = _BT601 if frame.height < _HD_HEIGHT else 1
    coloured = len(frame.format.components) >= 3 and not frame.format.is_rgb
    full = {_LIMITED_RANGE: False, _FULL_RANGE: True}.get(int(frame.color_range), not coloured)
    return PictureFormat(
        width=width,
        height=height,
        pixel_aspect=pixel_aspect,
        transposed=transposed,
        flip_x=flip_x,
        flip_y=flip_y,
        matrix=_MATRICES.get(int(frame.colorspace), guess),
        full_range=full or is_rgb(frame),
        transfer=transfer,
        primaries=PRIMARIES.get(int(frame.color_primaries), BT709 if transfer == "sdr" else PRIMARIES[_BT2020]),
        interlaced=bool(frame.interlaced_frame),
        alpha=any(component.is_alpha for component in frame.format.components),
    )


def is_rgb(frame: Any) -> bool:
    """Returns True if the frame has RGB codes (perhaps in a palette), False if it has luma and chroma."""
    return bool(frame.format.is_rgb or frame.format.has_palette)


def is_transparent(frame: Any) -> bool:
    """Returns True if a pixel of the decoded frame is transparent, by 2 % at least."""
    if not any(component.is_alpha for component in frame.format.components):
        return False
    return bool(frame.reformat(format="rgba").to_ndarray()[..., 3].min() < OPAQUE)


def picture_notes(frame: Any, picture: PictureFormat) -> tuple[str, ...]:
    """Returns sentences for the user about what the result cannot show of a source with this decoded first frame."""
    hdr = HDR_NOTE.format(transfer=picture.transfer.upper()) if picture.transfer != "sdr" else ""
    return tuple(filter(None, (hdr, TRANSPARENT_NOTE if is_transparent(frame) else "")))


def upright_size(frame: Any, source: PictureFormat) -> tuple[int, int]:
    """Returns (width, height) in square pixels of one decoded frame, after rotation.

    `source` is the format of the video, which gives the shape of a pixel and the rotation. The result differs from
    `source.width` and `source.height` if the frame size changes within the video.
    """
    width, height = _square(frame.width, frame.height, source.pixel_aspect)
    return (height, width) if source.transposed else (width, height)


def _orientation(frame: Any) -> tuple[bool, bool, bool]:
    """Returns the fields (transposed, flip_x, flip_y) of PictureFormat for a decoded frame.

    They come from the frame's display matrix, whose rotation is rounded to a multiple of 90 degrees. All are False if
    the frame has none.
    """
    for side_data in frame.side_data:
        if side_data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = (int(number) for number in np.frombuffer(bytes(side_data), "<i4")[:5])
            # The matrix shows a stored position (x, y) at (a x + c y, b x + d y) (ISO 14496-12, 6.2.2).
            if abs(b) + abs(c) > abs(a) + abs(d):
                return True, c < 0, b < 0
            return False, a < 0, d < 0
    return False, False, False


def _square(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """Returns the size (width, height) that a frame of `width` x `height` stored pixels has in square pixels.

    `aspect` is the width / height of a stored pixel; None means that it is square. No detail is lost: one side is
    enlarged, and the other stays as it is.
    """
    if not aspect or not Fraction(1, _WIDEST_PIXEL) <= aspect <= _WIDEST_PIXEL:
        return width, height
    if aspect >= 1:
        return round(width * aspect), height
    return width, round(height / aspect)
