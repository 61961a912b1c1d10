"""The program of the sandboxed decode process: it reads one video and answers requests on its standard input."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from fractions import Fraction
from functools import cached_property
from importlib import import_module
from typing import Any

from numpy.typing import NDArray

from longtake.media import webp
from longtake.media.formats import PixelFormat
from longtake.media.frame_reader import frames
from longtake.media.limits import Limits
from longtake.media.matroska import check_tags
from longtake.media.messages import Answer, receive_request, send_error, send_message
from longtake.media.mpegts import check_programs
from longtake.media.probe import ProbedVideo, check_opening, probe, read_tags
from longtake.media.readable import readable_part
from longtake.media.sandbox import arguments, start_child
from longtake.media.shared_file import Openable
from longtake.media.sound_reader import sound
from longtake.system import allow_cpu_seconds
from longtake.video import Span

_IMPORTED_WHEN_NEEDED = ("av.subtitles.codeccontext", "av.subtitles.stream")
"""Modules that PyAV imports only when it opens a media file. They are imported at the start instead, because later this
process is confined and cannot open the modules' files."""

_IMPORTED_FOR = {"webp": webp.PILLOW}
"""Container -> the module that is needed for it alone, which is imported at the start for the same reason."""

_LIST_CHECKS = {"matroska": check_tags, "webm": check_tags, "mpegts": check_programs}
"""Container -> the function that refuses a file with lists so long that FFmpeg would take hours to open it."""


class DecodeServer:
    """Answers the parent process's requests about one open video.

    Each request names a public method, and its other JSON fields are the method's arguments. The parent opens streams
    of frames or of sound, chooses a number for each stream, and then asks for one chunk after another with `next`.
    While the parent processes a chunk, `prepare` decodes the next one.

    Every answer is a pair: a JSON object, and an array or None.
    """

    def __init__(self, file: Openable, container: str, limits: Limits) -> None:
        self._file, self._container, self._limits = file, container, limits
        self._streams: dict[int, Iterator[NDArray[Any]]] = {}
        self._prepared: dict[int, Callable[[], Answer]] = {}

    def check_lists(self) -> Answer:
        """Refuses a file with so many tags or programs that FFmpeg would take hours to open it. Counting them reads the
        whole file. The answer is ({}, None): no fields and no array."""
        check = _LIST_CHECKS.get(self._container)
        if check is not None:
            check(self._file)
        return {}, None

    def check_opening(self) -> Answer:
        """Opens the file and closes it again. The parent allows less time for this than for other calls, because some
        broken files take very long to open. The answer is ({}, None): no fields and no array."""
        check_opening(self._file, self._container)
        return {}, None

    @cached_property
    def _video(self) -> ProbedVideo:
        return readable_part(probe(self._file, self._container, self._limits))

    def facts(self) -> Answer:
        """Returns ({"facts": the fields of the video's VideoInfo}, None). Fractions are texts such as 24000/1001."""
        facts = asdict(self._video.facts)
        fractions = {name: str(value) for name, value in facts.items() if isinstance(value, Fraction)}
        return {"facts": facts | fractions}, None

    def tags(self) -> Answer:
        """Returns (the fields of `tags.FileTags` except the comment, the bytes of the comment in UTF-8)."""
        return read_tags(self._video.file, self._video.container)

    def open_frames(
        self,
        stream: int,
        closed: list[int],
        span: list[Any],
        size: list[int] | None,
        pixel_format: PixelFormat,
        chunk: int,
    ) -> Answer:
        """Opens a stream of frames, whose chunks are then returned by `next`. The answer is ({}, None): no fields and
        no array.

        stream: the number of the new stream.
        closed: numbers of streams to discard, because the parent no longer reads them.
        span: the frames to read, as the fields of a video.Span: [start, stop, rate, reverse, shift]. `rate` (frames per
            second) and `shift` (seconds that are added to the time at which each frame is taken from the video) are
            pairs (numerator, denominator).
        size: [width, height] of the frames in pixels; None means the video's own size.
        pixel_format: the format of the frames (see formats.PixelFormat).
        chunk: largest number of frames in a chunk.

        Raises InvalidRequest if the span is outside the video.
        """
        start, stop, rate, reverse, shift = span
        wanted = Span(start, stop, Fraction(*rate), reverse, Fraction(*shift))
        self._video.timeline.stored(wanted)  # Raises for a wrong span already here, not at the first chunk.
        shown_size = (size[0], size[1]) if size else None
        return self._open(stream, closed, frames(self._video, wanted, shown_size, chunk, pixel_format))

    def open_sound(self, stream: int, closed: list[int], first: int, stop: int, rate: int, block: int) -> Answer:
        """Opens a stream of stereo samples, whose chunks are then returned by `next`. The answer is ({}, None): no
        fields and no array.

        stream: the number of the new stream.
        closed: numbers of streams to discard, because the parent no longer reads them.
        first, stop: the first sample, and the one after the last. Sample 0 is at the time of the video's first frame.
        rate: sample rate of the result in Hz.
        block: largest number of samples in a chunk.
        """
        return self._open(stream, closed, sound(self._video, first, stop, rate, block))

    def _open(self, stream: int, closed: list[int], chunks: Iterator[NDArray[Any]]) -> Answer:
        for number in closed:
            self._streams.pop(number, None)
            self._prepared.pop(number, None)
        self._streams[stream] = chunks
        return {}, None

    def next(self, stream: int) -> Answer:
        """Returns ({}, the stream's next chunk), or ({}, None) after the last chunk.

        A chunk is an array of frames or of stereo samples. Its largest length was set when the stream was opened.
        If the chunk cannot be decoded, raises the decoder's error.
        """
        if stream not in self._prepared:
            self.prepare(stream)
        return self._prepared.pop(stream)()

    def prepare(self, stream: int) -> None:
        """Decodes the stream's next chunk and keeps it for the next call of `next`.

        If decoding fails, the error is kept instead, and `next` raises it. Does nothing if the stream has ended.
        """
        if stream not in self._streams:
            return
        try:
            chunk = next(self._streams[stream], None)
        except Exception as error:
            del self._streams[stream]
            self._prepared[stream] = _raiser(error)
            return
        if chunk is None:
            del self._streams[stream]
        self._prepared[stream] = lambda: ({}, chunk)


def main() -> None:
    """Reads requests from standard input and answers each of them, until the parent process closes this input.

    This is the program of a process that `DecodeProcess` starts. The `argument` that is passed to `DecodeProcess` must
    be a dict with the key `container`: the video's container, one of `sniff.CONTAINERS`.
    """
    container = arguments()["container"]
    for name in (*_IMPORTED_WHEN_NEEDED, _IMPORTED_FOR.get(container)):
        if name is not None:
            import_module(name)
    child = start_child()
    limits, replies = child.limits, child.replies
    server = DecodeServer(child.file, container, limits)
    while request := receive_request(sys.stdin.buffer):
        method = request.pop("method")
        allow_cpu_seconds(limits.open_cpu_s if method == "check_opening" else limits.cpu_s)
        try:
            header, payload = getattr(server, method)(**request)
        except Exception as error:
            send_error(replies, error)
            continue
        send_message(replies, header, payload)
        if method == "next":
            allow_cpu_seconds(limits.cpu_s)
            server.prepare(request["stream"])


def _raiser(error: Exception) -> Callable[[], Answer]:
    def answer() -> Answer:
        raise error

    return answer


if __name__ == "__main__":
    main()
