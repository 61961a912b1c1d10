"""The routes of the service `run`. They submit a request, and then wait for its result or stream its progress.

These requests wait in the same queue as all others. A request is cancelled if its client's key is revoked. It is also
cancelled if its client disconnects or the server stops before the request has ended, unless it has an idempotency key:
such a client can repeat the request to get its result.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, suppress
from typing import Any

from anyio import CancelScope
from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from longtake.access.keys import Caller
from longtake.endpoints import ENDPOINTS
from longtake.endpoints.validation import problems
from longtake.queue.requests import RequestRow, StoredLogLine
from longtake.queue.status_cache import RequestStatus
from longtake.service.auth import UNKNOWN, caller_of, is_revoked
from longtake.service.queue import cancel, follow, result_response
from longtake.service.responses import CLOSE, ModelFailed, RequestFailed, body_of
from longtake.service.state import ServerState
from longtake.service.streams import PING, EventStream, event, json_event, result_for
from longtake.service.submit import existing_endpoint, submit

FIRST_EVENT_S = 1.0
"""Seconds that a stream holds back its first byte, so that an early failure can still set the HTTP status."""

NUMBERS = ("step", "steps", "window", "windows")
"""Labels of a log line that are sent as JSON numbers. The other labels are sent as text."""


def routes(state: ServerState) -> list[BaseRoute]:
    """Returns the routes of fal's service `run`, with which a client submits a request and waits for its result."""

    async def run(request: Request) -> Response:
        caller = await caller_of(request)
        status = (await submit(state, request, request.path_params["name"])).status
        last = await _unless_disconnected(state, request, status, _wait_for_end(state, status, caller))
        if last is None:
            return Response(status_code=499)
        if not last.row.has_ended and state.stopping.is_set():
            await _give_up(state, last.row)
            raise _stops()
        if not last.row.has_ended:  # the caller's key was revoked, or the row was deleted
            await cancel(state, last.row)
            if await is_revoked(state, caller.key_id):
                raise RequestFailed(401, UNKNOWN)
        return await result_response(state, last.row)

    async def stream(request: Request) -> Response:
        caller = await caller_of(request)
        with ExitStack() as stack:
            stack.enter_context(state.streams.opened(caller.key_id, state.settings.max_streams_per_key))
            status = (await submit(state, request, request.path_params["name"])).status
            first = await _unless_disconnected(state, request, status, _wait_for_start(state, status, caller))
            if first is None:
                return Response(status_code=499)
            if first.row.has_ended and first.row.status_code != 200:
                return await result_response(state, first.row)
            return EventStream(_progress_events(state, first, caller), first.row.id, stack.pop_all())

    async def without_input(request: Request) -> Response:
        await caller_of(request)
        raise ModelFailed(problems(ENDPOINTS[existing_endpoint(request.path_params["name"])].Request, {}))

    return [
        Route("/{name:path}/stream", stream, methods=["POST"]),
        Route("/{name:path}", run, methods=["POST"]),
        Route("/{name:path}", without_input, methods=["GET"]),
    ]


async def _unless_disconnected(
    state: ServerState, request: Request, status: RequestStatus, wait: Awaitable[RequestStatus]
) -> RequestStatus | None:
    """Returns the result of `wait`. If the client disconnects first, gives the queued request up and returns None.

    request: the client's HTTP request.
    status: any status of the queued request; only the request's row in it is used.
    wait: waits for the queued request, and returns its new status.
    """
    waiting = asyncio.ensure_future(wait)
    try:
        return await result_for(request, waiting)
    except ClientDisconnect:
        await _give_up(state, status.row)
        return None
    finally:
        waiting.cancel()


async def _give_up(state: ServerState, row: RequestRow) -> None:
    """Cancels a request whose client waits for it no longer, unless it has an idempotency key.

    With the key, a client whose connection broke can repeat the request, and other connections may wait for it.
    """
    if row.idempotency_key is None:
        await cancel(state, row)


def _stops() -> RequestFailed:
    """Returns the error (HTTP status 503) for a client whose request has not ended when the server stops."""
    return RequestFailed(503, "The server stops. Send the request again.", "runner_disconnected", CLOSE)


async def _wait_for_end(state: ServerState, status: RequestStatus, caller: Caller) -> RequestStatus:
    """Waits until the queued request has ended, its row is deleted, the server stops, or the key of `caller`, who waits
    for it, is revoked. Returns the last known status of the request.

    `status` is the status that is known before the wait.
    """
    last = status
    async for current in follow(state, status, caller):
        last = current or last
    return last


async def _wait_for_start(state: ServerState, status: RequestStatus, caller: Caller) -> RequestStatus:
    """Waits until the queued request has a log line or progress, or has ended, but at most one second (FIRST_EVENT_S).

    Returns the last known status of the request. `status` is the status that is known before the wait, and `caller` is
    who waits.
    """
    last = status
    with suppress(TimeoutError):
        async with asyncio.timeout(FIRST_EVENT_S):
            async for current in follow(state, status, caller):
                last = current or last
                if last.log_lines or last.row.progress or last.row.has_ended:
                    break
    return last


async def _progress_events(state: ServerState, status: RequestStatus, caller: Caller) -> AsyncIterator[bytes]:
    """Yields an encoded event for each log line and each change of the progress of the queued request, then one for its
    result.

    After each `settings.ping_s` seconds without a change, a comment that keeps the connection open is yielded (PING).
    If the client disconnects or the server stops, the request is given up (see `_give_up`). If the key of `caller`, to
    whom the events are sent, is revoked, it is cancelled. `status` is the first known status of the request.
    """
    lines_sent, sent, last = 0, None, status
    leave: Callable[[ServerState, RequestRow], Awaitable[object]] = _give_up
    try:
        async for current in follow(state, status, caller):
            if current is None:
                yield PING
                continue
            now = current.row.progress
            for line in current.log_lines[lines_sent:]:
                if now is None or line.message != now["message"]:
                    yield event(progress(line))
            if now is not None and now != sent:
                yield event({"type": "progress", **now})
            lines_sent, sent, last = len(current.log_lines), now, current
        if last.row.has_ended:
            yield await _result_event(state, last)
        elif state.stopping.is_set():
            error = _stops()
            yield _error_event(error.status, {"detail": error.detail, "error_type": error.error_type})
        else:  # the key was revoked, or the row was deleted
            leave = cancel
    finally:
        if not last.row.has_ended:
            with CancelScope(shield=True):  # A disconnect also cancels this task. The shield lets the next call finish.
                await leave(state, last.row)


def progress(line: StoredLogLine) -> dict[str, Any]:
    """Returns the data of the event for one log line: {"type": "progress", "message": ...}. It also has a member for
    each label of the line, such as `stage` (the stage of the work that begins).

    The values of the labels `NUMBERS` become integers; all others are texts.
    """
    labels = {
        name: int(value) if name in NUMBERS and value.isdecimal() else value for name, value in line.labels.items()
    }
    return {"type": "progress", "message": line.message, **labels}


async def _result_event(state: ServerState, status: RequestStatus) -> bytes:
    """Returns the encoded event with the result of an ended request. `status` is the request's last status.

    If the result's HTTP status is not 200, the event has the type `error`.
    """
    result = await result_response(state, status.row)
    content = await body_of(result)
    if result.status_code == 200:
        return json_event(content)  # It can have a video in it; parsing that would delay other clients.
    return _error_event(result.status_code, from_json(content))


def _error_event(status: int, body: dict[str, Any]) -> bytes:
    """Returns the encoded event for an error with this HTTP status and the JSON object of its answer."""
    return b"event: error\n" + event({"type": "error", "status": status, **body})
