"""The queue's state machine: functions that submit, claim, finish, cancel and read requests in the database.

To claim a request means to assign it to a server, which then carries it out. A request that names files on other hosts
can be claimed only after they are downloaded (see `queue.fetches`). The column `server` has the id of a server in the
table `servers`.

Every change of state is one conditional UPDATE. If two processes try the same change, exactly one of them succeeds.

IN_QUEUE --claim--> IN_PROGRESS --finish--> COMPLETED
   |  ^-- worker died --'      '--cancelled--> CANCELLED
   |--cancel--> CANCELLED
   '--invalid, or not started in time--> COMPLETED with an error
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import sqlalchemy as sa

from longtake import clock
from longtake.database.batches import CHANGED_BATCH
from longtake.database.connection import lock, reading
from longtake.database.tables import deliveries, events, requests, servers
from longtake.queue import fetches, payloads, previews
from longtake.queue.requests import (
    CANCELLED,
    LogLine,
    Outcome,
    RequestRow,
    State,
    StoredLogLine,
    Submission,
)
from longtake.queue.rows import FACTS, NEXT_VERSION, new_values, outcome_values, row_with_payloads, row_without_payloads
from longtake.queue.shares import host_of

WEBHOOK_S = 2 * 3600
"""Seconds after the end of a request within which attempts to send its webhook may begin."""


class IdempotencyMismatch(Exception):
    """The API key has already used this idempotency key for a request with another endpoint or input."""


class QuotaReached(Exception):
    """The API key already has its maximum number of requests waiting or running."""


def submit(engine: sa.Engine, submission: Submission, *, max_in_flight: int | None = None) -> tuple[RequestRow, bool]:
    """Stores a new request in one transaction. Returns (its row, True). Raises IntegrityError if it is stored already.

    If an earlier request has the same API key and the same idempotency key, stores nothing: returns (the earlier
    request's row, False), or raises IdempotencyMismatch if the two differ in their endpoint or input.
    Raises QuotaReached if the API key already has `max_in_flight` requests waiting or running. None means no limit.
    """
    now = clock.now()
    with engine.begin() as connection:
        # A concurrent submission with the same key waits here until this one is committed. Then it finds the row.
        if submission.idempotency_key is not None:
            lock(connection, f"once:{submission.key_id}:{submission.idempotency_key}")
        if max_in_flight is not None:
            lock(connection, f"quota:{submission.key_id}")
        earlier = None if submission.idempotency_key is None else _find_earlier(connection, submission)
        if earlier is not None:
            return earlier, earlier.id == submission.id
        if (
            max_in_flight is not None
            and submission.outcome is None
            and _count_others_in_flight(connection, submission) >= max_in_flight
        ):
            raise QuotaReached
        values = new_values(submission, now)
        inserted = connection.execute(sa.insert(requests).values(values).returning(*FACTS)).one()
        row = replace(row_without_payloads(inserted), body=submission.body, search_text=submission.search_text)
        if row.has_ended:
            _schedule_webhook(connection, row, now)
        elif submission.files:
            fetches.add(connection, row, submission.files)
    return row, True


def _find_earlier(connection: sa.Connection, submission: Submission) -> RequestRow | None:
    same_key = (requests.c.key_id == submission.key_id, requests.c.idempotency_key == submission.idempotency_key)
    found = connection.execute(sa.select(requests).where(*same_key)).first()
    if found is None:
        return None
    stored = (bytes(found.body), payloads.digest(found.body_blob))
    is_erased = found.erased_at is not None  # Then the input is unknown, and only the endpoint can be compared.
    is_same = is_erased or stored == (submission.body, payloads.digest(submission.body_blob))
    if found.endpoint != submission.endpoint or not is_same:
        raise IdempotencyMismatch
    return row_with_payloads(found)


def _count_others_in_flight(connection: sa.Connection, submission: Submission) -> int:
    # The request itself may be stored already, by an earlier call whose reply was lost.
    others = (requests.c.key_id == submission.key_id, requests.c.id != submission.id)
    is_open = requests.c.state.in_(("IN_QUEUE", "IN_PROGRESS"))
    return connection.execute(sa.select(sa.func.count()).where(*others, is_open)).scalar_one()


def get_without_payloads(engine: sa.Engine, request_id: str) -> RequestRow | None:
    """Returns the request's row without its large columns, or None if there is no such request.

    In the returned row `body` is empty, and `plan` and `output` are None.
    """
    with reading(engine) as connection:
        found = connection.execute(sa.select(*FACTS).where(requests.c.id == request_id)).first()
    return None if found is None else row_without_payloads(found)


def versions(engine: sa.Engine, ids: Sequence[str]) -> dict[str, int]:
    """Returns how often each request's row has changed: request id -> the row's `version`. Unknown ids are left out."""
    with reading(engine) as connection:
        found = connection.execute(sa.select(requests.c.id, requests.c.version).where(requests.c.id.in_(ids)))
        return {row.id: row.version for row in found}


def waiting(engine: sa.Engine, pool: str) -> dict[str, int]:
    """Returns the waiting requests of a pool (a named group of devices): request id -> priority, 0 normal or 1 low.

    The items have the order in which the requests will be claimed. Requests whose files are not downloaded yet are
    included.
    """
    with reading(engine) as connection:
        found = connection.execute(
            sa.select(requests.c.id, requests.c.priority)
            .where(requests.c.pool == pool, requests.c.state == "IN_QUEUE")
            .order_by(requests.c.priority, requests.c.seq)
        )
        return {row.id: row.priority for row in found}


def claim(engine: sa.Engine, pool: str, server: str) -> RequestRow | None:
    """Claims the next ready request of a pool (a named group of devices) for a server, and returns its row.

    A request is ready if all files that it names on other hosts are downloaded. Returns None if no ready request waits.

    `server`: the id of the server. The returned row contains it, and an `attempt` that is greater by 1 than before.
    """
    next_id = (
        sa.select(requests.c.id)
        .where(requests.c.pool == pool, requests.c.state == "IN_QUEUE", requests.c.ready)
        .order_by(requests.c.priority, requests.c.seq)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    values = {
        "state": "IN_PROGRESS",
        "server": server,
        "started_at": clock.now(),
        "attempt": requests.c.attempt + 1,
        **NEXT_VERSION,
    }
    with engine.begin() as connection:
        found = connection.execute(
            sa.update(requests)
            .where(requests.c.id == next_id, requests.c.state == "IN_QUEUE")
            .values(values)
            .returning(requests)
        ).first()
    return None if found is None else row_with_payloads(found)


def _still_claimed(row: RequestRow) -> sa.ColumnElement[bool]:
    """Returns an SQL condition: the server `row.server` still holds the request `row.id` in attempt `row.attempt`."""
    return sa.and_(
        requests.c.id == row.id,
        requests.c.state == "IN_PROGRESS",
        requests.c.server == row.server,
        requests.c.attempt == row.attempt,
    )


def store_plan(engine: sa.Engine, row: RequestRow, plan: Mapping[str, Any]) -> bool:
    """Stores the plan of the claimed request `row`, so that a later attempt makes the same video.

    `plan` is the JSON form of the plan, which says how the video is made, including the seed, but without prompts.
    Returns False, and stores nothing, if the server `row.server` no longer holds the request.
    """
    return _update(engine, _still_claimed(row), {"plan": dict(plan)})


def stored_plan(engine: sa.Engine, request_id: str) -> dict[str, Any] | None:
    """Returns the plan that `store_plan` stored for a request. Returns None if there is none, or it was deleted."""
    with reading(engine) as connection:
        plan: dict[str, Any] | None = connection.scalar(sa.select(requests.c.plan).where(requests.c.id == request_id))
    return plan


def add_log_lines(
    engine: sa.Engine, row: RequestRow, lines: Sequence[LogLine], progress: Mapping[str, Any] | None = None
) -> bool:
    """Adds lines to the log of the claimed request `row`. Returns True if it did.

    `progress`: the new value of the request's column `progress`; None leaves the old one.

    Returns False, and stores nothing, if the server `row.server` no longer holds the request.
    """
    with engine.begin() as connection:
        values = NEXT_VERSION if progress is None else {"progress": dict(progress), **NEXT_VERSION}
        if connection.execute(sa.update(requests).where(_still_claimed(row)).values(values)).rowcount != 1:
            return False
        values_of_lines = [
            {
                "request_id": row.id,
                "at": line.at,
                "level": line.level,
                "message": line.message,
                "labels": dict(line.labels),
            }
            for line in lines
        ]
        if values_of_lines:
            connection.execute(sa.insert(events), values_of_lines)
    return True


def log_lines(engine: sa.Engine, request_id: str, after: int = 0) -> list[StoredLogLine]:
    """Returns the lines of a request's log, oldest first. Only lines with a `seq` greater than `after` are returned."""
    with reading(engine) as connection:
        found = connection.execute(
            sa.select(events).where(events.c.request_id == request_id, events.c.seq > after).order_by(events.c.seq)
        )
        return [StoredLogLine(row.at, row.level, row.message, row.labels, row.seq) for row in found]


def finish(engine: sa.Engine, row: RequestRow, outcome: Outcome) -> bool:
    """Ends the claimed request `row` and stores its outcome.

    Its state becomes CANCELLED if the outcome's `error_type` is "client_cancelled", otherwise COMPLETED.
    Returns False, and stores nothing, if the server `row.server` no longer holds the request.
    """
    state: State = "CANCELLED" if outcome.error_type == "client_cancelled" else "COMPLETED"
    return _end(engine, _still_claimed(row), state, outcome)


def fail_fetch(engine: sa.Engine, fetch: fetches.Fetch, outcome: Outcome) -> bool:
    """Ends the waiting request whose files the download `fetch` could not get, and stores its outcome.

    Returns False, and stores nothing, if the server `fetch.server` no longer downloads the request's files.
    """
    return _end(engine, fetches.request_of(fetch), "COMPLETED", outcome)


def return_to_queue(engine: sa.Engine, row: RequestRow, *, attempt_failed: bool) -> bool:
    """Puts the claimed request `row` back to its old place in the queue, or ends it if a client has cancelled it.

    `attempt_failed`: if True, the attempt counts towards the maximum number of attempts; if False, it does not.

    This function does not check that maximum. If no further attempt is allowed, the caller must call `finish` instead.

    Returns False, and changes nothing, if the server `row.server` no longer holds the request.
    """
    attempt = requests.c.attempt if attempt_failed else requests.c.attempt - 1
    not_cancelled = sa.and_(_still_claimed(row), requests.c.cancel_at.is_(None))
    returned = _update(engine, not_cancelled, {"state": "IN_QUEUE", "server": None, "attempt": attempt})
    return returned or finish(engine, row, CANCELLED)


def send_back(engine: sa.Engine, row: RequestRow, missing: Collection[str]) -> bool:
    """Puts the claimed request `row` back to its old place in the queue, to wait for the download of missing files.

    The attempt does not count. If a client has cancelled the request, it ends instead.

    `missing`: the URLs of the files that are not on the machine of the claimed device.

    Returns False, and changes nothing, if the server `row.server` no longer holds the request.
    """
    values = {"state": "IN_QUEUE", "server": None, "attempt": requests.c.attempt - 1, "ready": False, **NEXT_VERSION}
    not_cancelled = sa.and_(_still_claimed(row), requests.c.cancel_at.is_(None))
    with engine.begin() as connection:
        is_sent = connection.execute(sa.update(requests).where(not_cancelled).values(values)).rowcount == 1
        if is_sent:
            fetches.begin_again(connection, row.id, missing)
    return is_sent or finish(engine, row, CANCELLED)


def claim_state(engine: sa.Engine, row: RequestRow) -> Literal["held", "cancelled", "lost"]:
    """Returns whether the server `row.server` still holds the request `row`.

    "held": the server holds it, and no client has cancelled it.
    "cancelled": the server holds it, but a client has cancelled it.
    "lost": the server no longer holds it, because the request has ended, waits again or was claimed again.
    """
    with reading(engine) as connection:
        found = connection.execute(sa.select(requests.c.cancel_at).where(_still_claimed(row))).first()
    if found is None:
        return "lost"
    return "held" if found.cancel_at is None else "cancelled"


def claimed_by(engine: sa.Engine, server: str) -> list[RequestRow]:
    """Returns the rows of the running requests that a server holds. `server` is the id of the server.

    The rows have no payloads: input, plan and result are empty.
    """
    return _in_progress(engine, requests.c.server == server)


def orphans(engine: sa.Engine) -> list[RequestRow]:
    """Returns the rows of the running requests of dead servers, which are no longer in the table `servers`.

    The rows have no payloads: input, plan and result are empty.
    """
    return _in_progress(engine, requests.c.server.not_in(sa.select(servers.c.id)))


def _in_progress(engine: sa.Engine, condition: sa.ColumnElement[bool]) -> list[RequestRow]:
    with reading(engine) as connection:
        found = connection.execute(sa.select(*FACTS).where(requests.c.state == "IN_PROGRESS", condition))
        return [row_without_payloads(row) for row in found]


def cancel(engine: sa.Engine, request_id: str) -> Literal["cancelled", "requested", "ended", "unknown"]:
    """Cancels a request if it has not ended. Returns what happened.

    "cancelled": the request was waiting, and has ended now.
    "requested": the request is running, and its server will stop it.
    "ended": the request had already ended.
    "unknown": there is no such request.
    """
    this = requests.c.id == request_id
    while True:  # Between the two UPDATEs another server may claim the request or return it to the queue.
        if _end(engine, sa.and_(this, requests.c.state == "IN_QUEUE"), "CANCELLED", CANCELLED):
            return "cancelled"
        if _update(engine, sa.and_(this, requests.c.state == "IN_PROGRESS"), {"cancel_at": clock.now()}):
            return "requested"
        row = get_without_payloads(engine, request_id)
        if row is None:
            return "unknown"
        if row.has_ended:
            return "ended"


def expire(engine: sa.Engine, outcome: Outcome) -> list[str]:
    """Ends waiting requests that were never started and whose deadline `start_by` has passed. Returns their ids.

    A request that was started once and is back in the queue is not ended. One call ends at most 20 requests
    (CHANGED_BATCH); the next call ends others.

    `outcome`: the outcome, an error, that is stored for each of these requests.
    """
    late = sa.and_(requests.c.state == "IN_QUEUE", requests.c.start_by < clock.now(), requests.c.started_at.is_(None))
    with reading(engine) as connection:
        ids = [row.id for row in connection.execute(sa.select(requests.c.id).where(late).limit(CHANGED_BATCH))]
    return [
        request_id
        for request_id in ids
        if _end(engine, sa.and_(late, requests.c.id == request_id), "COMPLETED", outcome)
    ]


def _update(engine: sa.Engine, condition: sa.ColumnElement[bool], values: dict[str, Any]) -> bool:
    with engine.begin() as connection:
        return connection.execute(sa.update(requests).where(condition).values(**values, **NEXT_VERSION)).rowcount == 1


def _end(engine: sa.Engine, condition: sa.ColumnElement[bool], state: State, outcome: Outcome) -> bool:
    """Ends a request: stores its state and outcome, and schedules its webhook. Returns True if it did.

    Also marks the download of the request's files as ended, so that they are deleted, and deletes its preview.

    `condition`: an SQL condition on the table `requests`, which at most one request meets.
    `state`: the request's state after its end.

    Returns False, and changes nothing, if no request meets the condition.
    """
    now = clock.now()
    with engine.begin() as connection:
        ended = connection.execute(
            sa.update(requests)
            .where(condition)
            .values(state=state, completed_at=now, **outcome_values(outcome), **NEXT_VERSION)
            .returning(requests.c.id, requests.c.key_id, requests.c.webhook_url)
        ).first()
        if ended is not None:
            fetches.end(connection, ended.id)
            previews.end(connection, ended.id)
            _schedule_webhook(connection, ended, now)
    return ended is not None


def _schedule_webhook(connection: sa.Connection, row: Any, now: float) -> None:
    """Inserts the webhook of a request that has ended, to be sent at once. Does nothing if the request has none.

    `row`: has the request's `id`, `key_id` and `webhook_url`.
    `now`: the Unix time in seconds of the request's end.
    """
    if row.webhook_url is None:
        return
    receiver = {"key_id": row.key_id, "url": row.webhook_url, "host": host_of(row.webhook_url)}
    values = {"request_id": row.id, **receiver, "state": "waiting", "attempts": 0}
    connection.execute(sa.insert(deliveries).values(**values, next_at=now, give_up_at=now + WEBHOOK_S))
