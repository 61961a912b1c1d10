"""Reads a still picture. Only a sandboxed child process parses the file."""

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from longtake.errors import InvalidRequest, LongtakeError, UnsupportedImage, VideoTooLarge
from longtake.media.limits import Limits
from longtake.media.messages import ArrayForm, receive_request, send_error, send_message
from longtake.media.picture import OPAQUE
from longtake.media.sandbox import DecodeProcess, decoder, start_child
from longtake.media.shared_file import Openable
from longtake.video import Check, no_check

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "TGA", "PPM", "QOI", "ICO")

_DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")
"""Pillow's modes of greyscale pictures with 16 bits per pixel."""


@dataclass(frozen=True)
class Still:
    """A picture.

    pixels: sRGB, [H, W, 3]. Transparent parts are blended over black.
    transparent: True if the file's picture has transparent parts.
    """

    pixels: NDArray[np.uint8]
    transparent: bool


def open_still(path: Path, *, limits: Limits = Limits(), check: Check = no_check) -> Still:  # noqa: B008
    """Returns the picture in a file as viewers show it: rotated according to its EXIF data, and over black.

    If the file is an animation, its first frame is returned.

    limits: the limits for the size of the picture, and for the memory and the time of the child process.
    check: called four times a second while the file is read. It may raise an exception to end the reading.

    Raises UnsupportedImage if the file cannot be read as a picture, VideoTooLarge if it has more than
    `limits.max_pixels` pixels.
    """
    side = (1, limits.max_pixels)
    form = ArrayForm("uint8", (side, side, (3, 3)), most=3 * limits.max_pixels)

    def read(process: DecodeProcess) -> Still:
        header, pixels = process.call({}, form)
        if pixels is None:
            raise process.reject()
        return Still(pixels, header.get("transparent") is True)

    try:
        with decoder("longtake.media.still", path, {}, limits, check) as started:
            return started.run(read)
    except VideoTooLarge:
        raise
    except InvalidRequest as error:
        raise UnsupportedImage(error.message.replace("video", "picture"), ctx=error.ctx) from None


def _read(file: Openable, limits: Limits) -> Still:
    Image.MAX_IMAGE_PIXELS = None
    try:
        with file.open("rb") as opened, Image.open(opened, formats=FORMATS) as image:
            if image.width * image.height > limits.max_pixels:
                raise VideoTooLarge(
                    f"The picture has {image.width}x{image.height} pixels; at most {limits.max_pixels} are accepted.",
                    ctx={"max_pixels": limits.max_pixels},
                )
            return _as_seen(image)
    except UnidentifiedImageError:
        raise UnsupportedImage(
            f"The file is not a picture that can be read ({', '.join(FORMATS)}).",
            ctx={"supported_formats": list(FORMATS)},
        ) from None
    except LongtakeError:
        raise
    except Exception as error:
        raise UnsupportedImage(f"The picture cannot be read: {str(error) or type(error).__name__}.") from None


def _as_seen(image: Image.Image) -> Still:
    profile = image.info.get("icc_profile")
    picture: Image.Image = _eight_bit(ImageOps.exif_transpose(image))
    transparent = False
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        transparent = bool(np.asarray(picture)[..., 3].min() < OPAQUE)
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        black.alpha_composite(picture)
        picture = black.convert("RGB")
    if profile:
        picture = _in_srgb(picture, profile)
    return Still(np.array(picture.convert("RGB")), transparent)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Returns a greyscale picture of 16 bits or of floats (0..1) scaled to 8 bits. Any other picture is returned
    unchanged.

    Pillow's own conversion would clip the values at 255 instead of scaling them.
    """
    if image.mode in _DEEP_MODES:
        return Image.fromarray((np.asarray(image).clip(0, 65_535) / 257).round().astype(np.uint8))
    if image.mode == "F":
        return Image.fromarray((np.nan_to_num(np.asarray(image)).clip(0, 1) * 255).round().astype(np.uint8))
    return image


def _in_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """Returns the picture converted from its ICC profile to sRGB, or unchanged if the profile cannot be applied."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture
    return converted or picture


def main() -> None:
    """Runs the program of the child process: it waits for one request, reads the picture file, and sends the pixels or
    an error."""
    Image.init()  # imports the decoders of all formats, which would else be imported when a file needs them
    child = start_child()
    receive_request(sys.stdin.buffer)
    try:
        still = _read(child.file, child.limits)
    except Exception as error:
        send_error(child.replies, error)
    else:
        send_message(child.replies, {"transparent": still.transparent}, still.pixels)


if __name__ == "__main__":
    main()
