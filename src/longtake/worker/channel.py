"""The worker process's end of its connection to the server: messages over standard input and output."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import IO, TypeVar

from longtake.errors import Cancelled
from longtake.worker.messages import (
    Cancel,
    FileFound,
    FileWanted,
    Planned,
    Proceed,
    Run,
    ToServer,
    ToWorker,
    Watched,
    decode_to_worker,
    encode_to_server,
)

WATCHED_S = 9.0
"""Seconds for which previews are sent after the server's message that a client asks for them.

The message is sent up to one second after a client has asked. So previews end about ten seconds after the last time
that a client has asked.
"""

ReplyT = TypeVar("ReplyT", Proceed, FileFound)


class Channel:
    """Sends messages to the server and receives the server's messages.

    `incoming` is the stream of the server's messages, `outgoing` the stream of messages to the server. A thread reads
    `incoming`, so that a cancellation is noticed while the main thread works. If `incoming` ends during a request, the
    server is gone, and this process exits at once to free its device.
    """

    def __init__(self, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
        self._outgoing = outgoing
        self._sending = threading.Lock()
        self._inbox: SimpleQueue[ToWorker | None] = SimpleQueue()
        self._closed = threading.Event()
        self._current: str | None = None
        self._cancelled: str | None = None
        self._watched: tuple[str, float] | None = None  # a request's id, and until when it is watched
        threading.Thread(target=self._read, args=(incoming,), daemon=True).start()

    def send(self, message: ToServer) -> None:
        """Sends a message to the server. May be called from any thread."""
        line = encode_to_server(message)
        with self._sending:
            self._outgoing.write(line)
            self._outgoing.flush()

    def messages(self) -> Iterator[ToWorker]:
        """Yields the server's messages until the server closes the connection."""
        while (message := self._inbox.get()) is not None:
            yield message
        self._inbox.put(None)  # so that a later call of `messages` ends, too

    @contextmanager
    def working_on(self, request_id: str) -> Iterator[None]:
        """A context manager: during its block this request is the current one.

        If the server cancels the request during the block, the next call of `check` raises Cancelled.
        """
        self._current = request_id
        try:
            yield
        finally:
            self._current = None

    def check(self) -> None:
        """Raises Cancelled if the server has cancelled the current request or closed the connection."""
        if self._closed.is_set() or (self._current is not None and self._current == self._cancelled):
            raise Cancelled

    def is_watched(self, request_id: str) -> bool:
        """Returns True if a client has asked for previews of this request in the last ten seconds or so (WATCHED_S)."""
        watched = self._watched
        return watched is not None and watched[0] == request_id and time.monotonic() < watched[1]

    def find_file(self, url: str) -> FileFound:
        """Asks the server which stored file a URL names, and returns its reply.

        Raises Cancelled if the server has cancelled the current request or closed the connection.
        """
        self.send(FileWanted(url))
        return self._reply(FileFound)

    def store_plan(self, planned: Planned) -> None:
        """Sends the current request's plan to the server, and waits until the server has stored it.

        Raises Cancelled if the server has cancelled the current request or closed the connection.
        """
        self.send(planned)
        self._reply(Proceed)

    def _reply(self, kind: type[ReplyT]) -> ReplyT:
        for message in self.messages():
            self.check()
            if isinstance(message, kind):
                return message
        raise Cancelled

    def _read(self, incoming: IO[bytes]) -> None:
        for line in incoming:
            message = decode_to_worker(line)
            match message:
                case Run():
                    # The server may send a request a second time after it was cancelled here.
                    self._cancelled = None
                case Cancel(request_id):
                    self._cancelled = request_id
                case Watched(request_id):
                    self._watched = (request_id, time.monotonic() + WATCHED_S)
                    continue
            # Cancellations are put here, too, because they have to end the wait in `_reply`.
            self._inbox.put(message)
        if self._current is not None:
            os._exit(1)
        self._closed.set()
        self._inbox.put(None)
