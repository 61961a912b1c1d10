"""The queue: rows of requests, and the arrows between their states: of two who try one, one wins.

IN_QUEUE --claim--> IN_PROGRESS --finish--> COMPLETED
   |  ^-- the worker died --|  '--cancelled--> CANCELLED
   |--cancel--> CANCELLED
   '--not valid, or not started in time--> COMPLETED with an error
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa

from longtake.database.connection import reading
from longtake.database.tables import deliveries, events, requests, servers
from longtake.queue.requests import CANCELLED, PRIORITIES, Event, Line, Outcome, Row, State, Submission

WEBHOOK_S = 2 * 3600
"""So long a webhook is tried."""


class IdempotencyMismatch(Exception):
    """The same idempotency key came with another request."""


class QuotaReached(Exception):
    """The key has as many requests in flight as it may."""


def submit(engine: sa.Engine, asked: Submission, *, max_in_flight: int | None = None) -> tuple[Row, bool]:
    """Stores a request, in one transaction; and whether it is new. With an idempotency key that was seen before, the
    request of that time is the answer. Raises IdempotencyMismatch, QuotaReached."""
    now = time.time()
    values: dict[str, Any] = {
        "id": asked.id,
        "endpoint": asked.endpoint,
        "pool": asked.pool,
        "state": "IN_QUEUE",
        "priority": PRIORITIES[asked.priority],
        "key_id": asked.key_id,
        "idempotency_key": asked.idempotency_key,
        "body": asked.body,
        "base_url": asked.base_url,
        "webhook_url": asked.webhook_url,
        "store_io": asked.store_io,
        "may_retry": asked.may_retry,
        "lifecycle": None if asked.lifecycle is None else dict(asked.lifecycle),
        "created_at": now,
        "start_by": None if asked.start_timeout_s is None else now + asked.start_timeout_s,
        "attempt": 0,
        "version": 0,
        "price_usd": "0",
    }
    if asked.outcome is not None:
        values |= {"state": "COMPLETED", "completed_at": now, **_ending(asked.outcome)}
    with engine.begin() as connection:
        # Of two at the same moment the second waits here, then sees the first.
        if asked.idempotency_key is not None:
            _one_at_a_time(connection, f"once:{asked.key_id}:{asked.idempotency_key}")
        if max_in_flight is not None:
            _one_at_a_time(connection, f"quota:{asked.key_id}")
        seen = None if asked.idempotency_key is None else _submitted(connection, asked)
        if seen is not None:
            return seen, False
        if (
            max_in_flight is not None
            and asked.outcome is None
            and _in_flight(connection, asked.key_id) >= max_in_flight
        ):
            raise QuotaReached
        row = _row(connection.execute(sa.insert(requests).values(values).returning(requests)).one())
        if asked.outcome is not None:
            _promise_webhook(connection, row, now)
    return row, True


def _one_at_a_time(connection: sa.Connection, name: str) -> None:
    """Until this transaction ends no other that names the same goes on; SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(name, 0))))


def _submitted(connection: sa.Connection, asked: Submission) -> Row | None:
    found = connection.execute(
        sa.select(requests).where(
            requests.c.key_id == asked.key_id, requests.c.idempotency_key == asked.idempotency_key
        )
    ).first()
    if found is None:
        return None
    if (found.endpoint, bytes(found.body)) != (asked.endpoint, asked.body):
        raise IdempotencyMismatch
    return _row(found)


def _in_flight(connection: sa.Connection, key_id: str) -> int:
    return connection.execute(
        sa.select(sa.func.count()).where(requests.c.key_id == key_id, requests.c.state.in_(("IN_QUEUE", "IN_PROGRESS")))
    ).scalar_one()


def get(engine: sa.Engine, request_id: str) -> Row | None:
    """The request, or None."""
    with reading(engine) as connection:
        found = connection.execute(sa.select(requests).where(requests.c.id == request_id)).first()
    return None if found is None else _row(found)


