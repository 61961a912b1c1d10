"""A strip: frames of a video at even distances, side by side in one JPEG file."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from longtake.media.source import SourceReader
from longtake.video import Span, VideoInfo

WIDEST = 4
"""How many times its height a frame on the strip may be wide. Wider ones are cropped at both sides."""

_IN_ORDER = 60
"""Largest distance in frames between two shown frames at which the whole video is decoded. At larger distances decoding
starts anew for each shown frame."""

_JPEG_QUALITY = 80


def draw_strip(source: SourceReader, out: Path, *, frames: int, height: int) -> dict[str, int]:
    """Writes a strip as a JPEG file. Returns {count, width, height}: the number of its frames, and the size of one.

    out: path of the new file.
    frames: the number of frames. A video with fewer frames shows each once.
    height: their height in pixels.
    """
    facts = source.facts
    count = min(frames, facts.num_frames)
    width = frame_width(facts, height)
    strip = Image.new("RGB", (count * width, height))
    for index, frame in enumerate(_shown_frames(source, count, (width, height))):
        strip.paste(Image.fromarray(frame), (index * width, 0))
    strip.save(out, "JPEG", quality=_JPEG_QUALITY)
    return {"count": count, "width": width, "height": height}


def frame_width(facts: VideoInfo, height: int) -> int:
    """Returns the width in pixels of a frame that is `height` pixels high on the strip."""
    return min(max(1, round(Fraction(facts.width * height, facts.height))), WIDEST * height)


def shown_numbers(num_frames: int, count: int) -> list[int]:
    """Returns the numbers of the frames on a strip: those in the middle of `count` equal parts of the video."""
    return [(2 * index + 1) * num_frames // (2 * count) for index in range(count)]


def _shown_frames(source: SourceReader, count: int, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    facts = source.facts
    if facts.num_frames <= count * _IN_ORDER:
        # At this rate each frame shows the picture in the middle of its part of the video.
        rate = facts.rate * count / facts.num_frames
        for chunk in source.frames(Span(0, count, rate), size):
            yield from chunk
        return
    for number in shown_numbers(facts.num_frames, count):
        for chunk in source.frames(Span(number, number + 1, facts.rate), size):
            yield from chunk
