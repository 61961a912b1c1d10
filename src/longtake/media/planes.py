"""Frames as arrays in the pixel formats of output files, and the conversion of RGB pictures to these formats."""

from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from longtake.media.formats import PixelFormat

Codes = NDArray[np.unsignedinteger[Any]]
"""An array of uint8 or uint16."""

Planes = Codes
"""One frame as an array of uint8 or uint16, or several frames along a first axis. Its shape depends on the pixel format
(see `frame_shape`), such as [H * 3/2, W] for yuv420p."""

RGBPicture = Codes
"""An RGB picture [H, W, 3]: uint8 with codes 0..255, or uint16 with codes 0..65535."""

RGBFrames = NDArray[np.uint8]
"""Frames [t, H, W, 3], or one frame [H, W, 3], in 0..255."""

Plane = Codes
"""One plane [height, width] of a frame."""

EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
"""swscale's options for correct rounding. Without them, RGB pictures that it makes from Y'CbCr are too dark."""

_BT709 = 1
"""Code point of BT.709 in ITU-T H.273, for the matrix, the primaries and the transfer function."""

_LIMITED_RANGE = 1
"""FFmpeg's AVCOL_RANGE_MPEG."""


def frame_shape(pixel_format: PixelFormat, width: int, height: int) -> tuple[int, ...]:
    """Returns the shape of the array that holds one frame of `width` x `height` pixels in `pixel_format`."""
    shapes: dict[PixelFormat, tuple[int, ...]] = {
        "rgb24": (height, width, 3),
        "yuv420p": (height * 3 // 2, width),
        "yuv444p10le": (3, height, width),
    }
    return shapes[pixel_format]


def frame_type(pixel_format: PixelFormat) -> type[np.uint8] | type[np.uint16]:
    """Returns the element type of arrays that hold frames in `pixel_format`."""
    return np.uint16 if pixel_format == "yuv444p10le" else np.uint8


def eight_bit(picture: RGBPicture) -> NDArray[np.uint8]:
    """Returns the picture as uint8: 16-bit codes are scaled to 0..255 and rounded, 8-bit codes are unchanged."""
    if picture.dtype == np.uint8:
        return picture.astype(np.uint8, copy=False)
    # code / 257 in 16 bits: `code - (code >> 8)` is code * 255 / 256, so that white is 255 * 256.
    return ((picture - (picture >> 8) + 128) >> 8).astype(np.uint8)


def tag_bt709(target: Any) -> None:
    """Tags a codec context or a frame as limited-range BT.709. The ProRes encoder reads only the tags of frames."""
    target.color_range = _LIMITED_RANGE
    target.colorspace = target.color_primaries = target.color_trc = _BT709


def from_rgb(picture: RGBPicture, pixel_format: PixelFormat) -> Planes:
    """Converts an RGB picture [H, W, 3] with BT.709 primaries to one frame in `pixel_format`.

    For yuv420p, H and W must be even.
    """
    if pixel_format == "rgb24":
        return eight_bit(picture)
    deep = picture.dtype == np.uint16
    # swscale expects white to be 255 * 256, not 65535.
    codes = picture - (picture >> 8) if deep else picture
    source = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(codes), format="rgb48le" if deep else "rgb24")
    frame = VideoReformatter().reformat(
        source,
        format=pixel_format,
        src_color_range=ColorRange.JPEG,
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation=Interpolation.BICUBIC | EXACT,
    )
    return packed(planes_of(frame), pixel_format)


def planes_of(frame: Any) -> list[Plane]:
    """Returns the planes of a decoded planar frame, each an array [height, width]. They share the frame's memory."""
    dtype = np.dtype(np.uint16 if frame.format.components[0].bits > 8 else np.uint8)
    rows = [np.frombuffer(plane, dtype).reshape(plane.height, -1) for plane in frame.planes]
    return [row[:, : plane.width] for row, plane in zip(rows, frame.planes, strict=True)]


def packed(planes: list[Plane], pixel_format: PixelFormat) -> Planes:
    """Returns the planes Y, Cb and Cr of one frame as an array in the layout of `pixel_format`, which is not rgb24."""
    if pixel_format == "yuv444p10le":
        return np.stack(planes)
    return np.concatenate([plane.reshape(-1) for plane in planes]).reshape(-1, planes[0].shape[1])


def frame_of(planes: list[Plane], pixel_format: str) -> Any:
    """Returns a PyAV frame of the planar format `pixel_format` with the planes Y, Cb and Cr, each [height, width]."""
    frame = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], pixel_format)
    for plane, values in zip(frame.planes, planes, strict=True):
        row_length = plane.line_size // values.itemsize
        padded = np.pad(values, ((0, 0), (0, row_length - plane.width))) if row_length > plane.width else values
        plane.update(np.ascontiguousarray(padded))
    return frame


def unpacked(planes: Planes, pixel_format: PixelFormat) -> Any:
    """Converts one frame in the layout of `pixel_format` to a PyAV frame. A Y'CbCr frame is tagged as limited-range
    BT.709.

    An RGB array is not copied, so it must not be changed while the frame is in use.
    """
    if pixel_format == "rgb24":
        return av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(planes), format=pixel_format)
    if pixel_format == "yuv420p":
        height, width = planes.shape[0] * 2 // 3, planes.shape[1]
        separate = [planes[:height], *planes[height:].reshape(2, height // 2, width // 2)]
    else:
        separate = list(planes)
    frame = frame_of(separate, pixel_format)
    tag_bt709(frame)
    return frame
