"""The worker process's end of its connection to the server: messages over standard input and output."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from queue import SimpleQueue
from typing import IO, TypeVar

from longtake.errors import Cancelled
from longtake.worker.messages import (
    Cancel,
    FileFound,
    FileWanted,
    OfRequest,
    Planned,
    Proceed,
    Run,
    ToServer,
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
    `incoming`, so that a cancellation is noticed while other threads work. If `incoming` ends during a request, the
    server is gone, and this process exits at once to free its device.
    """

    def __init__(self, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
        self._outgoing = outgoing
        self._sending = threading.Lock()
        self._runs: SimpleQueue[Run | None] = SimpleQueue()
        self._closed = threading.Event()
        self._requests: dict[str, RequestChannel] = {}
        self._watched: dict[str, float] = {}  # a request's id -> until when it is watched
        threading.Thread(target=self._read, args=(incoming,), daemon=True).start()

    def send(self, message: ToServer) -> None:
        """Sends a message to the server. May be called from any thread."""
        line = encode_to_server(message)
        with self._sending:
            self._outgoing.write(line)
            self._outgoing.flush()

    def runs(self) -> Iterator[Run]:
        """Yields the requests that the server sends, until it closes the connection."""
        while (run := self._runs.get()) is not None:
            yield run
        self._runs.put(None)  # so that a later call ends, too

    def request(self, request_id: str) -> "RequestChannel":
        """Returns the channel for the messages about a request that the server has sent."""
        return self._requests.setdefault(request_id, RequestChannel(self, request_id))

    def forget(self, request: "RequestChannel") -> None:
        """Receives no more messages for a request, which has ended."""
        if self._requests.get(request.request_id) is request:
            del self._requests[request.request_id]

    def check(self) -> None:
        """Raises Cancelled if the server has closed the connection."""
        if self._closed.is_set():
            raise Cancelled

    def is_watched(self, request_id: str) -> bool:
        """Returns True if a client has asked for previews of this request in the last ten seconds or so (WATCHED_S)."""
        return time.monotonic() < self._watched.get(request_id, 0.0)

    def _read(self, incoming: IO[bytes]) -> None:
        for line in incoming:
            message = decode_to_worker(line)
            match message:
                case Run(request_id):
                    # The server may send a request a second time after it was cancelled here.
                    self._requests[request_id] = RequestChannel(self, request_id)
                    self._runs.put(message)
                case Watched(request_id):
                    self._watched = {request_id: time.monotonic() + WATCHED_S, **self._still_watched(request_id)}
                case Cancel() | Proceed() | FileFound() if message.request_id in self._requests:
                    self._requests[message.request_id].receive(message)
        requests = list(self._requests.values())
        if any(request.is_worked_on for request in requests):
            os._exit(1)
        self._closed.set()
        for request in requests:
            request.receive(None)
        self._runs.put(None)

    def _still_watched(self, but: str) -> dict[str, float]:
        now = time.monotonic()
        return {one: until for one, until in self._watched.items() if until > now and one != but}


class RequestChannel:
    """The connection to the server for one request. A worker process may have two requests at a time.

    `channel`: the connection of the process.
    `request_id`: the request.
    """

    def __init__(self, channel: Channel, request_id: str) -> None:
        self.request_id = request_id
        self.is_worked_on = False
        """True if this process has begun the work on the request and not ended it."""
        self._channel = channel
        self._inbox: SimpleQueue[Proceed | FileFound | Cancel | None] = SimpleQueue()
        self._is_cancelled = False

    @contextmanager
    def working(self) -> Iterator[None]:
        """A context manager: the work on the request. After the block, the server's messages about it are ignored."""
        self.is_worked_on = True
        try:
            yield
        finally:
            self.is_worked_on = False
            self._channel.forget(self)

    def send(self, message: OfRequest) -> None:
        """Sends a message about the request to the server. May be called from any thread."""
        self._channel.send(replace(message, request_id=self.request_id))

    def receive(self, message: Proceed | FileFound | Cancel | None) -> None:
        """Takes a message of the server about the request; None if the server has closed the connection."""
        self._is_cancelled |= isinstance(message, Cancel)
        # A cancellation is put here, too, because it has to end the wait in `_reply`.
        self._inbox.put(message)

    def check(self) -> None:
        """Raises Cancelled if the server has cancelled the request or closed the connection."""
        self._channel.check()
        if self._is_cancelled:
            raise Cancelled

    def is_watched(self) -> bool:
        """Returns True if a client has asked for previews of the request in the last ten seconds or so (WATCHED_S)."""
        return self._channel.is_watched(self.request_id)

    def find_file(self, url: str) -> FileFound:
        """Asks the server which stored file a URL names, and returns its reply.

        Raises Cancelled if the server has cancelled the request or closed the connection.
        """
        self.send(FileWanted(url))
        return self._reply(FileFound)

    def store_plan(self, planned: Planned) -> None:
        """Sends the request's plan to the server, and waits until the server has stored it.

        Raises Cancelled if the server has cancelled the request or closed the connection.
        """
        self.send(planned)
        self._reply(Proceed)

    def _reply(self, kind: type[ReplyT]) -> ReplyT:
        while (message := self._inbox.get()) is not None:
            self.check()
            if isinstance(message, kind):
                return message
        raise Cancelled
