"""Reads facts, frames and sound of a video file. Only a sandboxed child process parses the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtake.media.formats import PixelFormat
from longtake.media.sandbox import DecodeProcess, Limits, decode_process
from longtake.media.sniff import sniff
from longtake.video import SoundInfo, Span, VideoInfo

__all__ = ["Limits", "SourceReader", "open_source"]

_SOUND_BLOCK_S = 20
"""Largest number of seconds of sound that the child process sends in one message."""


class SourceReader:
    """An open video file. `facts` describes the video.

    Only the requested frames and sound, and a little before them, are decoded.
    """

    def __init__(self, process: DecodeProcess) -> None:
        self._process = process
        self._stream_numbers = count()
        self._closed_streams: list[int] = []
        header, _ = process.call({"method": "facts"})
        self.facts = _video_info(header["facts"])

    def frames(
        self,
        span: Span,
        size: tuple[int, int] | None = None,
        *,
        pixel_format: PixelFormat = "rgb24",
        chunk: int = 16,
    ) -> Iterator[NDArray[Any]]:
        """Yields the frames of the span in playing order, in arrays of at most `chunk` frames.

        size: (width, height) in pixels. The frames are scaled to cover it and cropped at the centre. None means the
            video's own size.
        pixel_format: the format of the arrays (see formats.PixelFormat): RGB uint8 [t, height, width, 3], or the planes
            that an encoder takes. Frames that already have this format, the size and the output's colours are not
            changed.

        If the span has another rate than the video, frames are repeated or left out.

        The call raises InvalidRequest if the span is outside the video. The iterator raises UnsupportedVideo if a frame
        cannot be decoded.
        """
        fields = [span.start, span.stop, span.rate.as_integer_ratio(), span.reverse, span.shift.as_integer_ratio()]
        request = {"method": "open_frames", "span": fields, "size": size, "pixel_format": pixel_format, "chunk": chunk}
        return self._stream(request)

    def sound(self, start_s: Fraction, stop_s: Fraction, rate: int = 48_000) -> NDArray[np.float32] | None:
        """Returns stereo samples [2, n] in -1..1 from `start_s` to `stop_s`, or None if the video has no sound.

        Times are in seconds from the first frame. `rate` is the sample rate of the result in Hz, and n is
        round((stop_s - start_s) * rate). Times without stored sound are silent. Raises UnsupportedVideo if the sound
        cannot be read.
        """
        if self.facts.sound is None:
            return None
        first, total = round(start_s * rate), round((stop_s - start_s) * rate)
        samples = np.zeros((2, total), np.float32)
        span = {"first": first, "stop": first + total, "rate": rate, "block": _SOUND_BLOCK_S * rate}
        filled = 0
        for block in self._stream({"method": "open_sound"} | span):
            samples[:, filled : filled + block.shape[1]] = block
            filled += block.shape[1]
        return samples

    def _stream(self, request: dict[str, Any]) -> Iterator[NDArray[Any]]:
        """Opens a stream in the child process and returns an iterator of the stream's chunks.

        `request` is the message that opens the stream. Raises the child's error if the stream cannot be opened.
        """
        number = next(self._stream_numbers)
        closed, self._closed_streams = self._closed_streams, []
        self._process.call(request | {"stream": number, "closed": closed})
        return self._chunks(number)

    def _chunks(self, number: int) -> Iterator[NDArray[Any]]:
        try:
            while True:
                _, chunk = self._process.call({"method": "next", "stream": number})
                if chunk is None:
                    return
                yield chunk
        finally:
            # The process must not be called here, because this may run in the garbage collector during another call.
            # The number of the closed stream is sent when the next stream is opened.
            self._closed_streams.append(number)


@contextmanager
def open_source(path: Path, *, limits: Limits = Limits()) -> Iterator[SourceReader]:  # noqa: B008
    """Opens a local video file for a `with` block and yields its reader. A child process decodes the file.

    The child process is killed when the block ends.

    Raises UnsupportedVideo if the file is no readable video, VideoTooLarge or VideoTooLong if it exceeds `limits`.
    """
    argument = {"path": str(path.resolve()), "container": sniff(path)}
    with decode_process("longtake.media.decode_server", argument, limits) as process:
        yield SourceReader(process)


def _video_info(fields: dict[str, Any]) -> VideoInfo:
    sound = SoundInfo(**fields["sound"]) if fields["sound"] else None
    texts = {name: tuple(fields[name]) for name in ("notes", "sound_notes")}
    delays_s = Fraction(*fields["delays_s"]) if fields["delays_s"] else None
    return VideoInfo(**fields | texts | {"rate": Fraction(*fields["rate"]), "sound": sound, "delays_s": delays_s})
