"""Submission of a request: its headers and body are read, the input is validated, and a row is stored."""

import math
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from pydantic_core import from_json
from starlette.requests import Request

from longtake import outbound
from longtake.access.keys import Caller
from longtake.endpoints import ENDPOINTS
from longtake.endpoints.validation import dotted, problem, problems
from longtake.errors import InvalidRequest
from longtake.queue import engine as queue
from longtake.queue.addresses import sibling_url
from longtake.queue.engine import IdempotencyMismatch, QuotaReached
from longtake.queue.requests import Outcome, Priority, RequestRow, Submission
from longtake.queue.status_cache import RequestStatus
from longtake.service.auth import caller_of
from longtake.service.responses import ModelFailed, RequestFailed, to_json
from longtake.service.state import ServerState
from longtake.settings import DEFAULT_POOL
from longtake.storage import lifecycle

LARGE_BODY = 64 * 1024
"""Bytes above which a body is parsed in a thread, so that the event loop stays free."""


@dataclass(frozen=True)
class Submitted:
    """A stored request. `is_new` is False if an idempotency key has returned an earlier request."""

    row: RequestRow
    status: RequestStatus
    is_new: bool


async def submit(state: ServerState, request: Request, endpoint: str, *, webhook: bool = False) -> Submitted:
    """Stores the request that a client submits to an endpoint, and wakes the slots of its pool.

    An invalid input is stored too, as a request that has ended with HTTP status 422. `webhook` allows the query
    parameter `fal_webhook`. Raises RequestFailed or ModelFailed if nothing can be stored.
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
        state.wake_slots(submitted.row.pool)
    return submitted


def existing_endpoint(name: str) -> str:
    """Returns the id of the endpoint with this name, slashes around it removed. Raises RequestFailed with 404."""
    endpoint_id = name.strip("/")
    if endpoint_id not in ENDPOINTS:
        raise RequestFailed(
            404, f"Application {endpoint_id[:200]!r} not found; there are {', '.join(ENDPOINTS)}.", "not_found"
        )
    return endpoint_id


def _submission(state: ServerState, request: Request, endpoint: str, caller: Caller, webhook: bool) -> Submission:
    """Returns the submission that fal's headers and the query describe, with an empty body."""
    headers = request.headers
    return Submission(
        endpoint=endpoint,
        pool=state.pools.get(endpoint, DEFAULT_POOL),
        key_id=caller.key_id,
        body=b"",
        base_url=sibling_url(request.scope["longtake.base_url"], "queue"),
        priority=_priority(headers.get("x-fal-queue-priority")),
        start_timeout_s=_start_timeout(headers.get("x-fal-request-timeout")),
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


def _start_timeout(header: str | None) -> float | None:
    if header is None or not header.strip():
        return None
    try:
        seconds = float(header)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise RequestFailed(
            400, f"X-Fal-Request-Timeout is {header!r:.100}; it must be a number of seconds above 0.", "bad_request"
        )
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


async def read_body(request: Request, limit: int) -> bytes:
    """Returns the body of a request. Raises RequestFailed with 413 if it is longer than `limit` bytes."""
    too_large = RequestFailed(
        413,
        f"The body is larger than {limit} bytes; upload large files and send their URLs.",
        "bad_request",
        {"connection": "close"},
    )
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)


async def read_json(request: Request, limit: int) -> Any:
    """Returns the JSON value of a request's body, whatever its content type.

    Raises RequestFailed with 413 if it is longer than `limit` bytes, and ModelFailed if it is not valid JSON.
    """
    return _parse(await read_body(request, limit))[0]


def _parse(raw: bytes) -> tuple[Any, bytes]:
    """Returns the JSON value of a body and its compact form; an empty body is {}.

    Raises ModelFailed if it is not valid JSON or holds a number that is not finite.
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
    """Returns the submission with its input, and with an outcome if the input is invalid."""
    try:
        value, body = _parse(raw)
        found = problems(ENDPOINTS[submission.endpoint].Request, value)
    except ModelFailed as error:
        body, found = b"null", [dict(entry) for entry in error.details]
    return replace(submission, body=body, outcome=_invalid(found) if found else None)


def _invalid(found: list[dict[str, Any]]) -> Outcome:
    """Returns the outcome of an invalid input, from the problems that were found in it."""
    summary = "; ".join(f"{dotted(entry['loc']) or 'the body'}: {entry['msg']}" for entry in found)
    return Outcome(
        422, {"detail": found}, error=summary.replace("\0", " ")[:1000], headers={"x-fal-billable-units": "0"}
    )


def _store(state: ServerState, submission: Submission, caller: Caller) -> Submitted:
    if submission.outcome is None and state.statuses.queue_length(submission.pool) >= state.settings.max_waiting:
        raise RequestFailed(
            503,
            f"The queue is full: {state.settings.max_waiting} requests wait. Ask again later.",
            "runner_scheduling_failure",
        )
    try:
        row, is_new = queue.submit(state.engine, submission, max_in_flight=caller.max_in_flight)
    except sa.exc.IntegrityError:
        # An earlier attempt of `call_with_retries` has stored the request, and the database's reply was lost.
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