def outline(engine: sa.Engine, request_id: str) -> Row | None:
    """The request without what may be large: its body, plan and output are empty."""
    columns = [column for column in requests.c if column.name not in ("body", "plan", "output")]
    with reading(engine) as connection:
        found = connection.execute(sa.select(*columns).where(requests.c.id == request_id)).first()
    return None if found is None else Row(**found._mapping, body=b"", plan=None, output=None)


def output(engine: sa.Engine, request_id: str) -> bytes | None:
    """The body of the request's result, as JSON."""
    with reading(engine) as connection:
        return connection.execute(sa.select(requests.c.output).where(requests.c.id == request_id)).scalar()


def versions(engine: sa.Engine, ids: Sequence[str]) -> dict[str, int]:
    """How often each of these requests has changed."""
    with reading(engine) as connection:
        found = connection.execute(sa.select(requests.c.id, requests.c.version).where(requests.c.id.in_(ids)))
        return {row.id: row.version for row in found}


def waiting(engine: sa.Engine, pool: str) -> list[str]:
    """The requests of a pool that wait, in the order they will be taken."""
    with reading(engine) as connection:
        found = connection.execute(
            sa.select(requests.c.id)
            .where(requests.c.pool == pool, requests.c.state == "IN_QUEUE")
            .order_by(requests.c.priority, requests.c.seq)
        )
        return [row.id for row in found]


