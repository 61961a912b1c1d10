"""Draws a strip: frames at equal intervals of a video, side by side in one JPEG file."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from longtake.media.source import SourceReader
from longtake.video import Span, VideoInfo

WIDEST = 4
"""Largest width of a frame on a strip (a picture of a video's frames side by side), as a multiple of the frame's
height. Wider frames are cropped at both sides."""

_IN_ORDER = 60
"""If the shown frames are at most this many frames apart, the video is decoded once from its start to its end. If they
are farther apart, it is quicker to seek to each one."""

_JPEG_QUALITY = 80


def draw_strip(source: SourceReader, out: Path, *, frames: int, height: int) -> dict[str, int]:
    """Writes frames at equal intervals of the video, side by side, to one JPEG file.

    out: path of the JPEG file.
    frames: number of frames to show. If the video has fewer, all of its frames are shown.
    height: height in pixels of the frames in the file.

    Returns {count, width, height}: the number of shown frames, and the size in pixels of one of them.
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
    """Returns the width in pixels of a frame on a strip (a picture of a video's frames side by side), if the frame is
    drawn with a height of `height` pixels.

    The frame keeps its aspect ratio, but its width is at most four times its height (WIDEST).

    facts: the facts about the video.
    """
    return min(max(1, round(Fraction(facts.width * height, facts.height))), WIDEST * height)


def shown_numbers(num_frames: int, count: int) -> list[int]:
    """Returns the indices of the frames that a strip shows: the middle frame of each of `count` equal parts of a video.

    num_frames: number of frames of the video. Its first frame has the index 0.
    """
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
