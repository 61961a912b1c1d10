"""Reports: answers that need many reads, such as pages of past requests. The API keys share the threads for them
fairly."""

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from longtake.service.responses import SHORT, Headers, accepts_gzip, compressed
from longtake.service.state import ServerState
from longtake.service.streams import CountedResponse

MOST_OPEN = 64
"""Maximum number of reports (answers that need many reads of the database, such as pages of past requests) of one API
key that wait, are made or are sent at the same time. Each may have 2 MiB."""


async def report(
    state: ServerState, request: Request, key_id: str, make: Callable[[], bytes], headers: Headers | None = None
) -> Response:
    """Returns the response whose JSON body `make()` returns, with these additional headers. The body is compressed with
    gzip if the client accepts that, unless it is short.

    `make` is called in a thread. API keys share the threads for reports fairly, so it may have to wait for its turn. It
    is called again after a temporary error of the database.

    request: the request of the client.
    key_id: the id of the client's API key.

    Raises RequestFailed with status 429 if the key has 64 open reports (MOST_OPEN). A report is open from this call
    until the client has received it. Raises ClientDisconnect if the client has gone before its turn.
    """
    can_read = accepts_gzip(request)

    def packed() -> tuple[bytes, Headers]:
        body = make()
        if len(body) <= SHORT or not can_read:
            return body, {}
        return compressed(body), {"content-encoding": "gzip"}

    with ExitStack() as stack:
        stack.enter_context(state.reports.opened(key_id, MOST_OPEN))
        async with state.report_threads.permit(key_id):
            if await request.is_disconnected():
                raise ClientDisconnect
            body, form = await state.repeated(lambda: state.call_long(packed))
        about = {"content-length": str(len(body)), "vary": "Accept-Encoding", **form}
        return CountedResponse(_once(body), {**about, **(headers or {})}, "application/json", stack.pop_all())


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
