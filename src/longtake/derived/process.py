"""Runs the program that makes a derived file (such as a strip of a video's frames) in a child process."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import IO, Any

import structlog

from longtake import system
from longtake.derived.order import Order
from longtake.errors import DecoderFailed, LongtakeError
from longtake.media.child_errors import sent_error

PROGRAM = "longtake.derived.program"

_MOST_LINE = 1 << 20
"""The largest number of bytes that are read as one line of the child process's output."""

_log = structlog.get_logger("longtake.derived")


class Execution:
    """Runs `derived.program` in a child process, for one `Order`: to make one file, or to read a picture's facts.

    `run` may be called only once. `kill` may be called at any time, also from another thread; `run` then raises
    DecoderFailed, unless it has its result already.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_killed = False

    def run(self, order: Order, report: Callable[[float], None]) -> Mapping[str, Any]:
        """Runs `derived.program`, which makes a file from a video, until it ends. Returns the facts about the new file
        that it reports (see `Maker`).

        order: what the program should make, from which video.
        report: called with the share (0..1) of the work that is done.

        If the program reports an error, a LongtakeError of the same class is raised. If it ends without an answer, is
        killed or cannot start, DecoderFailed is raised.
        """
        with self._lock:
            if self._is_killed:
                raise DecoderFailed("The work was given up.")
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", PROGRAM],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    **system.SEPARATE_PROCESS,
                )
            except OSError as error:
                raise DecoderFailed(f"The process that reads the file could not start: {error.strerror}.") from None
        try:
            return self._answer(order, report)
        finally:
            self.kill()
            self._process.wait()

    def kill(self) -> None:
        """Kills the process, or keeps `run` from starting it. Does nothing if the process has ended."""
        with self._lock:
            self._is_killed = True
            if self._process is not None:
                system.kill(self._process)

    def _answer(self, order: Order, report: Callable[[float], None]) -> Mapping[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._process.stdout as answers:
            with suppress(BrokenPipeError), self._process.stdin as orders:
                orders.write(order.to_json().encode())
            for message in _messages(answers):
                match message:
                    case {"share": float() | int() as share}:
                        report(share)
                    case {"facts": dict() as facts}:
                        return facts
                    case {"traceback": str() as lines}:
                        _log.error("A program that makes derived files failed", maker=order.maker, exception=lines)
                    case {"error": _}:
                        raise _error(message)
        raise DecoderFailed("The process that reads the file ended before its work was done; ask again.")


def _messages(lines: IO[bytes]) -> Iterator[dict[str, Any]]:
    while line := lines.readline(_MOST_LINE):
        try:
            yield json.loads(line)
        except ValueError:
            return


def _error(message: dict[str, Any]) -> LongtakeError:
    if message["error"] == DecoderFailed.__name__:
        return DecoderFailed(message["message"])
    return sent_error(message) or DecoderFailed("The process that reads the file failed.")
