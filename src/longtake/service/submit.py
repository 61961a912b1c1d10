"""Submits a request: reads its headers and body, validates its input, and stores it in the queue."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from pydantic_core import from_json
from starlette.requests import Request

from longtake import outbound
from longtake.access.keys import Caller
from longtake.endpoints import ENDPOINTS, Endpoint
from longtake.endpoints.validation import dotted, problem, problems
from longtake.errors import InvalidRequest
from longtake.queue import engine as queue
from longtake.queue import payloads
from longtake.queue.addresses import is_file_url, sibling_url
from longtake.queue.engine import IdempotencyMismatch, QuotaReached
from longtake.queue.requests import FileKind, Outcome, Priority, RemoteFile, RequestRow, Submission
from longtake.queue.status_cache import RequestStatus
from longtake.service.auth import caller_of
from longtake.service.responses import ModelFailed, RequestFailed, to_json
from longtake.service.state import ServerState
from longtake.settings import DEFAULT_POOL
from longtake.storage import lifecycle

LARGE_BODY = 64 * 1024
"""Size in bytes above which a body is parsed in a thread, so that the event loop stays free."""


@dataclass(frozen=True)
class Submitted:
    """A stored request: its database row and its status.

    `is_new` is False if an earlier submission with the same idempotency key had stored the request.
    """

    row: RequestRow
    status: RequestStatus
    is_new: bool


async def submit(state: ServerState, request: Request, endpoint: str, *, webhook: bool = False) -> Submitted:
    """Stores the request that a client submits to an endpoint, and wakes what can start its work.

    That is an idle device, or the download of the request's files if it names files elsewhere.

    endpoint: the endpoint's id. Slashes at its ends are ignored.
    webhook: True if the query parameter `fal_webhook` may name the URL of a webhook, False if it is ignored.

    A request with an invalid input is stored, too, but as one that has already ended with HTTP status 422.

    Raises RequestFailed if the caller is unknown or may not run the endpoint, the endpoint is unknown, a header is
    invalid, the body is too large, the queue is full or the caller's limit of requests is reached. Raises ModelFailed
    if the webhook's URL is invalid, or if the idempotency key was used with another endpoint or input.
    """
    caller = await caller_of(request)
    endpoint_id = existing_endpoint(endpoint)
    if not caller.may_run(endpoint_id):
        raise RequestFailed(403, f"This token is not for {endpoint_id}.", "forbidden")
    without_body = _submission(state, request, endpoint_id, caller, webhook)
    raw = await read_body(request, state.settings.max_body_bytes)
    if len(raw) <= LARGE_BODY:
        submission = _with_body(without_body, raw)
    else:
        submission = await state.call(_with_body, without_body, raw)
    submitted = await state.call_with_retries(_store, state, submission, caller)
    if submitted.is_new and not submitted.row.has_ended:
        if submitted.row.ready:
            state.wake_slots(submitted.row.pool)
        else:
            state.wake_fetches()
    return submitted


def existing_endpoint(name: str) -> str:
    """Returns the endpoint id in a client's URL: `name` without slashes at its ends.

    Raises RequestFailed with status 404 if no endpoint has this id.
    """
    endpoint_id = name.strip("/")
    if endpoint_id not in ENDPOINTS:
        raise RequestFailed(
            404, f"Application {endpoint_id[:200]!r} not found; there are {', '.join(ENDPOINTS)}.", "not_found"
        )
    return endpoint_id


def _submission(state: ServerState, request: Request, endpoint: str, caller: Caller, webhook: bool) -> Submission:
    """Returns the submission that an HTTP request describes, without its body. `_with_body` adds the body.

    endpoint: the endpoint's id.
    webhook: True if the query parameter `fal_webhook` may name the URL of a webhook, False if it is ignored.

    Raises RequestFailed with status 400 for an invalid header, and ModelFailed for an invalid webhook URL.
    """
    headers = request.headers
    return Submission(
        endpoint=endpoint,
        pool=state.pools.get(endpoint, DEFAULT_POOL),
        key_id=caller.key_id,
        body=b"",
        base_url=sibling_url(request.scope["longtake.base_url"], "queue"),
        priority=_priority(headers.get("x-fal-queue-priority")),
        start_timeout_s=_start_timeout(headers),
        webhook_url=_webhook_url(state, request.query_params.get("fal_webhook")) if webhook else None,
        idempotency_key=_idempotency_key(headers.get("idempotency-key")),
        store_io=headers.get("x-fal-store-io", "1").strip() != "0",
        may_retry=headers.get("x-fal-no-retry", "").strip().lower() not in ("1", "true", "yes"),
        lifecycle=lifecycle.parse(headers.get("x-fal-object-lifecycle-preference")),
    )


def _priority(header: str | None) -> Priority:
    match (header or "normal").strip().lower():
        case "normal":
            return "normal"
        case "low":
            return "low"
    raise RequestFailed(400, f"X-Fal-Queue-Priority is {header!r:.100}; it must be normal or low.", "bad_request")


START_TIMEOUTS = ("X-Fal-Request-Start-Timeout", "X-Fal-Request-Timeout")
"""The newer and the older name of the header with the number of seconds that a request may wait. The newer one counts
if a request has both."""


def _start_timeout(headers: Mapping[str, str]) -> float | None:
    """Returns the maximum number of seconds that a request may wait in the queue, or None for no limit.

    headers: the headers of the HTTP request. The limit is in `X-Fal-Request-Start-Timeout`, or, if that is missing, in
        `X-Fal-Request-Timeout`.

    Raises RequestFailed with status 400 if one of these headers is not a number of seconds above 0.
    """
    found = [(name, headers[name]) for name in START_TIMEOUTS if headers.get(name, "").strip()]
    limits = [_seconds(name, text) for name, text in found]
    return limits[0] if limits else None


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise RequestFailed(400, f"{name} is {text!r:.100}; it must be a number of seconds above 0.", "bad_request")
    return seconds


def _idempotency_key(header: str | None) -> str | None:
    if header is not None and not (0 < len(header) <= 255 and header.isprintable()):
        raise RequestFailed(
            400,
            f"The Idempotency-Key has {len(header)} characters; it must have 1 to 255 printable ones.",
            "bad_request",
        )
    return header


def _webhook_url(state: ServerState, url: str | None) -> str | None:
    if not url:
        return None
    try:
        outbound.check_url(url, state.settings.trusted_hosts)
    except InvalidRequest as error:
        raise ModelFailed(
            [problem(loc=("fal_webhook",), msg=error.message, type=error.type, input=url, place="query")]
        ) from None
    return url


def declared_bytes(request: Request) -> int:
    """Returns the number of bytes that a request's body has according to its headers, or 0 if they do not tell."""
    length = request.headers.get("content-length", "")
    return int(length[:20]) if length.isascii() and length.isdigit() else 0


