"""The routes of the service `queue`: submission, status stream, result and cancellation of a request.

There is no route for plain status requests. `app.Application` answers them with `read_status` and `status_json`, which
is faster than a route: each waiting client polls its status ten times a second.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from longtake.access.keys import Caller
from longtake.queue import engine as queue
from longtake.queue import payloads
from longtake.queue.addresses import REQUEST_ID, app_name, is_file_url, names_endpoint, request_path
from longtake.queue.payloads import has_video_inside
from longtake.queue.requests import RequestRow, StoredLogLine
from longtake.queue.status_cache import RequestStatus
from longtake.service.auth import caller_of, is_revoked, visible_row
from longtake.service.responses import (
    NotFound,
    RequestFailed,
    json_response,
    request_error,
    retry_headers,
    to_json,
)
from longtake.service.state import ServerState
from longtake.service.streams import PING, EventStream, event
from longtake.service.submit import submit
from longtake.storage.keys import key_in_url

CANCEL_ANSWERS = {
    "cancelled": (200, "OK"),
    "requested": (202, "CANCELLATION_REQUESTED"),
    "ended": (400, "ALREADY_COMPLETED"),
    "unknown": (404, "NOT_FOUND"),
}
"""Result of `longtake.queue.engine.cancel` -> the HTTP status and fal's status word of the answer."""

CHECK_EVERY_S = 5.0
"""Seconds between two looks at whether the key of a client that follows a request was revoked."""

TRUE = ("1", "true", "yes", "on")
"""Values of a query parameter that mean yes. fal's Python client sends `true`, its JavaScript client sends `1`."""


def routes(state: ServerState) -> list[BaseRoute]:
    """Returns the routes of fal's service `queue`: submission, status stream, result and cancellation of a request."""

    async def submission(request: Request) -> Response:
        submitted = await submit(state, request, request.path_params["name"], webhook=True)
        row = submitted.row
        body: dict[str, Any] = {
            "status": "IN_QUEUE" if submitted.is_new else client_state(row),
            "request_id": row.id,
            "gateway_request_id": row.id,
            **urls(row),
            "logs": None,
            "metrics": {},
            "queue_position": submitted.status.queue_position or 0,
        }
        replayed = {} if submitted.is_new else {"idempotency-replayed": "true"}
        return json_response(body, headers={"x-fal-request-id": row.id, **replayed})

    async def status_stream(request: Request) -> Response:
        status, caller = await find_status(state, request), await caller_of(request)
        with ExitStack() as stack:
            stack.enter_context(state.streams.opened(caller.key_id, state.settings.max_streams_per_key))
            events = _status_events(state, status, caller, logs=wants_logs(request.url.query))
            return EventStream(events, status.row.id, stack.pop_all())

    async def result(request: Request) -> Response:
        return await result_response(state, (await find_status(state, request)).row)

    async def cancellation(request: Request) -> Response:
        row = (await find_status(state, request)).row
        code, word = await cancel(state, row)
        return json_response({"status": word}, code, {"x-fal-request-id": row.id})

    return [
        Route("/{name:path}/requests/{request_id}/status/stream", status_stream),
        Route("/{name:path}/requests/{request_id}/cancel", cancellation, methods=["PUT"]),
        Route("/{name:path}/requests/{request_id}", result),
        Route("/{name:path}", submission, methods=["POST"]),
    ]


# Finding a request


async def read_status(state: ServerState, caller: Caller, path: str) -> RequestStatus:
    """Returns the status of the request that a path `/<name>/requests/<request id>/status` names.

    Raises NotFound if there is no such request, or the caller may not see it. The database is not read if the status is
    cached.
    """
    found = request_path(path)
    if found is None or found.rest != "/status":
        raise NotFound
    return await visible_status(state, caller, found.name, found.request_id)


async def find_status(state: ServerState, request: Request) -> RequestStatus:
    """Returns the status of the request that the path of an HTTP request names.

    The path's parameters are `name` (an endpoint's id, such as `fal-ai/some-app/extend`, or its first two parts) and
    `request_id`. Raises RequestFailed with status 401 for an unknown caller. Raises NotFound if there is no such
    request, or the caller may not see it.
    """
    caller = await caller_of(request)
    return await visible_status(state, caller, request.path_params["name"], request.path_params["request_id"])


