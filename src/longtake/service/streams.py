"""Event streams and other answers that stay open for long, and how many of them each key has."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from longtake.errors import LongtakeError
from longtake.service.responses import Headers, limit_reached, to_json

T = TypeVar("T")

PING = b": ping\n\n"
"""A comment in an event stream. Clients ignore it, but it keeps the connection open."""


def event(value: Any) -> bytes:
    """Returns one encoded event of an event stream. Its data is `value` as JSON.

    Every event needs data, because fal's Python client fails at an event without it.
    """
    return json_event(to_json(value))


def json_event(data: bytes) -> bytes:
    """Returns one encoded event of an event stream. `data` is JSON in one line."""
    return b"data: " + data + b"\n\n"


class OpenAnswers:
    """Counts for each API key the open answers of one kind: those that the server makes or sends at present.

    May be used only in the thread of the event loop.

    kind: what the answers are called in the error for a key that has too many, such as `event streams`.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._open: Counter[str | None] = Counter()

    @contextmanager
    def opened(self, key_id: str | None, most: int) -> Iterator[None]:
        """Counts one more open answer for an API key during the `with` block.

        An answer is open while the server makes or sends it. All answers with the key None are counted together.

        Raises RequestFailed with status 429 if the key has `most` open answers already.
        """
        if self._open[key_id] >= most:
            raise limit_reached(
                f"This key has {most} open {self._kind}, as many as it may. Ask again when one has ended."
            )
        self._open[key_id] += 1
        try:
            yield
        finally:
            self._open[key_id] -= 1
            if not self._open[key_id]:
                del self._open[key_id]


async def result_for(request: Request, task: "asyncio.Future[T]") -> T:
    """Returns the result of a task for which the client of a request waits. Other clients may wait for it, too.

    request: the client's request, whose body has been received.

    Raises ClientDisconnect if the client goes before the task's end. The task then continues. If the task raises a
    LongtakeError, each waiting client gets a copy of its own, so that a caller may change it (see `errors_at`).
    """
    gone = asyncio.create_task(wait_for_disconnect(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    except LongtakeError as error:
        raise copy(error) from None
    finally:
        gone.cancel()
        await asyncio.wait((gone,))  # it must not receive what a later reader of the request waits for


async def wait_for_disconnect(request: Request) -> None:
    """Returns when the client of a request, whose body has been received, has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class CountedResponse(StreamingResponse):
    """A response with status 200 that exits context managers at its end, for example those that count open responses.

    Its end is when the client has received nearly all of it, or has gone.

    pieces: the pieces of the body. The server waits before each piece while much that was sent is still unread. It also
        waits after the last piece, before the empty one that starlette sends at the end. So the end comes when the
        client has read nearly all.
    on_end: the stack of context managers.
    """

    def __init__(self, pieces: AsyncIterator[bytes], headers: Headers, media_type: str, on_end: ExitStack) -> None:
        super().__init__(pieces, 200, headers, media_type)
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._on_end:
            await super().__call__(scope, receive, send)


class EventStream(CountedResponse):
    """A response that sends each item of `events` as soon as it is yielded. Proxies are asked not to delay it.

    events: yields encoded events, as returned by `event`, and comments that keep the connection open (PING).
    request_id: the request's id, for the header `x-fal-request-id`.
    on_end: the stack of context managers that is closed when the stream ends, also if the client disconnects.
    """

    def __init__(self, events: AsyncIterator[bytes], request_id: str, on_end: ExitStack) -> None:
        headers = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no", "x-fal-request-id": request_id}
        super().__init__(events, headers, "text/event-stream", on_end)
