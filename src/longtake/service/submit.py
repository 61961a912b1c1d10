"""Submits a request: reads its headers and body, validates its input, and stores it in the queue."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from starlette.requests import Request

from longtake import outbound
from longtake.access.keys import Caller
from longtake.endpoints import ENDPOINTS, Endpoint
from longtake.endpoints.body_check import CheckedBody
from longtake.endpoints.validation import dotted, problem
from longtake.errors import InvalidRequest, Loc
from longtake.models.lora_names import is_hub_url
from longtake.queue import engine as queue
from longtake.queue import payloads
from longtake.queue.addresses import is_file_url, sibling_url
from longtake.queue.engine import IdempotencyMismatch, QuotaReached
from longtake.queue.lineage import find_lineage
from longtake.queue.requests import FileKind, Outcome, Priority, RemoteFile, RequestRow, Submission, search_text
from longtake.queue.status_cache import RequestStatus
from longtake.service.auth import caller_of
from longtake.service.bodies import checked_body, received_body
from longtake.service.responses import ModelFailed, RequestFailed, limit_reached
from longtake.service.state import ServerState
from longtake.settings import DEFAULT_POOL
from longtake.storage import lifecycle


@dataclass(frozen=True)
class Submitted:
    """A stored request: its database row and its status.

    `is_new` is False if an earlier submission with the same idempotency key had stored the request.
    """

    row: RequestRow
    status: RequestStatus
    is_new: bool


async def submit(state: ServerState, request: Request, endpoint: str, *, webhook: bool = False) -> Submitted:
    """Stores the request that a client submits to an endpoint, and returns it. Its work begins at once if possible.

    An idle device is woken for the request. If the request names files on other hosts, their download is started
    instead. A request with an invalid input is stored, too, but as one that has already ended with HTTP status 422.

    endpoint: the endpoint's id. Slashes at its ends are ignored.
    webhook: True if the query parameter `fal_webhook` may name the URL of a webhook, False if it is ignored.

    Raises RequestFailed if the caller is unknown or may not run the endpoint, the endpoint is unknown, a header is
    invalid, the body is too large, the queue is full, or a limit of the caller's key is reached. Raises ModelFailed
    (HTTP status 422) if the webhook's URL is invalid, or if the idempotency key was used with another endpoint or
    input.
    """
    caller = await caller_of(request)
    state.budgets.begin_request(caller.key_id)
    endpoint_id = existing_endpoint(endpoint)
    if not caller.may_run(endpoint_id):
        raise RequestFailed(403, f"This token is not for {endpoint_id}.", "forbidden")
    without_body = _submission(state, request, endpoint_id, caller, webhook)
    async with received_body(request, state, caller.key_id, state.settings.max_body_bytes) as body:
        checked = await checked_body(state, endpoint_id, body)
    submission = _with_body(without_body, checked)
    source = dict(checked.urls).get(ENDPOINTS[endpoint_id].source_field, "").strip()
    submitted = await state.call_for_with_retries(caller.key_id, _store, state, submission, caller, source)
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

    Raises RequestFailed with status 400 for an invalid header, and ModelFailed (status 422) for an invalid webhook URL.
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


def _with_body(submission: Submission, checked: CheckedBody) -> Submission:
    """Returns the submission with its input and the files that it names.

    If the input is invalid, the submission's field `outcome` is set: the request has then ended without being run.
    """
    with_text = replace(submission, body=checked.compact, search_text=search_text(checked.prompt))
    if checked.problems:
        return replace(with_text, outcome=_invalid(checked.problems))
    return replace(with_text, files=remote_files(ENDPOINTS[submission.endpoint], checked.urls, submission.base_url))


def remote_files(
    endpoint: Endpoint[Any, Any], urls: Sequence[tuple[Loc, str]], base_url: str
) -> tuple[RemoteFile, ...]:
    """Returns those files of a valid input that must be downloaded from another host or from the Hugging Face hub.

    Files of this server, and texts that are neither an http(s) URL nor the address of a LoRA on the hub, are left out.
    A URL that is too long is left out, too: the worker process reports it later.

    endpoint: the endpoint to which the input is sent.
    urls: (path of the field in the input, URL) for each field that names a file.
    base_url: the URL of the server's service `queue` as the client reaches it, such as `http://host/queue`.
    """
    return tuple(
        RemoteFile(url, field, _kind(endpoint, field))
        for field, text in urls
        for url in [text.strip()]
        if is_hub_url(url)
        or (outbound.is_http(url) and len(url) <= outbound.MAX_URL_LENGTH and not is_file_url(url, base_url))
    )


def _kind(endpoint: Endpoint[Any, Any], field: Loc) -> FileKind:
    """Returns what a file is for: `source` (the video to extend), `end_image` or `lora`.

    `field` is the path, in the endpoint's input, of the field that contains the file's URL.
    """
    if field == endpoint.source_field:
        return "source"
    return "end_image" if field == (endpoint.end_image_field,) else "lora"


def _invalid(found: list[dict[str, Any]]) -> Outcome:
    """Returns the outcome of a request whose input is invalid.

    `found` are the problems of the input, in the form of fal's `detail` list.
    """
    summary = "; ".join(f"{dotted(entry['loc']) or 'the body'}: {entry['msg']}" for entry in found)
    return Outcome(422, {"detail": found}, error=summary.replace("\0", " ")[:1000])


def _store(state: ServerState, submission: Submission, caller: Caller, source: str) -> Submitted:
    """Stores a submission in the queue, and returns the stored request.

    If an earlier submission had the same idempotency key, nothing is stored, and the earlier request is returned.

    caller: the sender. Its `max_in_flight` limits how many of its requests may wait or run.
    source: the URL of the video that the request extends; empty if none is known.

    Raises RequestFailed with status 503 if the queue is full, and with status 429 if that limit is reached. Raises
    ModelFailed (HTTP status 422) if the earlier submission had another endpoint or input.
    """
    if submission.outcome is None and state.statuses.queue_length(submission.pool) >= state.settings.max_waiting:
        raise RequestFailed(
            503,
            f"The queue is full: {state.settings.max_waiting} requests wait. Ask again later.",
            "runner_scheduling_failure",
        )
    submission = replace(submission, lineage=find_lineage(state.store, source, caller))
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
        raise limit_reached(
            f"This key has {caller.max_in_flight} requests in flight, as many as it may. Ask again when one has ended."
        ) from None
    status = state.statuses.add(row) if is_new else state.statuses.get(row.id)
    return Submitted(row, status or state.statuses.add(row), is_new)


def _insert(state: ServerState, submission: Submission, caller: Caller) -> tuple[RequestRow, bool]:
    """Stores a submission in the queue. Returns (the new row, True).

    If an earlier request of the same API key has the same idempotency key, stores nothing: returns (the earlier
    request's row, False), or raises IdempotencyMismatch if the two differ in their endpoint or input.

    Before that, large payloads are stored as files (see `payloads.move_out`). They are deleted if no row is stored.

    Raises QuotaReached if the caller has as many waiting or running requests as it may.
    """
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
    """Deletes the blobs (files with a large input or result) of a submission, unless the submission is stored in the
    queue.

    It may be stored although storing it failed: the database may have stored it and then lost the connection. The
    stored request then uses the blobs.

    `moved`: the submission with the keys of its blobs.
    """
    if payloads.keys(moved) and queue.get_without_payloads(state.engine, moved.id) is None:
        for key in payloads.keys(moved):
            state.store.blobs.delete(key)
