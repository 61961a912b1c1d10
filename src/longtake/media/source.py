"""Reads facts, frames and sound of a video file. Only a sandboxed child process parses the file."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from longtake.media.formats import PixelFormat
from longtake.media.limits import Limits
from longtake.media.messages import ArrayForm
from longtake.media.sandbox import DecodeProcess, Decoder, decoder
from longtake.media.sniff import sniff
from longtake.media.tags import COMMENT_FORM, FileTags, checked_tags
from longtake.video import Check, Span, VideoInfo, counted_seconds, no_check

__all__ = ["Limits", "SourceReader", "open_source"]

_CHUNK_BYTES = 128 << 20
"""Largest number of bytes of frames that the child process sends in one message. A larger frame is sent alone."""

_SOUND_BLOCK_S = 20
"""Largest number of seconds of sound that the child process sends in one message."""


_FACTS: TypeAdapter[VideoInfo] = TypeAdapter(VideoInfo)
_LARGEST_NUMBER = 1 << 64


@dataclass(frozen=True)
class _Stream:
    """A stream of frames or samples (its items) that a child process decodes and sends in chunks.

    request: request(done) returns the message that opens the stream in the child process without its first `done`
        items. If an earlier child process has failed, these were read from it.
    form: form(left) returns the form (dtype and allowed shapes) of the next chunk if `left` items are not read yet.
    axis: axis of a chunk's array along which its items lie.
    total: number of items of the whole stream.
    """

    request: Callable[[int], dict[str, Any]]
    form: Callable[[int], ArrayForm]
    axis: int
    total: int


class SourceReader:
    """Reads frames and sound of an open video file. The attribute `facts` has the facts about the video.

    Only the requested frames and sound, and a little before them, are decoded.
    """

    def __init__(self, decoder: Decoder, container: str, limits: Limits) -> None:
        self._decoder = decoder
        self._stream_numbers = count()
        self._closed_streams: list[int] = []
        self.facts = decoder.run(lambda process: _read_facts(process, container, limits))

    def frames(
        self,
        span: Span,
        size: tuple[int, int] | None = None,
        *,
        pixel_format: PixelFormat = "rgb24",
        chunk: int = 16,
    ) -> Iterator[NDArray[Any]]:
        """Yields a range of the video's frames in playing order, in arrays of at most `chunk` frames and 128 MiB.

        span: the range, its frame rate, and True in `span.reverse` if it is played backwards.
        size: (width, height) in pixels. The frames are scaled to cover it and cropped at the centre. None means the
            video's own size.
        pixel_format: the format of the arrays (see formats.PixelFormat): RGB uint8 [t, height, width, 3], or the planes
            that an encoder takes. Frames that already have this format, the size and the output's colours are not
            changed.

        If the span has another rate than the video, frames are repeated or left out.

        The call raises InvalidRequest if the span is outside the video. The iterator raises UnsupportedVideo if a frame
        cannot be decoded.
        """
        from longtake.media.planes import frame_shape, frame_type  # loads PyAV

        shape = frame_shape(pixel_format, *(size or (self.facts.width, self.facts.height)))
        dtype = np.dtype(frame_type(pixel_format))
        most = max(1, min(chunk, _CHUNK_BYTES // (math.prod(shape) * dtype.itemsize)))

        def request(done: int) -> dict[str, Any]:
            rest = span.tail(len(span) - done)
            fields = [rest.start, rest.stop, rest.rate.as_integer_ratio(), rest.reverse, rest.shift.as_integer_ratio()]
            return {
                "method": "open_frames",
                "span": fields,
                "size": size,
                "pixel_format": pixel_format,
                "chunk": most,
            }

        def form(left: int) -> ArrayForm:
            return ArrayForm(dtype.name, ((1, min(most, left)), *((length, length) for length in shape)))

        return self._read(_Stream(request, form, axis=0, total=len(span)))

    def sound(
        self,
        start_s: Fraction,
        stop_s: Fraction,
        rate: int = 48_000,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> NDArray[np.float32] | None:
        """Returns stereo samples [2, n] in -1..1 from `start_s` to `stop_s`, or None if the video has no sound.

        Times are in seconds from the first frame. `rate` is the sample rate of the result in Hz, and n is
        round((stop_s - start_s) * rate). Times without stored sound are silent. `report` is called at the start and
        after every 20 s of sound, with the numbers of samples that are read and of all.

        Raises UnsupportedVideo if the sound cannot be read.
        """
        if self.facts.sound is None:
            return None
        first, total = round(start_s * rate), round((stop_s - start_s) * rate)
        samples = np.zeros((2, total), np.float32)
        block = _SOUND_BLOCK_S * rate

        def request(done: int) -> dict[str, Any]:
            span = {"first": first + done, "stop": first + total, "rate": rate, "block": block}
            return {"method": "open_sound"} | span

        def form(left: int) -> ArrayForm:
            return ArrayForm("float32", ((2, 2), (1, min(block, left))))

        filled = 0
        report(filled, total)
        for samples_of_block in self._read(_Stream(request, form, axis=1, total=total)):
            samples[:, filled : filled + samples_of_block.shape[1]] = samples_of_block
            filled += samples_of_block.shape[1]
            report(filled, total)
        return samples

    def tags(self) -> FileTags:
        """Returns the facts that decide how players show the file, and the comment in it."""
        return self._decoder.run(_read_tags)

    def _read(self, stream: _Stream) -> Iterator[NDArray[Any]]:
        """Opens a stream in the child process and returns an iterator of the stream's chunks.

        Raises the child's error if the stream cannot be opened.
        """
        number = next(self._stream_numbers)
        opened_in = self._decoder.run(lambda process: self._open(process, number, stream.request(0)))
        return self._chunks(stream, number, opened_in)

    def _open(self, process: DecodeProcess, number: int, request: dict[str, Any]) -> DecodeProcess:
        closed, self._closed_streams = self._closed_streams, []
        process.call(request | {"stream": number, "closed": closed})
        return process

    def _chunks(self, stream: _Stream, number: int, opened_in: DecodeProcess) -> Iterator[NDArray[Any]]:
        done = 0

        def next_chunk(process: DecodeProcess) -> NDArray[Any]:
            nonlocal opened_in
            if process is not opened_in:  # The first process failed, and the second one has not opened the stream yet.
                opened_in = self._open(process, number, stream.request(done))
            _, chunk = process.call({"method": "next", "stream": number}, stream.form(stream.total - done))
            if chunk is None:
                raise process.reject()
            return chunk

        try:
            while done < stream.total:
                chunk = self._decoder.run(next_chunk)
                done += chunk.shape[stream.axis]
                yield chunk
        finally:
            # The process must not be called here, because this may run in the garbage collector during another call.
            # The number of the closed stream is sent when the next stream is opened.
            self._closed_streams.append(number)


@contextmanager
def open_source(path: Path, *, limits: Limits = Limits(), check: Check = no_check) -> Iterator[SourceReader]:  # noqa: B008
    """Opens a local video file for a `with` block and yields its reader. A child process decodes the file.

    The child process is killed when the block ends.

    limits: the limits for the size of the video, and for the memory and the time of the child process.
    check: called four times a second while the child process works. It may raise an exception to end the reading.

    Raises UnsupportedVideo if the file is no readable video, VideoTooLarge or VideoTooLong if it exceeds `limits`.
    """
    container = sniff(path)
    with decoder("longtake.media.decode_server", path, {"container": container}, limits, check) as started:
        yield SourceReader(started, container, limits)


def _read_facts(process: DecodeProcess, container: str, limits: Limits) -> VideoInfo:
    process.call({"method": "check_lists"})
    process.call({"method": "check_opening"}, cpu_s=limits.open_cpu_s)
    header, _ = process.call({"method": "facts"})
    try:
        return video_info(header.get("facts"), container, limits)
    except ValueError:
        raise process.reject() from None


def _read_tags(process: DecodeProcess) -> FileTags:
    try:
        return checked_tags(*process.call({"method": "tags"}, COMMENT_FORM))
    except ValueError:
        raise process.reject() from None


def video_info(fields: Any, container: str, limits: Limits) -> VideoInfo:
    """Checks the facts about a video that a child process sent, and returns them as a VideoInfo.

    fields: the JSON value that the child sent, of any type: an untrusted file may have taken over the child.
    container: the container that the video must have.
    limits: the limits that the video must not exceed.

    Raises ValueError if `fields` are not valid facts, or do not agree with `container` and `limits`.
    """
    facts = _FACTS.validate_python(fields)
    numbers = [facts.width, facts.height, facts.num_frames, *facts.rate.as_integer_ratio()]
    if facts.sound is not None:
        numbers += [facts.sound.rate, facts.sound.channels, facts.sound.track]
    if facts.delays_s is not None:
        numbers += facts.delays_s.as_integer_ratio()
    if facts.stored_frames is not None:
        numbers.append(facts.stored_frames)
    if not all(0 < number < _LARGEST_NUMBER for number in numbers):
        raise ValueError("a number that is not positive, or too large")
    duration_s = max(counted_seconds(facts.num_frames, facts.rate), facts.delays_s or 0)
    if (
        facts.container != container
        or facts.width * facts.height > limits.max_pixels
        or facts.num_frames > limits.max_frames
        or duration_s > limits.max_duration_s
    ):
        raise ValueError("a video of another container, or above the limits")
    return facts
