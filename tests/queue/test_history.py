"""Past requests: pages and costs."""

import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from longtake.database.connection import connect, file_url
from longtake.database.tables import metadata, requests
from longtake.queue import engine as queue
from longtake.queue import history
from longtake.queue.history import Cost, HistoryFilter
from longtake.queue.requests import LogLine, Outcome, RequestRow, Submission


def finished(engine: sa.Engine, endpoint: str, key_id: str, outcome: Outcome) -> RequestRow:
    queue.submit(engine, Submission(endpoint, "default", key_id, b'{"prompt":"x"}', "http://h/queue"))
    row = queue.claim(engine, "default", "w")
    assert row is not None
    queue.add_log_lines(engine, row, [LogLine(1.0, "INFO", "a line")])
    assert queue.finish(engine, row, outcome)
    return row


def test_pages_list_the_newest_requests_first(engine: sa.Engine) -> None:
    rows = [finished(engine, "a/b", "k", Outcome(200 if number % 2 else 422, {"n": number})) for number in range(6)]
    first = history.page(engine, HistoryFilter(), limit=4)
    assert [row.id for row in first] == [row.id for row in rows[:1:-1]]
    assert {row.output for row in first} == {None}
    second = history.page(engine, HistoryFilter(), limit=4, before=first[-1].seq)
    assert [row.id for row in second] == [rows[1].id, rows[0].id]
    assert len(history.page(engine, HistoryFilter(), limit=9, codes=(400, 500))) == 3
    assert [row.id for row in history.page(engine, HistoryFilter(), limit=9, request_id=rows[2].id)] == [rows[2].id]


def test_a_filter_selects_by_endpoint_key_and_time(engine: sa.Engine) -> None:
    start = time.time()
    finished(engine, "a/b", "one", Outcome(200, {}, price_usd=Decimal("0.02")))
    finished(engine, "a/c", "two", Outcome(200, {}, price_usd=Decimal("0.30")))
    finished(engine, "a/c", "two", Outcome(500, {}))
    end = time.time()

    def prices(selected: HistoryFilter) -> list[str]:
        return [str(cost.price_usd) for cost in history.costs(engine, selected)]

    assert prices(HistoryFilter()) == ["0.02", "0.3"]
    assert prices(HistoryFilter(endpoints=("a/c", "a/d"))) == ["0.3"]
    assert prices(HistoryFilter(key_id="one")) == ["0.02"]
    assert prices(HistoryFilter(start=start - 1, end=end + 1)) == ["0.02", "0.3"]
    assert prices(HistoryFilter(start=end + 1)) == prices(HistoryFilter(end=start - 1)) == []


def test_costs_are_summed_exactly_by_endpoint_and_span(engine: sa.Engine) -> None:
    paid = [("a/b", 59.5, "0.1"), ("a/b", 60.0, "0.1"), ("a/b", 119.9, "0.2"), ("a/c", 60.5, "0.000000001")]
    for endpoint, at, usd in [*paid, ("a/b", 61.0, "0")]:
        row = finished(engine, endpoint, "k", Outcome(200, {}, price_usd=Decimal(usd)))
        with engine.begin() as connection:
            connection.execute(sa.update(requests).where(requests.c.id == row.id).values(created_at=at))
    first, second = Cost("a/b", 0.0, 1, Decimal("0.1")), Cost("a/b", 60.0, 2, Decimal("0.3"))
    assert history.costs(engine, HistoryFilter(), 60) == [first, second, Cost("a/c", 60.0, 1, Decimal("1e-9"))]
    assert history.costs(engine, HistoryFilter(), 60, limit=2) == [first, second]
    assert history.costs(engine, HistoryFilter(endpoints=("a/b",))) == [Cost("a/b", 0.0, 3, Decimal("0.4"))]


@pytest.mark.parametrize("before", [None, 100])
def test_a_page_of_a_key_reads_no_more_requests_than_it_lists(tmp_path: Path, before: int | None) -> None:
    engine = connect(file_url(tmp_path / "one.db"))
    metadata.create_all(engine)
    asked: list[tuple[str, Any]] = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        asked.append((statement, values))

    history.page(engine, HistoryFilter(key_id="k"), limit=9, before=before)
    statement, values = asked[-1]
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    engine.dispose()
    assert len(plan) == 1, plan  # a second step would sort all requests of the key
    assert "INDEX requests_of_key_by_age (key_id=?" in plan[0].detail
