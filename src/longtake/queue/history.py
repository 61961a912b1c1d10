"""Past requests: their listing and cost, and the deletion of their inputs and results."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from longtake.database.connection import reading
from longtake.database.tables import events, requests
from longtake.queue.requests import ENDED, RequestRow

DELETED_INPUT = b"null"
"""The stored input of a request whose payloads were deleted."""


@dataclass(frozen=True)
class HistoryFilter:
    """Selects past requests by endpoint, key and creation time.

    Empty `endpoints` select every endpoint; None leaves out a condition. `start` (included) and `end` (excluded) are
    Unix times in seconds.
    """

    endpoints: Sequence[str] = ()
    key_id: str | None = None
    start: float | None = None
    end: float | None = None

    def clauses(self) -> list[sa.ColumnElement[bool]]:
        """Returns the conditions for the WHERE clause of a query on the `requests` table."""
        clauses: list[sa.ColumnElement[bool]] = []
        if self.endpoints:
            clauses.append(requests.c.endpoint.in_(self.endpoints))
        if self.key_id is not None:
            clauses.append(requests.c.key_id == self.key_id)
        if self.start is not None:
            clauses.append(requests.c.created_at >= self.start)
        if self.end is not None:
            clauses.append(requests.c.created_at < self.end)
        return clauses


@dataclass(frozen=True)
class Cost:
    """The price of one request, submitted at the Unix time `at`."""

    endpoint: str
    at: float
    price_usd: Decimal


def costs(engine: sa.Engine, selected: HistoryFilter) -> list[Cost]:
    """Returns the cost of each selected request that was not free, oldest first."""
    query = (
        sa.select(requests.c.endpoint, requests.c.created_at, requests.c.price_usd)
        .where(*selected.clauses(), requests.c.price_usd != "0")
        .order_by(requests.c.seq)
    )
    with reading(engine) as connection:
        return [Cost(row.endpoint, row.created_at, Decimal(row.price_usd)) for row in connection.execute(query)]


def page(
    engine: sa.Engine,
    selected: HistoryFilter,
    *,
    limit: int,
    before: int | None = None,
    codes: tuple[int, int] | None = None,
    request_id: str | None = None,
    payloads: bool = False,
) -> list[RequestRow]:
    """Returns up to `limit` of the selected requests, newest first.

    `before` is the `seq` of the last row of the previous page. `codes` selects the HTTP statuses of results: from the
    first number up to but not including the second. Without `payloads` the rows have no body, output or plan.
    """
    empty: dict[str, Any] = {} if payloads else {"body": b"", "output": None, "plan": None}
    query = sa.select(*[column for column in requests.c if column.name not in empty]).where(*selected.clauses())
    if before is not None:
        query = query.where(requests.c.seq < before)
    if codes is not None:
        query = query.where(requests.c.status_code >= codes[0], requests.c.status_code < codes[1])
    if request_id is not None:
        query = query.where(requests.c.id == request_id)
    with reading(engine) as connection:
        rows = connection.execute(query.order_by(requests.c.seq.desc()).limit(limit))
        return [RequestRow(**{**row._mapping, **empty}) for row in rows]


def erase(engine: sa.Engine, request_id: str) -> bool:
    """Deletes the input, result, plan and log of an ended request. Returns False if it has not ended or is unknown."""
    with engine.begin() as connection:
        erased = connection.execute(
            sa.update(requests)
            .where(requests.c.id == request_id, requests.c.state.in_(ENDED))
            .values(body=DELETED_INPUT, output=None, plan=None, version=requests.c.version + 1)
        )
        if erased.rowcount == 1:
            connection.execute(sa.delete(events).where(events.c.request_id == request_id))
        return erased.rowcount == 1
