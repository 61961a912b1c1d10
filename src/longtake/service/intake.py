"""How a request is taken in: its headers read, its input checked, its row stored in one transaction."""

import math
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
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
from longtake.service import body
from longtake.service.auth import caller_of
from longtake.service.errors import ModelFailed, RequestFailed
from longtake.service.parts import Parts
from longtake.settings import DEFAULT_POOL
from longtake.storage import lifecycle

LARGE = 64 * 1024
"""Bodies above this are read beside the event loop."""


@dataclass(frozen=True)
class Taken:
    """A stored request; `is_new` is False where the idempotency key has brought back an earlier one."""

    row: RequestRow
    view: RequestStatus
    is_new: bool


def known(endpoint: str) -> str:
    """The id of an endpoint that is there. Raises RequestFailed with 404."""
    asked = endpoint.strip("/")
    if asked not in ENDPOINTS:
        raise RequestFailed(
            404, f"Application {asked[:200]!r} not found; there are {', '.join(ENDPOINTS)}.", "not_found"
        )
    return asked


async def take(parts: Parts, request: Request, endpoint: str, *, webhook: bool = False) -> Taken:
    """Stores what the client asks of this endpoint. What is not valid is stored too, with its 422 as the result.
    Raises RequestFailed and ModelFailed for what cannot be stored."""
    caller = await caller_of(request)
    wanted = known(endpoint)
    if not caller.may_run(wanted):
        raise RequestFailed(403, f"This token is not for {wanted}.", "forbidden")
    bare = _submission(parts, request, wanted, caller, webhook)
    raw = await body.read(request, parts.settings.max_body_bytes)
    asked = _checked(bare, raw) if len(raw) <= LARGE else await parts.call(_checked, bare, raw)
    taken = await parts.ask(_store, parts, asked, caller)
    if taken.is_new and not taken.row.has_ended:
        parts.wake(taken.row.pool)
    return taken


def _submission(parts: Parts, request: Request, endpoint: str, caller: Caller, webhook: bool) -> Submission:
    headers = request.headers
    return Submission(
        endpoint=endpoint,
        pool=parts.pools.get(endpoint, DEFAULT_POOL),
        key_id=caller.key_id,
        body=b"",
        base_url=sibling_url(request.scope["longtake.base"], "queue"),
        priority=_priority(headers.get("x-fal-queue-priority")),
        start_timeout_s=_seconds(headers.get("x-fal-request-timeout")),
        webhook_url=_webhook(parts, request.query_params.get("fal_webhook")) if webhook else None,
        idempotency_key=_idempotency_key(headers.get("idempotency-key")),
        store_io=headers.get("x-fal-store-io", "1").strip() != "0",
        may_retry=headers.get("x-fal-no-retry", "").strip().lower() not in ("1", "true", "yes"),
        lifecycle=lifecycle.parse(headers.get("x-fal-object-lifecycle-preference")),
    )


def _checked(asked: Submission, raw: bytes) -> Submission:
    """With its body, and its outcome where that is not valid."""
    try:
        value, compact = body.parse(raw)
        found = problems(ENDPOINTS[asked.endpoint].Request, value)
    except ModelFailed as failed:
        compact, found = b"null", [dict(one) for one in failed.details]
    return replace(asked, body=compact, outcome=invalid(found) if found else None)


def invalid(found: list[dict[str, Any]]) -> Outcome:
    """The end of a request that is not valid."""
    told = "; ".join(f"{dotted(one['loc']) or 'the body'}: {one['msg']}" for one in found)
    return Outcome(422, {"detail": found}, error=told.replace("\0", " ")[:1000], headers={"x-fal-billable-units": "0"})


def _store(parts: Parts, asked: Submission, caller: Caller) -> Taken:
    if asked.outcome is None and parts.board.queue_length(asked.pool) >= parts.settings.max_waiting:
        raise RequestFailed(
            503,
            f"The queue is full: {parts.settings.max_waiting} requests wait. Ask again later.",
            "runner_scheduling_failure",
        )
    try:
        row, is_new = queue.submit(parts.engine, asked, max_in_flight=caller.max_in_flight)
    except sa.exc.IntegrityError:
        # The database went away between storing it and saying so, and this is the second try.
        stored = queue.get_without_payloads(parts.engine, asked.id)
        if stored is None:
            raise
        row, is_new = stored, True
    except IdempotencyMismatch:
        detail = problem(
            loc=("idempotency-key",),
            msg="This idempotency key came before, with another endpoint or input.",
            type="value_error",
            input=asked.idempotency_key,
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
    view = parts.board.add(row) if is_new else parts.board.get(row.id)
    return Taken(row, view or parts.board.add(row), is_new)


def _priority(given: str | None) -> Priority:
    match (given or "normal").strip().lower():
        case "normal":
            return "normal"
        case "low":
            return "low"
    raise RequestFailed(400, f"X-Fal-Queue-Priority is {given!r:.100}; it must be normal or low.", "bad_request")


def _seconds(given: str | None) -> float | None:
    if given is None or not given.strip():
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise RequestFailed(
            400, f"X-Fal-Request-Timeout is {given!r:.100}; it must be a number of seconds above 0.", "bad_request"
        )
    return seconds


def _idempotency_key(given: str | None) -> str | None:
    if given is not None and not (0 < len(given) <= 255 and given.isprintable()):
        raise RequestFailed(
            400,
            f"The Idempotency-Key has {len(given)} characters; it must have 1 to 255 printable ones.",
            "bad_request",
        )
    return given


def _webhook(parts: Parts, url: str | None) -> str | None:
    if not url:
        return None
    try:
        outbound.check_url(url, parts.settings.trusted_hosts)
    except InvalidRequest as refused:
        raise ModelFailed(
            [problem(loc=("fal_webhook",), msg=refused.message, type=refused.type, input=url, place="query")]
        ) from None
    return url
