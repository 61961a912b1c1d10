"""Decodes animated WebP with Pillow, because FFmpeg cannot decode it."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import av
import numpy as np

from longtake.errors import UnsupportedVideo
from longtake.media.shared_file import Openable

PILLOW = "PIL.WebPImagePlugin"
"""Pillow's module for WebP. It takes a tenth of the time in which a decode process starts, so only one that reads WebP
imports it."""

TICKS_PER_S = 1000
"""Ticks per second of a WebP file, which stores durations in milliseconds."""

_SHORTEST_MS = 10
"""A frame whose stored duration is at most this many milliseconds is shown for _DEFAULT_MS instead, as in browsers."""

_DEFAULT_MS = 100


def canvas(file: Openable) -> tuple[int, int, int]:
    """Returns (width in pixels, height in pixels, number of frames) of a WebP file, read from its headers.

    Raises UnsupportedVideo if it is not readable WebP.
    """
    try:
        with file.open("rb") as opened, _opened(opened) as image:
            return (*image.size, getattr(image, "n_frames", 1))
    except (OSError, ValueError, SyntaxError) as error:
        raise UnsupportedVideo(f"The file cannot be read as WebP: {error}.") from None


def pictures(file: Openable) -> Iterator[tuple[Any, int]]:
    """Yields the frames of a WebP file as (RGBA frame of PyAV, its duration in milliseconds).

    Ends before the first frame that cannot be decoded.
    """
    with file.open("rb") as opened, _opened(opened) as image:
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


def _opened(file: Any) -> Any:
    """Opens a WebP file with Pillow."""
    return import_module(PILLOW).WebPImageFile(file)