async def read_body(request: Request, limit: int) -> bytes:
    """Returns the body of a request. Raises RequestFailed with status 413 if it has more than `limit` bytes."""
    too_large = RequestFailed(
        413,
        f"The body is larger than {limit} bytes; upload large files and send their URLs.",
        "bad_request",
        {"connection": "close"},
    )
    if declared_bytes(request) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)


async def read_json(request: Request, limit: int) -> Any:
    """Returns the JSON value in the body of a request, or {} for an empty body. The content type does not matter.

    Raises RequestFailed with status 413 if the body has more than `limit` bytes. Raises ModelFailed if it is not valid
    JSON, or contains a number that is not finite.
    """
    return _parse(await read_body(request, limit))[0]


def _parse(raw: bytes) -> tuple[Any, bytes]:
    """Returns (value, compact form): the JSON value in the body `raw`, and the same value as compact JSON in UTF-8.

    An empty body counts as {}. Raises ModelFailed if the body is not valid JSON, or contains a number that is not
    finite.
    """
    if not raw.strip():
        return {}, b"{}"
    try:
        value = from_json(raw, allow_inf_nan=False)
        return value, to_json(value)
    except (ValueError, RecursionError) as error:
        ctx = {"error": str(error)}
        raise ModelFailed([problem(loc=(), msg="JSON decode error", type="json_invalid", input={}, ctx=ctx)]) from None


def _with_body(submission: Submission, raw: bytes) -> Submission:
    """Returns the submission with the input in `raw`, the body of the HTTP request, and the files that it names.

    If the input is invalid, the submission's field `outcome` is set: the request has then ended without being run.
    """
    endpoint = ENDPOINTS[submission.endpoint]
    try:
        value, body = _parse(raw)
        found = problems(endpoint.Request, value)
    except ModelFailed as error:
        body, found = b"null", [dict(entry) for entry in error.details]
    if found:
        return replace(submission, body=body, outcome=_invalid(found))
    return replace(submission, body=body, files=remote_files(endpoint, value, submission.base_url))


