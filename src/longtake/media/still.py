"""Reads a still picture. Only a sandboxed child process parses the file."""

import io
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from longtake.errors import InvalidRequest, LongtakeError, UnsupportedImage, VideoTooLarge
from longtake.media.sandbox import Limits, decode_process, send_error, send_message, start_child

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "TGA", "PPM", "QOI", "ICO")

_DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")
"""Pillow's modes of greyscale pictures with 16 bits per pixel."""


def open_still(path: Path, *, limits: Limits = Limits()) -> NDArray[np.uint8]:  # noqa: B008
    """Returns the picture in a file as viewers show it: sRGB [H, W, 3].

    The picture is rotated according to its EXIF data, and transparent parts are blended over black. An animation gives
    its first frame. Raises UnsupportedImage if the file cannot be read as a picture, VideoTooLarge if it has more than
    `limits.max_pixels` pixels.
    """
    with decode_process("longtake.media.still", {"path": str(path.resolve())}, limits) as process:
        try:
            _, pixels = process.call({})
        except VideoTooLarge:
            raise
        except InvalidRequest as error:
            raise UnsupportedImage(error.message.replace("video", "picture"), ctx=error.ctx) from None
    assert pixels is not None
    return pixels


def _read(path: Path, limits: Limits) -> NDArray[np.uint8]:
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(path, formats=FORMATS) as image:
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


def _as_seen(image: Image.Image) -> NDArray[np.uint8]:
    profile = image.info.get("icc_profile")
    picture: Image.Image = _eight_bit(ImageOps.exif_transpose(image))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        black.alpha_composite(picture)
        picture = black.convert("RGB")
    if profile:
        picture = _in_srgb(picture, profile)
    return np.array(picture.convert("RGB"))


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
    """Runs the program of the child process, which answers one request: it sends the picture or an error.

    The command line has one argument: a JSON object with the path of the picture and the limits.
    """
    argument, limits, replies = start_child()
    sys.stdin.buffer.read(4)
    try:
        pixels = _read(Path(argument["path"]), limits)
    except Exception as error:
        send_error(replies, error)
    else:
        send_message(replies, {}, pixels)


if __name__ == "__main__":
    main()
