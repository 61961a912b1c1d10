"""Lists past requests and their costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

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
    """The summed costs of an endpoint's requests that were submitted within one span of time.

    `endpoint`: the endpoint's id.
    `start`: the beginning of the span in Unix seconds.
    `count`: the number of requests that cost more than 0.
    `price_usd`: the sum of their prices in US dollars, each rounded to a billionth.
    """

    endpoint: str
    start: float
    count: int
    price_usd: Decimal


def costs(
    engine: sa.Engine, selected: HistoryFilter, span_s: int | None = None, limit: int | None = None
) -> list[Cost]:
    """Returns the costs of the requests that `selected` matches: one `Cost` for each endpoint and span of time.

    The earliest span comes first. Requests that cost nothing are left out.

    `span_s`: the length of a span in seconds. Spans begin at the Unix times that are multiples of it. None means one
        span for all requests.
    `limit`: the maximum number of returned objects; None sets no limit.
    """
    number = sa.literal(0) if span_s is None else _span_number(engine, span_s)
    billionths = sa.cast(sa.func.round(sa.cast(requests.c.price_usd, sa.Double) * 1e9), sa.BigInteger)
    query = (
        sa.select(requests.c.endpoint, number.label("number"), sa.func.count(), sa.func.sum(billionths))
        .where(*selected.clauses(), requests.c.price_usd != "0")
        .group_by(requests.c.endpoint, sa.text("number"))
        .order_by(sa.text("number"), requests.c.endpoint)
        .limit(limit)
    )
    with reading(engine) as connection:
        return [
            Cost(endpoint, float(number) * (span_s or 0), count, Decimal(int(total)) / 10**9)
            for endpoint, number, count, total in connection.execute(query)
        ]


def _span_number(engine: sa.Engine, span_s: int) -> sa.ColumnElement[Any]:
    """Returns an SQL expression: the number of the span of time in which a request was submitted.

    It is `created_at` divided by `span_s` and rounded down.
    """
    exact = requests.c.created_at / sa.literal_column(f"{span_s}.0")
    # SQLite need not have `floor`, and its CAST rounds down. In PostgreSQL CAST rounds to the nearest number.
    return sa.cast(exact, sa.BigInteger) if engine.dialect.name == "sqlite" else sa.func.floor(exact)


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
