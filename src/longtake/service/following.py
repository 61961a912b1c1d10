"""Following a request to its end: finding it, waiting for it, stopping it, and its result."""

import time
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response

from longtake.queue import engine as queue
from longtake.queue.requests import RequestRow
from longtake.queue.status_cache import RequestStatus
from longtake.service.auth import caller_of, own
from longtake.service.errors import NotFound, RequestFailed, request_error, retry_marks
from longtake.service.names import ID, belongs
from longtake.service.parts import Parts

ANSWERS = {
    "cancelled": (200, "OK"),
    "requested": (202, "CANCELLATION_REQUESTED"),
    "ended": (400, "ALREADY_COMPLETED"),
    "unknown": (404, "NOT_FOUND"),
}
"""What a cancel is answered."""


async def view_of(parts: Parts, request_id: str) -> RequestStatus | None:
    """The view of a request, from memory where that is up to date."""
    return parts.board.peek(request_id) or await parts.ask(parts.board.get, request_id)


async def found(parts: Parts, request: Request) -> RequestStatus:
    """The request that the path names, where it is the caller's. Raises NotFound."""
    caller = await caller_of(request)
    request_id = request.path_params["request_id"]
    view = await view_of(parts, request_id) if ID.fullmatch(request_id) else None
    row = own(caller, None if view is None else view.row)
    if view is None or not belongs(row.endpoint, request.path_params["name"]):
        raise NotFound
    return view


async def follow(parts: Parts, view: RequestStatus) -> AsyncIterator[RequestStatus | None]:
    """The views of a request from this one on, to its end; None where so long nothing happened that a stream must break
    its silence."""
    yield view
    spoke = time.monotonic()
    while not view.row.has_ended:
        rest = max(0.05, parts.settings.ping_s - (time.monotonic() - spoke))
        await parts.board.wait_for_change(view.row.id, view.row.version, rest)
        later = await view_of(parts, view.row.id)
        if later is None:
            return
        if later is not view:
            yield later
            view, spoke = later, time.monotonic()
        elif time.monotonic() - spoke >= parts.settings.ping_s:
            yield None
            spoke = time.monotonic()


async def stop(parts: Parts, request_id: str) -> tuple[int, str]:
    """Cancels a request: the status and the word that fal answers."""
    done = await parts.ask(queue.cancel, parts.engine, request_id)
    parts.board.mark_changed(request_id)
    if done == "requested":
        parts.cancel(request_id)
    return ANSWERS[done]


async def replay(parts: Parts, row: RequestRow) -> Response:
    """The result of a request that has ended, as often as it is asked for: status, headers and body."""
    if not row.has_ended or row.status_code is None:
        raise RequestFailed(400, "Request is still in progress", None, {"x-fal-request-id": row.id})
    body = await parts.ask(queue.output, parts.engine, row.id)
    kept = {name.lower(): value for name, value in (row.headers or {}).items()}
    headers = {
        "x-fal-billable-units": "0",
        "x-longtake-price-usd": row.price_usd,
        **retry_marks(row.status_code),
        **kept,
        "x-fal-request-id": row.id,
    }
    if body is None:
        gone = "The payload of this request was deleted."
        return request_error(404, gone, "not_found", {"x-fal-request-id": row.id})
    return Response(body, row.status_code, headers, "application/json")
