"""The process that holds the file: it answers questions on its standard input until that closes."""

import json
import os
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from longtake.errors import LongtakeError, UnsupportedVideo
from longtake.media.sandbox import Limits, Pipe, confine, renew_cpu_seconds, send
from longtake.video import Span

Answer = tuple[dict[str, Any], NDArray[Any] | None]


class _Desk:
    """The open file and the streams of chunks being read from it.

    While the parent works on a chunk, the next one is already made: `_ready` holds it, or the error it ended in.
    """

    def __init__(self, path: Path, container: str, limits: Limits) -> None:
        from longtake.media.probe import probe

        self._film = probe(path, container, limits)
        self._streams: dict[int, Iterator[NDArray[Any]]] = {}
        self._ready: dict[int, Callable[[], Answer]] = {}

    def facts(self) -> Answer:
        facts = asdict(self._film.facts)
        return {"facts": facts | {"rate": self._film.facts.rate.as_integer_ratio()}}, None

    def begin_frames(self, stream: int, left: list[int], span: list[Any], size: list[int] | None, chunk: int) -> Answer:
        from longtake.media.decode import frames

        start, stop, rate, reverse = span
        wanted = Span(start, stop, Fraction(*rate), reverse)
        self._film.timeline.stored(wanted)
        return self._begin(stream, left, frames(self._film, wanted, (size[0], size[1]) if size else None, chunk))

    def begin_sound(self, stream: int, left: list[int], first: int, stop: int, rate: int, block: int) -> Answer:
        from longtake.media.soundtrack import sound

        return self._begin(stream, left, sound(self._film, first, stop, rate, block))

    def _begin(self, stream: int, left: list[int], chunks: Iterator[NDArray[Any]]) -> Answer:
        """Takes up a stream and forgets those that nobody reads any more."""
        for number in left:
            self._streams.pop(number, None)
            self._ready.pop(number, None)
        self._streams[stream] = chunks
        return {}, None

    def next(self, stream: int) -> Answer:
        if stream not in self._ready:
            self.prepare(stream)
        return self._ready.pop(stream)()

    def prepare(self, stream: int) -> None:
        if stream not in self._streams:
            return
        try:
            chunk = next(self._streams[stream], None)
        except Exception as error:
            del self._streams[stream]
            self._ready[stream] = _raiser(error)
            return
        if chunk is None:
            del self._streams[stream]
        self._ready[stream] = lambda: ({}, chunk)


def main() -> None:
    """Runs with one JSON argument: the path, the container's name, and the limits."""
    given = json.loads(sys.argv[1])
    limits = Limits(**given["limits"])
    renew_cpu_seconds(limits.cpu_s)
    confine(limits)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    questions = sys.stdin.buffer
    desk: _Desk | None = None
    while question := _received(questions):
        renew_cpu_seconds(limits.cpu_s)
        do = question.pop("do")
        try:
            desk = desk or _Desk(Path(given["path"]), given["container"], limits)
            header, payload = getattr(desk, do)(**question)
        except Exception as error:
            _refuse(answers, error)
            continue
        send(answers, header, payload)
        if do == "next":
            renew_cpu_seconds(limits.cpu_s)
            desk.prepare(question["stream"])


def _received(questions: BinaryIO) -> dict[str, Any] | None:
    """The next question, or None when the parent has closed the pipe."""
    length = questions.read(4)
    if len(length) < 4:
        return None
    question: dict[str, Any] = json.loads(questions.read(*struct.unpack(">I", length)))
    return question


def _refuse(answers: Pipe, error: Exception) -> None:
    if isinstance(error, LongtakeError):
        send(answers, {"error": type(error).__name__, "message": error.message, "ctx": error.ctx})
    elif isinstance(error, MemoryError):
        send(answers, {"error": "UnsupportedVideo", "message": "Reading the video needs more memory than is allowed."})
    else:
        name = UnsupportedVideo.__name__
        send(answers, {"error": name, "message": f"The video could not be read ({type(error).__name__}: {error})."})


def _raiser(error: Exception) -> Callable[[], Answer]:
    def answer() -> Answer:
        raise error

    return answer


if __name__ == "__main__":
    main()