def claim(engine: sa.Engine, pool: str, worker: str) -> Row | None:
    """The pool's next request, now this worker's; None where none waits."""
    next_id = (
        sa.select(requests.c.id)
        .where(requests.c.pool == pool, requests.c.state == "IN_QUEUE")
        .order_by(requests.c.priority, requests.c.seq)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    with engine.begin() as connection:
        found = connection.execute(
            sa.update(requests)
            .where(requests.c.id == next_id, requests.c.state == "IN_QUEUE")
            .values(
                state="IN_PROGRESS", worker=worker, started_at=time.time(), attempt=requests.c.attempt + 1, **_CHANGED
            )
            .returning(requests)
        ).first()
    return None if found is None else _row(found)


_CHANGED: dict[str, Any] = {"version": requests.c.version + 1}


def _held(row: Row) -> sa.ColumnElement[bool]:
    """Still in the hands of the worker that claimed it, at that attempt."""
    return sa.and_(
        requests.c.id == row.id,
        requests.c.state == "IN_PROGRESS",
        requests.c.worker == row.worker,
        requests.c.attempt == row.attempt,
    )


def keep_plan(engine: sa.Engine, row: Row, plan: Mapping[str, Any]) -> bool:
    """Stores the plan of a claimed request, which fixes its seed; False where it is no longer this worker's."""
    return _update(engine, _held(row), {"plan": dict(plan)})


def finish(engine: sa.Engine, row: Row, outcome: Outcome) -> bool:
    """Ends a claimed request; False where it is no longer this worker's, and the outcome does not count."""
    state: State = "CANCELLED" if outcome.error_type == "client_cancelled" else "COMPLETED"
    return _end(engine, _held(row), state, outcome)


def give_back(engine: sa.Engine, row: Row, *, counts: bool) -> bool:
    """Puts a claimed request back to its place in the queue; one that was to be cancelled ends so. `counts`: the
    attempt counts as one that failed. False where it is no longer this worker's."""
    attempt = requests.c.attempt if counts else requests.c.attempt - 1
    wanted = sa.and_(_held(row), requests.c.cancel_at.is_(None))
    back = _update(engine, wanted, {"state": "IN_QUEUE", "worker": None, "attempt": attempt})
    return back or finish(engine, row, CANCELLED)


def hold(engine: sa.Engine, row: Row) -> Literal["held", "cancelled", "lost"]:
    """Whether a claimed request is still this worker's, and still wanted."""
    with reading(engine) as connection:
        found = connection.execute(sa.select(requests.c.cancel_at).where(_held(row))).first()
    if found is None:
        return "lost"
    return "held" if found.cancel_at is None else "cancelled"


def in_hands(engine: sa.Engine, worker: str) -> list[Row]:
    """What this worker has claimed and not ended."""
    with reading(engine) as connection:
        found = connection.execute(
            sa.select(requests).where(requests.c.state == "IN_PROGRESS", requests.c.worker == worker)
        )
        return [_row(row) for row in found]


def cancel(engine: sa.Engine, request_id: str) -> Literal["cancelled", "asked", "ended", "unknown"]:
    """Cancels a request that waits; asks whoever works on it to stop."""
    this = requests.c.id == request_id
    while True:  # it may change hands between the two
        if _end(engine, sa.and_(this, requests.c.state == "IN_QUEUE"), "CANCELLED", CANCELLED):
            return "cancelled"
        if _update(engine, sa.and_(this, requests.c.state == "IN_PROGRESS"), {"cancel_at": time.time()}):
            return "asked"
        row = get(engine, request_id)
        if row is None:
            return "unknown"
        if row.ended:
            return "ended"


def expire(engine: sa.Engine, outcome: Outcome) -> list[str]:
    """Ends, with this outcome, the requests that were not started in time; which ones. One that was started and lost
    its worker may wait."""
    late = sa.and_(requests.c.state == "IN_QUEUE", requests.c.start_by < time.time(), requests.c.started_at.is_(None))
    with reading(engine) as connection:
        ids = [row.id for row in connection.execute(sa.select(requests.c.id).where(late))]
    return [one for one in ids if _end(engine, sa.and_(late, requests.c.id == one), "COMPLETED", outcome)]


def orphans(engine: sa.Engine) -> list[Row]:
    """The requests in the hands of a worker that has no row."""
    living = sa.select(servers.c.id)
    with reading(engine) as connection:
        found = connection.execute(
            sa.select(requests).where(requests.c.state == "IN_PROGRESS", requests.c.worker.not_in(living))
        )
        return [_row(row) for row in found]


def _update(engine: sa.Engine, where: sa.ColumnElement[bool], values: dict[str, Any]) -> bool:
    with engine.begin() as connection:
        return connection.execute(sa.update(requests).where(where).values(**values, **_CHANGED)).rowcount == 1


def _end(engine: sa.Engine, where: sa.ColumnElement[bool], state: State, outcome: Outcome) -> bool:
    now = time.time()
    with engine.begin() as connection:
        ended = connection.execute(
            sa.update(requests)
            .where(where)
            .values(state=state, completed_at=now, **_ending(outcome), **_CHANGED)
            .returning(requests)
        ).first()
        if ended is not None:
            _promise_webhook(connection, _row(ended), now)
    return ended is not None


def _ending(outcome: Outcome) -> dict[str, Any]:
    return {
        "status_code": outcome.status_code,
        "headers": dict(outcome.headers),
        "output": json.dumps(outcome.body, ensure_ascii=False, allow_nan=False).encode(),
        "error": outcome.error,
        "error_type": outcome.error_type,
        "price_usd": str(outcome.price_usd),
        "timings": dict(outcome.timings),
    }


def _promise_webhook(connection: sa.Connection, row: Row, now: float) -> None:
    if row.webhook_url is None:
        return
    connection.execute(
        sa.insert(deliveries).values(
            request_id=row.id,
            url=row.webhook_url,
            state="waiting",
            attempts=0,
            next_at=now,
            give_up_at=now + WEBHOOK_S,
        )
    )


def tell(engine: sa.Engine, row: Row, lines: Sequence[Line]) -> bool:
    """Adds lines to a request's log; False where it is no longer this worker's."""
    with engine.begin() as connection:
        held = connection.execute(sa.update(requests).where(_held(row)).values(**_CHANGED)).rowcount == 1
        if held:
            connection.execute(
                sa.insert(events),
                [
                    {
                        "request_id": row.id,
                        "at": line.at,
                        "level": line.level,
                        "message": line.message,
                        "labels": dict(line.labels),
                    }
                    for line in lines
                ],
            )
    return held


def told(engine: sa.Engine, request_id: str, after: int = 0) -> list[Event]:
    """A request's log from behind event number `after`."""
    with reading(engine) as connection:
        found = connection.execute(
            sa.select(events).where(events.c.request_id == request_id, events.c.seq > after).order_by(events.c.seq)
        )
        return [Event(row.at, row.level, row.message, row.labels, row.seq) for row in found]


def _row(found: Any) -> Row:
    return Row(**found._mapping)
