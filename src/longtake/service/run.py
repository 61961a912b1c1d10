"""The synchronous way: through the same queue, with the client waiting; and the same with its progress as a stream."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from anyio import CancelScope
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from longtake.endpoints import ENDPOINTS
from longtake.endpoints.validation import problems
from longtake.queue.requests import StoredLogLine
from longtake.queue.status_cache import RequestStatus
from longtake.service.auth import caller_of
from longtake.service.errors import ModelFailed
from longtake.service.events import PING, event, stream
from longtake.service.following import follow, replay, stop
from longtake.service.intake import known, take
from longtake.service.parts import Parts

SILENT_S = 1.0
"""So long a stream waits with its first byte, for an error that can still be told by the answer's status."""

NUMBERS = ("step", "steps", "window", "windows")


def routes(parts: Parts) -> list[BaseRoute]:
    async def run(request: Request) -> Response:
        taken = await take(parts, request, request.path_params["name"])
        ended = await _unless_gone(parts, request, taken.view, _end(parts, taken.view))
        return Response(status_code=499) if ended is None else await replay(parts, ended.row)

    async def streamed(request: Request) -> Response:
        taken = await take(parts, request, request.path_params["name"])
        started = await _unless_gone(parts, request, taken.view, _start(parts, taken.view))
        if started is None:
            return Response(status_code=499)
        if started.row.has_ended and started.row.status_code != 200:
            return await replay(parts, started.row)
        return stream(_progress(parts, started), started.row.id)

    async def without_input(request: Request) -> Response:
        await caller_of(request)
        raise ModelFailed(problems(ENDPOINTS[known(request.path_params["name"])].Request, {}))

    return [
        Route("/{name:path}/stream", streamed, methods=["POST"]),
        Route("/{name:path}", run, methods=["POST"]),
        Route("/{name:path}", without_input, methods=["GET"]),
    ]


async def _unless_gone(parts: Parts, request: Request, view: RequestStatus, wait: Any) -> RequestStatus | None:
    """What is waited for; None, and the request cancelled, where its client goes away before."""
    waiting = asyncio.ensure_future(wait)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((waiting, leaving), return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()  # type: ignore[no-any-return]
        await stop(parts, view.row.id)
        return None
    finally:
        waiting.cancel()
        leaving.cancel()
        with suppress(asyncio.CancelledError):
            await leaving


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _end(parts: Parts, view: RequestStatus) -> RequestStatus:
    last = view
    async for now in follow(parts, view):
        last = now or last
    return last


async def _start(parts: Parts, view: RequestStatus) -> RequestStatus:
    """The view as soon as there is progress or an end, or after `SILENT_S`."""
    last = view
    with suppress(TimeoutError):
        async with asyncio.timeout(SILENT_S):
            async for now in follow(parts, view):
                last = now or last
                if last.log_lines or last.row.has_ended:
                    break
    return last


async def _progress(parts: Parts, view: RequestStatus) -> AsyncIterator[bytes]:
    """Progress as it comes, then the result; the request is cancelled where its client goes away before."""
    told, last = 0, view
    try:
        async for now in follow(parts, view):
            if now is None:
                yield PING
                continue
            for line in now.log_lines[told:]:
                yield event(progress(line))
            told, last = len(now.log_lines), now
        yield await _last_event(parts, last)
    finally:
        if not last.row.has_ended:
            with CancelScope(shield=True):  # the client is gone, and this task with it
                await stop(parts, last.row.id)


def progress(line: StoredLogLine) -> dict[str, Any]:
    """One line of the log, with the numbers in its labels as numbers."""
    labels = {
        name: int(value) if name in NUMBERS and value.isdecimal() else value for name, value in line.labels.items()
    }
    return {"type": "progress", "message": line.message, **labels}


async def _last_event(parts: Parts, view: RequestStatus) -> bytes:
    result = await replay(parts, view.row)
    body = from_json(bytes(result.body))
    if result.status_code == 200:
        return event(body)
    return b"event: error\n" + event({"type": "error", "status": result.status_code, **body})
