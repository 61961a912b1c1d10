"""Converts decoded frames to RGB pictures for a model, or to planes for an encoder, without a shift of their colours.

The first of these ways that is possible is used for each frame:
1. Its planes stay as they are, because its format, size and colours are those of the output.
2. Its planes are resampled, and converted from its Y'CbCr matrix and range to those of the output.
3. It is converted to RGB. This is needed in each of these cases: the output is RGB, the source has RGB or alpha, the
   source is HDR, or its primaries are not those of BT.709.

Each conversion rounds, and a shift of half a code would add up when a result is extended again and again. So as few
conversions as possible are made, and only those of swscale that round correctly are used (docs/media.md has the
measurements).
"""

from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from longtake.media.formats import PixelFormat
from longtake.media.picture import PictureFormat, is_rgb, upright_size
from longtake.media.planes import EXACT, Plane, Planes, RGBPicture, frame_of, from_rgb, packed, planes_of
from longtake.media.tonemap import to_sdr

_SWSCALE_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
_FILTER_MATRICES = {1: "bt709", 4: "fcc", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc"}
"""Code point of a Y'CbCr matrix (see PictureFormat.matrix) -> its name in FFmpeg's filter `colorspace`."""

_BT709 = 1

_MOST_BITS = 14
"""When swscale reduces the bit depth of Y'CbCr, it rounds codes of up to this many bits, but truncates 16-bit codes."""

_SHIFTED_WHITE = 255 << 8
"""The code of white in the 16-bit RGB that swscale makes from limited-range codes."""


class FrameConverter:
    """Converts decoded frames of a video to arrays that all have one size and one pixel format.

    source: the format of the video's frames, such as their colours and rotation.
    size: (width, height) of the result in pixels; None means the size in `source`. Each frame is scaled to cover this
        size and cropped at its centre. So the decoded frames of a video may differ in size.
    pixel_format: the format of the result (see formats.PixelFormat).
    """

    def __init__(self, source: PictureFormat, size: tuple[int, int] | None, pixel_format: PixelFormat) -> None:
        self._source = source
        self._size = size or (source.width, source.height)
        self._pixel_format = pixel_format
        self._swscale = VideoReformatter()
        self._colours: tuple[tuple[int, int, str], av.filter.Graph] | None = None

    def convert(self, frame: Any) -> Planes:
        """Returns one decoded PyAV frame as an array in the converter's pixel format (see formats.PixelFormat)."""
        if len(frame.format.components) == 1 and not is_rgb(frame):
            frame = self._with_chroma(frame)
        direct = self._source.bt709_light and not self._source.alpha and not is_rgb(frame)
        if direct and self._pixel_format != "rgb24":
            if frame.format.components[0].bits > _MOST_BITS:
                frame = self._shallower(frame)
            return packed(self._y_cb_cr(frame), self._pixel_format)
        return from_rgb(self._rgb(frame), self._pixel_format)

    def _y_cb_cr(self, frame: Any) -> list[Plane]:
        """Returns the frame as upright planes Y, Cb and Cr of the result's size, in the converter's pixel format, with
        limited-range BT.709 colours.
        """
        source, wanted = self._source, self._pixel_format
        same_colours = source.matrix == _BT709 and not source.full_range
        if same_colours and not source.turned:
            return self._cropped(planes_of(self._resampled(frame, wanted)), frame)
        sampling = "yuv444p" if source.turned else wanted.removesuffix("10le")
        resampled = self._resampled(frame, sampling + _depth_suffix(frame))
        if not same_colours:
            resampled = self._in_bt709(resampled, sampling + wanted[len("yuv444p") :])
        if not source.turned:
            return self._cropped(planes_of(resampled), frame)
        upright = self._cropped([self._turned(plane) for plane in planes_of(resampled)], frame)
        format_ = resampled.format.name
        return planes_of(self._swscale.reformat(frame_of(upright, format_), format=wanted, interpolation=EXACT))

    def _rgb(self, frame: Any) -> RGBPicture:
        """Returns the frame as an upright RGB picture of the result's size, with BT.709 colours.

        It is uint16 if the frame has more than 8 bits, is HDR or has primaries other than BT.709, otherwise uint8.
        """
        source, bits = self._source, min(max(frame.format.components[0].bits, 8), 16)
        deep = bits > 8 or not source.bt709_light
        planar = ("gbrap" if source.alpha else "gbrp") + ("16le" if deep else "")
        picture: NDArray[Any] = self._resampled(frame, planar).to_ndarray()
        (picture,) = self._cropped([self._turned(picture)], frame)
        colours, alpha = picture[..., :3], picture[..., 3:]
        if deep:
            full_white = ((1 << bits) - 1) << (16 - bits)
            colours = _stretched(colours, full_white if source.full_range else _SHIFTED_WHITE)
            alpha = _stretched(alpha, full_white)
        if source.alpha:
            colours = _on_black(colours, alpha)
        return colours if source.bt709_light else to_sdr(colours, source.transfer, source.primaries)

    def _resampled(self, frame: Any, pixel_format: str) -> Any:
        """Returns the decoded frame in FFmpeg's format `pixel_format`, scaled but neither rotated nor cropped.

        The caller rotates the result later. It then has the frame's aspect ratio, and is at least as wide and high as
        the converter's output, so that it can be cropped to that size. A Y'CbCr result keeps the frame's own matrix and
        range; an RGB result has the full range.
        """
        width, height = self._scaled_size(frame)
        if self._source.transposed:
            width, height = height, width
        same_size = (width, height) == (frame.width, frame.height)
        if same_size and frame.format.name == pixel_format:
            return frame
        own_range = ColorRange.JPEG if self._source.full_range else ColorRange.MPEG
        return self._swscale.reformat(
            frame,
            width=width,
            height=height,
            format=pixel_format,
            src_colorspace=_SWSCALE_MATRICES[self._source.matrix],
            dst_colorspace=_SWSCALE_MATRICES[self._source.matrix],
            src_color_range=own_range,
            dst_color_range=ColorRange.JPEG if pixel_format.startswith("gbr") else own_range,
            interpolation=EXACT | (Interpolation.BICUBIC if same_size else Interpolation.LANCZOS),
        )

    def _scaled_size(self, frame: Any) -> tuple[int, int]:
        """Returns the (width, height) in pixels to which the upright frame is scaled before it is cropped.

        This size has the frame's aspect ratio, and is at least as wide and as high as the converter's result. A frame
        that is already as large as the result, or one pixel larger, keeps its size.
        """
        own, (width, height) = upright_size(frame, self._source), self._size
        if own[0] - width in (0, 1) and own[1] - height in (0, 1):
            return own
        scale = max(Fraction(width, own[0]), Fraction(height, own[1]))
        # A side that will be cropped has an even length, because planes of subsampled colours have half of it.
        return max(width, 2 * round(own[0] * scale / 2)), max(height, 2 * round(own[1] * scale / 2))

    def _cropped(self, planes: list[Plane], frame: Any) -> list[Plane]:
        """Returns the planes of one frame cropped at their centre to the size of the converter's result.

        planes: upright planes [height, width] or pictures [height, width, channels]. Planes of subsampled colours are
            smaller, and their results are smaller, too.
        frame: the decoded frame that was scaled and turned into these planes.
        """
        (scaled_width, scaled_height), (width, height) = self._scaled_size(frame), self._size
        # Even offsets are whole pixels in planes of half the size too.
        left, top = (scaled_width - width) // 4 * 2, (scaled_height - height) // 4 * 2
        centres = []
        for plane in planes:
            down, across = round(scaled_height / plane.shape[0]), round(scaled_width / plane.shape[1])
            centres.append(
                plane[top // down : (top + height) // down, left // across : (left + width) // across],
            )
        return centres

    def _turned(self, plane: NDArray[Any]) -> NDArray[Any]:
        """Returns a plane or a picture of a stored frame, rotated and mirrored so that it is upright."""
        if self._source.transposed:
            plane = plane.swapaxes(0, 1)
        if self._source.flip_x:
            plane = plane[:, ::-1]
        return plane[::-1] if self._source.flip_y else plane

    def _in_bt709(self, frame: Any, pixel_format: str) -> Any:
        """Converts a Y'CbCr frame to the BT.709 matrix, limited range and the bit depth of `pixel_format`.

        `pixel_format` must have the frame's chroma sampling.
        """
        shapes = [plane.shape for plane in planes_of(frame)]
        is_odd = frame.width % 2 or frame.height % 2
        if is_odd:
            frame = _even(frame)
        key = frame.width, frame.height, frame.format.name
        if self._colours is None or self._colours[0] != key:
            self._colours = key, _colour_filter(frame, self._source, pixel_format)
        _, graph = self._colours
        graph.vpush(frame)
        converted = graph.vpull()
        if not is_odd:
            return converted
        own = [plane[:height, :width] for plane, (height, width) in zip(planes_of(converted), shapes, strict=True)]
        return frame_of(own, converted.format.name)

    def _shallower(self, frame: Any) -> Any:
        """Returns a 16-bit Y'CbCr frame converted to 12 bits. Its codes are rounded; its chroma sampling is kept."""
        _, chroma, *_ = frame.format.components
        sampling = {1: "yuv444p", 2: "yuv420p" if chroma.height < frame.height else "yuv422p"}
        name = sampling[-(-frame.width // chroma.width)]
        deep = planes_of(self._swscale.reformat(frame, format=name + "16le"))
        return frame_of([((np.minimum(plane, 0xFFF7) + 8) >> 4).astype(np.uint16) for plane in deep], name + "12le")

    def _with_chroma(self, frame: Any) -> Any:
        """Returns a grey frame as Y'CbCr (4:2:0) with the same luma codes and neutral chroma."""
        bits = max(8, frame.format.components[0].bits)
        depth = "" if bits == 8 else f"{bits}le"
        # swscale would take grey for full-range codes, whatever the frame's tag says.
        (luma,) = planes_of(self._swscale.reformat(frame, format="gray" + depth))
        chroma = np.full([(side + 1) // 2 for side in luma.shape], 1 << (bits - 1), luma.dtype)
        return frame_of([luma, chroma, chroma], "yuv420p" + depth)


def _even(frame: Any) -> Any:
    """Returns a planar Y'CbCr frame enlarged to an even width and an even height, by repeating its last column or row.

    A frame of even size keeps its size. FFmpeg's filter `colorspace` refuses odd sizes.
    """
    larger = av.VideoFrame(frame.width + frame.width % 2, frame.height + frame.height % 2, frame.format.name)
    planes = [
        np.pad(plane, ((0, wanted.height - plane.shape[0]), (0, wanted.width - plane.shape[1])), mode="edge")
        for plane, wanted in zip(planes_of(frame), larger.planes, strict=True)
    ]
    return frame_of(planes, frame.format.name)


def _colour_filter(frame: Any, source: PictureFormat, pixel_format: str) -> av.filter.Graph:
    """Returns a filter of FFmpeg that converts frames to the BT.709 matrix, limited range and `pixel_format`.

    frame: any of the frames that the filter will receive. They all have its size and pixel format.
    source: gives the matrix and the range of these frames.
    """
    matrix, codes = _FILTER_MATRICES[source.matrix], "pc" if source.full_range else "tv"
    options = f"ispace={matrix}:irange={codes}:space=bt709:range=tv:format={pixel_format.removesuffix('le')}"
    # The filter can also convert primaries and the transfer function. It is told that they stay the same.
    same = "iprimaries=bt709:primaries=bt709:itrc=bt709:trc=bt709"
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1)),
        graph.add("colorspace", f"{options}:{same}"),
        graph.add("buffersink"),
    ).configure()
    return graph


def _depth_suffix(frame: Any) -> str:
    """Returns the suffix of FFmpeg's name of the planar pixel format to which `frame` is converted, by its bit depth.

    It is "" for up to 8 bits per code, "10le" (10 bits) for 9 or 10 bits, and "12le" (12 bits) for more.
    """
    bits = frame.format.components[0].bits
    return "" if bits <= 8 else "10le" if bits <= 10 else "12le"


def _stretched(codes: NDArray[np.uint16], white: int) -> NDArray[np.uint16]:
    """Returns 16-bit `codes` scaled so that the code `white` becomes 65535. Codes above `white` become 65535, too."""
    if white == 65535:
        return codes
    stretched: NDArray[np.float32] = codes * np.float32(65535 / white) + np.float32(0.5)
    return np.minimum(stretched, 65535).astype(np.uint16)


def _on_black(colours: RGBPicture, alpha: RGBPicture) -> RGBPicture:
    """Blends colours [H, W, 3] over black by their straight alpha [H, W, 1]. Opaque pixels are unchanged.

    Both arrays have the same integer type. The largest value of this type means white in `colours`, and opaque in
    `alpha`.
    """
    white = np.iinfo(colours.dtype).max
    weighted = colours.astype(np.uint32) * alpha + white // 2
    return (weighted // white).astype(colours.dtype)