async def visible_status(state: ServerState, caller: Caller, name: str, request_id: str) -> RequestStatus:
    """Returns the status of the request with this id. The name and the id are from the URL that a client has sent.

    Raises NotFound if there is no such request, if the caller may not see it, or if `name` is neither the id of the
    request's endpoint, such as `fal-ai/some-app/extend`, nor its first two parts, such as `fal-ai/some-app`.
    """
    status = await status_of(state, request_id) if REQUEST_ID.fullmatch(request_id) else None
    row = visible_row(caller, None if status is None else status.row)
    if status is None or not names_endpoint(name, row.endpoint):
        raise NotFound
    return status


async def status_of(state: ServerState, request_id: str) -> RequestStatus | None:
    """Returns the status of the request with this id, or None if there is no such request.

    A cached status that is up to date needs no database query.
    """
    return state.statuses.peek(request_id) or await state.call_with_retries(state.statuses.get, request_id)


# The status as JSON


def status_json(status: RequestStatus, *, logs: bool) -> bytes:
    """Returns the status as JSON in UTF-8.

    With `logs` it contains all log lines of the request, otherwise null in their place. The JSON is cached in
    `status.rendered`.
    """
    key = "status+logs" if logs else "status"
    if key not in status.rendered:
        status.rendered[key] = to_json(_status_body(status, status.log_lines if logs else None))
    return status.rendered[key]


def _status_body(status: RequestStatus, logs: Sequence[StoredLogLine] | None) -> dict[str, Any]:
    """Returns the status as a JSON object in fal's form.

    `logs` are the log lines that the object contains. If they are None, its entry `logs` is null.
    """
    row = status.row
    body: dict[str, Any] = {"status": client_state(row), "request_id": row.id, **urls(row)}
    if status.queue_position is not None and row.state == "IN_QUEUE":
        body["queue_position"] = status.queue_position
    if row.state == "IN_PROGRESS" and row.progress is not None:
        body["progress"] = row.progress
    body["logs"] = None if logs is None else [_log_entry(line) for line in logs]
    body["metrics"] = (row.timings or {}) if row.has_ended else {}
    if row.has_ended and row.error is not None:
        body["error"] = row.error
    if row.has_ended and row.error_type is not None:
        body["error_type"] = row.error_type
    return body


def _log_entry(line: StoredLogLine) -> dict[str, Any]:
    # fal writes times in UTC without an offset.
    return {
        "timestamp": datetime.fromtimestamp(line.at, UTC).replace(tzinfo=None).isoformat(timespec="microseconds"),
        "level": line.level,
        "source": "USER",
        "message": line.message,
        "labels": line.labels,
    }


def client_state(row: RequestRow) -> str:
    """Returns the request's state as fal's clients know it: IN_QUEUE, IN_PROGRESS or COMPLETED.

    A request that failed or was cancelled is COMPLETED, too.
    """
    return "COMPLETED" if row.has_ended else row.state


def status_code(status: RequestStatus) -> int:
    """Returns the HTTP status of the answer to a status request: 200 if the request has ended, otherwise 202."""
    return 200 if status.row.has_ended else 202


