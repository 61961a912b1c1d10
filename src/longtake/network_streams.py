"""The network connections of requests to hosts that users name: with a deadline, limits, and cancellation.

All connections of the process take turns to process what they have received, so that other threads can run.
"""

import math
import selectors
import ssl
import threading
import time
from typing import Any

import httpcore

from longtake.video import CHECK_EVERY_S, Check

WRITTEN_BYTES = 16_384
"""Largest number of bytes that are sent between two checks of the deadline."""

LEAST_BYTES, MOST_BYTES = 1024, 65_536
"""The smallest and the largest limit of the bytes that one read returns. A connection starts with the smallest limit,
and adapts it to the time that the work on the bytes takes."""

TURN_S = 0.005
"""The processor time in seconds that the work on the bytes of one read, such as parsing them, should take at most, so
that other threads can run. If it takes longer, the next read gets fewer bytes."""

WAITING = getattr(selectors, "PollSelector", selectors.SelectSelector)
"""A class of selectors that need no file descriptor of their own, so that they work at the limit of open files."""

AT_ONCE_S = 0.001
"""Timeout in seconds of a read of bytes that have arrived already."""


class CheckedStream(httpcore.NetworkStream):
    """A network connection with a deadline and a size limit, whose reads can be cancelled and take turns with others.

    stream: the connection that does the work.
    deadline: the time (`time.monotonic`) by which each operation must end. After it, httpcore.TimeoutException is
        raised. If it is None, only the timeout of each operation applies.
    check: called again and again while `read` waits. It may raise an exception to end the read.
    turn: a lock that all such connections of the process share.
    bytes_left: the number of bytes that may still be read. After it, `read` raises httpcore.RemoteProtocolError. None
        means no limit. The last read may return more than are left.

    A connection holds the lock from the arrival of bytes until its next read. The other connections wait meanwhile, but
    at most a quarter of a second. Without the lock, ten downloading threads would compete for Python's interpreter with
    the thread that answers the server's clients, and delay it by tenths of a second.
    If the work on the bytes of one read takes long, as with very small chunks, fewer bytes are read the next time.
    """

    def __init__(
        self,
        stream: httpcore.NetworkStream,
        deadline: float | None,
        check: Check,
        turn: threading.Lock,
        bytes_left: int | None = None,
    ) -> None:
        self.deadline = deadline
        self.bytes_left = bytes_left
        self._stream = stream
        self._check = check
        self._turn = turn
        self._has_turn = False
        self._worked_from: float | None = None  # the processor time of the thread when bytes arrived
        self._most_bytes = LEAST_BYTES

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._end_turn()
        if self.bytes_left is not None and self.bytes_left <= 0:
            raise httpcore.RemoteProtocolError("the head of the answer is too large")
        data = self._read(max_bytes, timeout)
        if self.bytes_left is not None:
            self.bytes_left -= len(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), WRITTEN_BYTES):
            self._stream.write(buffer[start : start + WRITTEN_BYTES], self._bounded(timeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._bounded(timeout))
        return CheckedStream(stream, self.deadline, self._check, self._turn, self.bytes_left)

    def close(self) -> None:
        self._end_turn()
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _read(self, max_bytes: int, timeout: float | None) -> bytes:
        read_by = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            self._check()
            left_s = self._bounded(read_by - time.monotonic()) or 0.0
            if self._has_bytes(min(max(left_s, AT_ONCE_S), CHECK_EVERY_S)):
                self._begin_turn()
                try:
                    return self._stream.read(min(max_bytes, self._most_bytes), AT_ONCE_S)
                except httpcore.ReadTimeout:  # A part of a TLS record has arrived.
                    self._end_turn()
            if time.monotonic() >= read_by:
                raise httpcore.ReadTimeout("no answer in time")

    def _bounded(self, timeout: float | None) -> float | None:
        """Returns the timeout of the next operation in seconds: `timeout`, but at most the time until the deadline.

        None means no limit. Raises ReadTimeout after the deadline.
        """
        if self.deadline is None:
            return timeout
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("no answer in time")
        return left if timeout is None else min(left, timeout)

    def _has_bytes(self, timeout: float) -> bool:
        """Waits until bytes can be read or the other end has closed. Returns False after `timeout` seconds."""
        connection = self._stream.get_extra_info("socket")
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return True
        with WAITING() as selector:
            selector.register(connection, selectors.EVENT_READ)
            return bool(selector.select(timeout))

    def _begin_turn(self) -> None:
        self._has_turn = self._turn.acquire(timeout=CHECK_EVERY_S)
        self._worked_from = time.thread_time()

    def _end_turn(self) -> None:
        if self._worked_from is None:
            return
        worked_s, self._worked_from = time.thread_time() - self._worked_from, None
        if worked_s > TURN_S:
            self._most_bytes = max(self._most_bytes // 2, LEAST_BYTES)
        elif worked_s < TURN_S / 4:
            self._most_bytes = min(self._most_bytes * 2, MOST_BYTES)
        if self._has_turn:
            self._turn.release()
