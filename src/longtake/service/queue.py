"""The queue as fal's clients know it: submit, status as a stream, result, cancel. A plain status is answered by
`app.Application` itself."""

from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from longtake.queue.status_cache import RequestStatus
from longtake.service.errors import answer
from longtake.service.events import PING, event, stream
from longtake.service.following import follow, found, replay, stop
from longtake.service.intake import take
from longtake.service.parts import Parts
from longtake.service.status import prepared, status, told_state, urls, wants_logs


def routes(parts: Parts) -> list[BaseRoute]:
    async def submit(request: Request) -> Response:
        taken = await take(parts, request, request.path_params["name"], webhook=True)
        row = taken.row
        body: dict[str, Any] = {
            "status": "IN_QUEUE" if taken.is_new else told_state(row),
            "request_id": row.id,
            "gateway_request_id": row.id,
            **urls(row),
            "logs": None,
            "metrics": {},
            "queue_position": taken.view.queue_position or 0,
        }
        replayed = {} if taken.is_new else {"idempotency-replayed": "true"}
        return answer(body, headers={"x-fal-request-id": row.id, **replayed})

    async def events(request: Request) -> Response:
        view = await found(parts, request)
        return stream(changes(parts, view, logs=wants_logs(request.url.query)), view.row.id)

    async def result(request: Request) -> Response:
        return await replay(parts, (await found(parts, request)).row)

    async def cancel(request: Request) -> Response:
        row = (await found(parts, request)).row
        code, word = await stop(parts, row.id)
        return answer({"status": word}, code, {"x-fal-request-id": row.id})

    return [
        Route("/{name:path}/requests/{request_id}/status/stream", events),
        Route("/{name:path}/requests/{request_id}/cancel", cancel, methods=["PUT"]),
        Route("/{name:path}/requests/{request_id}", result),
        Route("/{name:path}", submit, methods=["POST"]),
    ]


async def changes(parts: Parts, view: RequestStatus, *, logs: bool) -> AsyncIterator[bytes]:
    """A request's status each time it changed, to its end; with each the lines of the log since the one before."""
    last, told = b"", 0
    async for now in follow(parts, view):
        if now is None:
            yield PING
            continue
        bare, lines = prepared(now, logs=False), now.log_lines[told:] if logs else ()
        if bare != last or lines:
            yield event(status(now, lines if logs else None))
        last, told = bare, len(now.log_lines)