def urls(row: RequestRow) -> dict[str, str]:
    """Returns the URLs of a request's result, status and cancellation: {response_url, status_url, cancel_url}."""
    base = f"{row.base_url}/{app_name(row.endpoint)}/requests/{row.id}"
    return {"response_url": base, "status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}


def wants_logs(query: str) -> bool:
    """Returns True if a URL's query string asks for the log, as `logs=1` does.

    If the parameter `logs` is repeated, the last value counts.
    """
    if not query:
        return False
    values = [part[5:] for part in query.split("&") if part.startswith("logs=")]
    return bool(values) and values[-1].lower() in TRUE


# Following a request


async def follow(state: ServerState, status: RequestStatus, caller: Caller) -> AsyncIterator[RequestStatus | None]:
    """Yields the status of a request whenever it changes, beginning with `status`.

    Ends when the request has ended, after its last status, when its row is deleted, or when the server stops. Also ends
    when the key of `caller`, who follows the request, is revoked: that is looked up every 5 seconds (CHECK_EVERY_S).
    Yields None after each `settings.ping_s` seconds without a change, so that the caller can send something to keep its
    connection open.
    """
    yield status
    yielded_at = checked_at = time.monotonic()
    while not (status.row.has_ended or state.stopping.is_set()):
        now = time.monotonic()
        left_s = min(yielded_at + state.settings.ping_s, checked_at + CHECK_EVERY_S) - now
        await state.statuses.wait_for_change(status.row.id, status.row.version, max(0.05, left_s))
        if time.monotonic() - checked_at >= CHECK_EVERY_S:
            if await is_revoked(state, caller.key_id):
                return
            checked_at = time.monotonic()
        later = await status_of(state, status.row.id)
        if later is None:
            return
        if later is not status:
            yield later
            status, yielded_at = later, time.monotonic()
        elif time.monotonic() - yielded_at >= state.settings.ping_s:
            yield None
            yielded_at = time.monotonic()


async def _status_events(
    state: ServerState, status: RequestStatus, caller: Caller, *, logs: bool
) -> AsyncIterator[bytes]:
    """Yields an encoded event of an event stream for each change of a request's status, beginning with `status`.

    With `logs` each event has the log lines since the previous event. After each `settings.ping_s` seconds without a
    change, a comment that keeps the connection open is yielded (PING).

    Ends after the event of the request's last status, when the request's row is deleted, or when the key of `caller`,
    to whom the events are sent, is revoked.
    """
    last, lines_sent = b"", 0
    async for current in follow(state, status, caller):
        if current is None:
            yield PING
            continue
        without_logs, lines = status_json(current, logs=False), current.log_lines[lines_sent:] if logs else ()
        if without_logs != last or lines:
            yield event(_status_body(current, lines if logs else None))
        last, lines_sent = without_logs, len(current.log_lines)


async def cancel(state: ServerState, row: RequestRow) -> tuple[int, str]:
    """Cancels the request of a row. Returns (HTTP status, fal's status word) of the answer to the client:

    - (200, "OK"): the request was waiting, and has ended now.
    - (202, "CANCELLATION_REQUESTED"): the request is running, and will be stopped.
    - (400, "ALREADY_COMPLETED"): the request had already ended.
    - (404, "NOT_FOUND"): there is no such request.
    """
    outcome = await state.call_for_with_retries(row.key_id, queue.cancel, state.engine, row.id)
    state.statuses.mark_changed(row.id)
    if outcome == "requested":
        state.cancel_running(row.id)
    return CANCEL_ANSWERS[outcome]


async def result_response(state: ServerState, row: RequestRow) -> Response:
    """Returns the response with the result of a request. `row` is the request's row in the database.

    - If the request has ended: the stored result, with the HTTP status with which the request ended. A result with its
      video inside is read in pieces while it is sent.
    - If the result or its file was deleted: a response with status 404, which says so.
    - If the request has not ended: raises RequestFailed with status 400.
    - If the result or its file is missing or damaged: raises FileLost.
    """
    if not row.has_ended or row.status_code is None:
        raise RequestFailed(400, "Request is still in progress", None, {"x-fal-request-id": row.id})
    opened = await state.call_for_with_retries(
        row.key_id, payloads.open_result, state.engine, state.store.blobs, row.id
    )
    if opened is None:
        return _deleted("The payload of this request was deleted.", row)
    headers = {
        "x-fal-billable-units": "0",
        "x-longtake-price-usd": row.price_usd,
        **({"x-fal-error-type": row.error_type} if row.error_type else {}),
        **retry_headers(row.status_code),
        **{name.lower(): value for name, value in (row.headers or {}).items()},
        "x-fal-request-id": row.id,
    }
    if has_video_inside(opened.first):  # many clients that read slowly must not hold many videos in memory
        headers["content-length"] = str(opened.size)
        pieces = state.read_in_threads(chain((opened.first,), opened.rest))
        return StreamingResponse(pieces, row.status_code, headers, "application/json")
    body = await state.call(opened.read_all)
    if row.status_code == 200 and await state.call_with_retries(_is_file_deleted, state, row, body):
        return _deleted("The file of this result was deleted, because the time for which it is stored is over.", row)
    return Response(body, row.status_code, headers, "application/json")


def _deleted(detail: str, row: RequestRow) -> Response:
    return request_error(404, detail, "not_found", {"x-fal-request-id": row.id})


def _is_file_deleted(state: ServerState, row: RequestRow, body: bytes) -> bool:
    """Returns True if the result names a file of this server that is no longer stored.

    `row` is the request's row, and `body` the JSON of its result.
    """
    if has_video_inside(body):
        return False
    result = from_json(body)
    video = result.get("video") if isinstance(result, dict) else None
    url = video.get("url") if isinstance(video, dict) else None
    if not isinstance(url, str) or not is_file_url(url, row.base_url):
        return False
    key = key_in_url(url)
    return key is not None and state.store.find(key) is None
