"""Past requests: pages and costs."""

import time
from decimal import Decimal

import sqlalchemy as sa

from longtake.queue import engine as queue
from longtake.queue import history
from longtake.queue.history import HistoryFilter
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

    assert prices(HistoryFilter()) == ["0.02", "0.30"]
    assert prices(HistoryFilter(endpoints=("a/c", "a/d"))) == ["0.30"]
    assert prices(HistoryFilter(key_id="one")) == ["0.02"]
    assert prices(HistoryFilter(start=start - 1, end=end + 1)) == ["0.02", "0.30"]
    assert prices(HistoryFilter(start=end + 1)) == prices(HistoryFilter(end=start - 1)) == []
