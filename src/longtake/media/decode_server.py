"""The program of the sandboxed decode process: it reads one video and answers requests on its standard input."""

import json
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from longtake.media.sandbox import Limits, allow_cpu_seconds, send_error, send_message, start_child
from longtake.video import Span

Answer = tuple[dict[str, Any], NDArray[Any] | None]
"""The header of a reply and its array, if it has one."""


class DecodeServer:
    """The open video and the streams of chunks that the parent process reads from it.

    The public methods are the requests; their parameters are the fields of the JSON message. While the parent works on
    a chunk, `prepare` already decodes the next one.
    """

    def __init__(self, path: Path, container: str, limits: Limits) -> None:
        from longtake.media.probe import probe

        self._video = probe(path, container, limits)
        self._streams: dict[int, Iterator[NDArray[Any]]] = {}
        self._prepared: dict[int, Callable[[], Answer]] = {}

    def facts(self) -> Answer:
        """Returns the fields of the video's VideoInfo."""
        facts = asdict(self._video.facts)
        return {"facts": facts | {"rate": self._video.facts.rate.as_integer_ratio()}}, None

    def open_frames(
        self, stream: int, closed: list[int], span: list[Any], size: list[int] | None, chunk: int
    ) -> Answer:
        """Opens stream number `stream` with the frames of a span; `closed` are streams that are no longer read."""
        from longtake.media.frame_reader import frames

        start, stop, rate, reverse = span
        wanted = Span(start, stop, Fraction(*rate), reverse)
        self._video.timeline.stored(wanted)  # Raises for a span outside the video now, not at the first chunk.
        return self._open(stream, closed, frames(self._video, wanted, (size[0], size[1]) if size else None, chunk))

    def open_sound(self, stream: int, closed: list[int], first: int, stop: int, rate: int, block: int) -> Answer:
        """Opens stream number `stream` with the samples [first, stop) at `rate` Hz, in blocks of `block` samples."""
        from longtake.media.sound_reader import sound

        return self._open(stream, closed, sound(self._video, first, stop, rate, block))

    def _open(self, stream: int, closed: list[int], chunks: Iterator[NDArray[Any]]) -> Answer:
        for number in closed:
            self._streams.pop(number, None)
            self._prepared.pop(number, None)
        self._streams[stream] = chunks
        return {}, None

    def next(self, stream: int) -> Answer:
        """Returns the stream's next chunk, or no array at its end."""
        if stream not in self._prepared:
            self.prepare(stream)
        return self._prepared.pop(stream)()

    def prepare(self, stream: int) -> None:
        """Decodes the stream's next chunk and keeps it, or the error, for the next request."""
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
    """Runs the program. Its argument is a JSON object with the path, the container's name and the limits."""
    argument, limits, replies = start_child()
    requests = sys.stdin.buffer
    server: DecodeServer | None = None
    while request := _received(requests):
        allow_cpu_seconds(limits.cpu_s)
        method = request.pop("method")
        try:
            server = server or DecodeServer(Path(argument["path"]), argument["container"], limits)
            header, payload = getattr(server, method)(**request)
        except Exception as error:
            send_error(replies, error)
            continue
        send_message(replies, header, payload)
        if method == "next":
            allow_cpu_seconds(limits.cpu_s)
            server.prepare(request["stream"])


def _received(requests: BinaryIO) -> dict[str, Any] | None:
    """Returns the next request, or None if the parent has closed the pipe."""
    length = requests.read(4)
    if len(length) < 4:
        return None
    request: dict[str, Any] = json.loads(requests.read(*struct.unpack(">I", length)))
    return request


def _raiser(error: Exception) -> Callable[[], Answer]:
    def answer() -> Answer:
        raise error

    return answer


if __name__ == "__main__":
    main()
