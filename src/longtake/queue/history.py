"""Lists past requests and their costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from longtake.database.connection import reading
from longtake.database.tables import requests
from longtake.queue.requests import RequestRow
from longtake.queue.rows import FACTS, row_without_payloads


@dataclass(frozen=True)
class HistoryFilter:
    """Selects past requests by endpoint, API key and creation time.

    `endpoints`: ids of endpoints; empty selects all.
    `key_id`: the id of the API key that submitted the request; None selects all.
    `start`: the earliest time of creation in Unix seconds; None sets no limit.
    `end`: the time in Unix seconds before which the request was created; None sets no limit.
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
    """The price of one request in US dollars.

    `endpoint` is the id of the request's endpoint. `at` is the Unix time in seconds at which the request was submitted.
    """

    endpoint: str
    at: float
    price_usd: Decimal


def costs(engine: sa.Engine, selected: HistoryFilter) -> list[Cost]:
    """Returns the costs of the requests that `selected` matches, oldest first. Requests that cost 0 are left out."""
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
) -> list[RequestRow]:
    """Returns the rows of the requests that match all arguments, newest first, at most `limit` of them.

    The rows have no payloads (see `engine.get_without_payloads`).

    `selected`: selects requests by endpoint, API key and creation time.
    `before`: the `seq` of the last row of the previous page; None for the first page.
    `codes`: (low, high) selects requests whose result has an HTTP status from low to high - 1; None selects all.
    `request_id`: selects only this request; None selects all.
    """
    query = sa.select(*FACTS).where(*selected.clauses())
    if before is not None:
        query = query.where(requests.c.seq < before)
    if codes is not None:
        query = query.where(requests.c.status_code >= codes[0], requests.c.status_code < codes[1])
    if request_id is not None:
        query = query.where(requests.c.id == request_id)
    with reading(engine) as connection:
        rows = connection.execute(query.order_by(requests.c.seq.desc()).limit(limit))
        return [row_without_payloads(row) for row in rows]
