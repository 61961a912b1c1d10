"""Animated WebP, which FFmpeg does not decode, through Pillow."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from longtake.errors import UnsupportedVideo

TICKS_PER_S = 1000

_SHORTEST_MS = 10
_DEFAULT_MS = 100


def canvas(path: Path) -> tuple[int, int]:
    """(width, height), read from the header alone. Raises UnsupportedVideo."""
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(path, formats=["WEBP"]) as image:
            return image.size
    except (OSError, ValueError) as error:
        raise UnsupportedVideo(f"The file cannot be read as WebP: {error}.") from None


def pictures(path: Path) -> Iterator[tuple[Any, int]]:
    """(RGBA video frame, how long it is shown in ms) from the first to the last one that decodes.

    Browsers show frames of 10 ms or less for 100 ms; so do we.
    """
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(path, formats=["WEBP"]) as image:
        for number in range(getattr(image, "n_frames", 1)):
            try:
                image.seek(number)
                pixels = np.asarray(image.convert("RGBA"))
            except (OSError, EOFError, ValueError):
                return
            shown_ms = int(image.info.get("duration", 0))
            yield (
                av.VideoFrame.from_ndarray(pixels, format="rgba"),
                shown_ms if shown_ms > _SHORTEST_MS else _DEFAULT_MS,
            )
