"""What was asked and what it cost: reading the requests of the past, and deleting what they held."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from longtake.database.connection import reading
from longtake.database.tables import events, requests
from longtake.queue.requests import Row

EMPTY = b"null"
"""The input of a request whose payload was deleted."""


@dataclass(frozen=True)
class Span:
    """Which requests: of these endpoints (none: of all), of this key (None: of all), made from `start` until before
    `end`, in seconds since 1970."""

    endpoints: Sequence[str] = ()
    key_id: str | None = None
    start: float | None = None
    end: float | None = None

    def clauses(self) -> list[sa.ColumnElement[bool]]:
        found: list[sa.ColumnElement[bool]] = []
        if self.endpoints:
            found.append(requests.c.endpoint.in_(self.endpoints))
        if self.key_id is not None:
            found.append(requests.c.key_id == self.key_id)
        if self.start is not None:
            found.append(requests.c.created_at >= self.start)
        if self.end is not None:
            found.append(requests.c.created_at < self.end)
        return found


@dataclass(frozen=True)
class Cost:
    endpoint: str
    at: float
    price_usd: Decimal


def costs(engine: sa.Engine, span: Span) -> list[Cost]:
    """What each request that cost something cost, the oldest first."""
    wanted = (
        sa.select(requests.c.endpoint, requests.c.created_at, requests.c.price_usd)
        .where(*span.clauses(), requests.c.price_usd != "0")
        .order_by(requests.c.seq)
    )
    with reading(engine) as connection:
        return [Cost(row.endpoint, row.created_at, Decimal(row.price_usd)) for row in connection.execute(wanted)]


def page(
    engine: sa.Engine,
    span: Span,
    *,
    limit: int,
    before: int | None = None,
    codes: tuple[int, int] | None = None,
    request_id: str | None = None,
    payloads: bool = False,
) -> list[Row]:
    """At most `limit` requests, the youngest first, from before the request of number `before`. `codes`: those that
    ended with an HTTP status in this range, its end excluded. Without `payloads` bodies and outputs are empty."""
    large: dict[str, Any] = {} if payloads else {"body": b"", "output": None, "plan": None}
    wanted = sa.select(*[column for column in requests.c if column.name not in large]).where(*span.clauses())
    if before is not None:
        wanted = wanted.where(requests.c.seq < before)
    if codes is not None:
        wanted = wanted.where(requests.c.status_code >= codes[0], requests.c.status_code < codes[1])
    if request_id is not None:
        wanted = wanted.where(requests.c.id == request_id)
    with reading(engine) as connection:
        found = connection.execute(wanted.order_by(requests.c.seq.desc()).limit(limit))
        return [Row(**{**row._mapping, **large}) for row in found]


def erase(engine: sa.Engine, request_id: str) -> bool:
    """Deletes what an ended request held: its input, result, plan and log; False where it has not ended."""
    with engine.begin() as connection:
        erased = connection.execute(
            sa.update(requests)
            .where(requests.c.id == request_id, requests.c.state.in_(("COMPLETED", "CANCELLED")))
            .values(body=EMPTY, output=None, plan=None, version=requests.c.version + 1)
        )
        if erased.rowcount == 1:
            connection.execute(sa.delete(events).where(events.c.request_id == request_id))
        return erased.rowcount == 1