def remote_files(endpoint: Endpoint[Any, Any], value: Any, base_url: str) -> tuple[RemoteFile, ...]:
    """Returns the files that a valid input names at http(s) URLs, except those of this server.

    A URL that is too long is left out; the worker process reports it.

    value: the input as a JSON value.
    base_url: the URL of the service `queue` as the client reaches it.
    """
    fields: list[tuple[tuple[str, ...], FileKind]] = [(endpoint.source_field, "source")]
    if endpoint.end_image_field is not None:
        fields.append(((endpoint.end_image_field,), "end_image"))
    named = ((_value_at(value, field), field, kind) for field, kind in fields)
    return tuple(
        RemoteFile(url, field, kind)
        for text, field, kind in named
        for url in [text.strip()]
        if outbound.is_http(url) and len(url) <= outbound.MAX_URL_LENGTH and not is_file_url(url, base_url)
    )


def _value_at(value: Any, path: Sequence[str]) -> str:
    """Returns the text at a path of field names in a JSON value, or an empty one if there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else ""


def _invalid(found: list[dict[str, Any]]) -> Outcome:
    """Returns the outcome of a request whose input is invalid.

    `found` are the problems of the input, in the form of fal's `detail` list.
    """
    summary = "; ".join(f"{dotted(entry['loc']) or 'the body'}: {entry['msg']}" for entry in found)
    return Outcome(
        422, {"detail": found}, error=summary.replace("\0", " ")[:1000], headers={"x-fal-billable-units": "0"}
    )


def _store(state: ServerState, submission: Submission, caller: Caller) -> Submitted:
    """Stores a submission in the queue, and returns the stored request.

    If an earlier submission had the same idempotency key, nothing is stored, and the earlier request is returned.

    caller: the sender. Its `max_in_flight` limits how many of its requests may wait or run.

    Raises RequestFailed if the queue is full or that limit is reached. Raises ModelFailed if the earlier submission had
    another endpoint or input.
    """
    if submission.outcome is None and state.statuses.queue_length(submission.pool) >= state.settings.max_waiting:
        raise RequestFailed(
            503,
            f"The queue is full: {state.settings.max_waiting} requests wait. Ask again later.",
            "runner_scheduling_failure",
        )
    try:
        row, is_new = _insert(state, submission, caller)
    except sa.exc.IntegrityError:
        # An earlier call stored the request, but its reply was lost. This call repeats it (see `call_with_retries`).
        stored = queue.get_without_payloads(state.engine, submission.id)
        if stored is None:
            raise
        row, is_new = stored, True
    except IdempotencyMismatch:
        detail = problem(
            loc=("idempotency-key",),
            msg="This idempotency key came before, with another endpoint or input.",
            type="value_error",
            input=submission.idempotency_key,
            place="header",
        )
        raise ModelFailed([detail]) from None
    except QuotaReached:
        raise RequestFailed(
            429,
            f"This key has {caller.max_in_flight} requests in flight, as many as it may. Ask again when one has ended.",
            "concurrent_requests_limit",
            {"x-fal-needs-retry": "1"},
        ) from None
    status = state.statuses.add(row) if is_new else state.statuses.get(row.id)
    return Submitted(row, status or state.statuses.add(row), is_new)


def _insert(state: ServerState, submission: Submission, caller: Caller) -> tuple[RequestRow, bool]:
    """Stores a submission as `engine.submit` does. A large input or result is stored as a blob before its row."""
    moved = payloads.move_out(state.store, submission)
    try:
        row, is_new = queue.submit(state.engine, moved, max_in_flight=caller.max_in_flight)
    except (IdempotencyMismatch, QuotaReached):
        _delete_unused_payloads(state, moved)
        raise
    if not is_new:
        _delete_unused_payloads(state, moved)
    return row, is_new


def _delete_unused_payloads(state: ServerState, moved: Submission) -> None:
    """Deletes the blobs of a submission that was refused. Keeps them if an earlier call has stored the submission."""
    if payloads.keys(moved) and queue.get_without_payloads(state.engine, moved.id) is None:
        for key in payloads.keys(moved):
            state.store.blobs.delete(key)
