"""A still picture as its pixels, read by a child process that alone touches the bytes."""

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from longtake.errors import InvalidRequest, LongtakeError, UnsupportedImage, VideoTooLarge
from longtake.media.sandbox import Limits, confine, renew_cpu_seconds, running, send

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "TGA", "PPM", "QOI", "ICO")

_DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N")


def open_still(path: Path, *, limits: Limits = Limits()) -> NDArray[np.uint8]:  # noqa: B008
    """The picture in a local file as a viewer shows it: sRGB [H, W, 3], turned as its EXIF says, transparent parts on
    black; of an animation the first frame.

    It is opened in a child process of its own. Raises UnsupportedImage, VideoTooLarge.
    """
    with running("longtake.media.still", {"path": str(path.resolve())}, limits) as child:
        try:
            _, pixels = child.ask({})
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
    """Pillow cuts off what 16-bit greys have above 255; here they keep their looks. Floats are in 0..1."""
    if image.mode in _DEEP:
        return Image.fromarray((np.asarray(image).clip(0, 65_535) / 257).round().astype(np.uint8))
    if image.mode == "F":
        return Image.fromarray((np.nan_to_num(np.asarray(image)).clip(0, 1) * 255).round().astype(np.uint8))
    return image


def _in_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """The picture's colours in sRGB; as they are where its profile does not fit it."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        turned = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture
    return turned or picture


def main() -> None:
    """The child: one JSON argument, the path and the limits; one question, one answer."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    limits = Limits(**given["limits"])
    renew_cpu_seconds(limits.cpu_s)
    confine(limits)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    sys.stdin.buffer.read(4)
    try:
        pixels = _read(Path(given["path"]), limits)
    except MemoryError:
        send(
            answers, {"error": "UnsupportedVideo", "message": "Reading the picture needs more memory than is allowed."}
        )
    except LongtakeError as error:
        send(answers, {"error": type(error).__name__, "message": error.message, "ctx": error.ctx})
    else:
        send(answers, {}, pixels)


if __name__ == "__main__":
    main()
