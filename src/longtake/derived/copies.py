"""Makes a copy for browsers, an MP4 file, of a video that browsers cannot play or in which they cannot seek."""

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from longtake.media.encode import Encoder
from longtake.media.formats import SOUND_RATE, output_format
from longtake.media.source import SourceReader
from longtake.video import Span

MAX_WIDTH = 1280
"""The largest width in pixels of a copy for browsers. Wider videos are scaled down."""

MAX_RATE = 60
"""The highest frame rate of a copy for browsers, in frames per second. The copy of a faster video leaves out frames."""

_SOUND_BLOCK_S = 10
"""Seconds of sound that are read at a time."""

_FORMAT = output_format("X264 (.mp4)", "medium", "fast")


def write_copy(source: SourceReader, out: Path, report: Callable[[float], None]) -> None:
    """Writes a copy of a video for browsers: an MP4 file with H.264 frames, AAC sound, and its index at the beginning.

    out: path of the new file.
    report: called before each chunk of frames with the share (0..1) of the frames that are written.
    """
    facts = source.facts
    rate = copy_rate(facts.rate)
    width, height = copy_size(facts.width, facts.height)
    num_frames = max(1, math.floor(facts.num_frames / facts.rate * rate))
    sound_rate = None if facts.sound is None else SOUND_RATE
    with Encoder(out, _FORMAT, width, height, rate, sound_rate=sound_rate) as video:
        with_sound = Fraction(0)
        span = Span(0, num_frames, rate)
        for frames in source.frames(span, (width, height), pixel_format=_FORMAT.frame_format):
            report(video.num_frames / num_frames)
            # Sound comes before its frames, because the encoded frames wait for it.
            while sound_rate is not None and with_sound < (video.num_frames + len(frames)) / rate:
                until = min(with_sound + _SOUND_BLOCK_S, num_frames / rate)
                sound = source.sound(with_sound, until, sound_rate)
                assert sound is not None
                video.write_sound(sound)
                with_sound = until
            video.write_planes(frames)


def copy_rate(rate: Fraction) -> Fraction:
    """Returns the frame rate of the copy of a video: `rate` divided by the smallest integer that makes it at most 60.

    Both rates are in frames per second.
    """
    return rate / math.ceil(rate / MAX_RATE)


def copy_size(width: int, height: int) -> tuple[int, int]:
    """Returns the (width, height) of the copy of a video: even numbers of pixels, with a width of at most 1280."""
    scale = min(Fraction(1), Fraction(MAX_WIDTH, width))
    return _even(width * scale), _even(height * scale)


def _even(length: Fraction) -> int:
    return max(2, 2 * round(length / 2))
