"""The status cache: it returns what the database has, and queries it only after a change."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from longtake.queue import engine as queue
from longtake.queue.requests import CANCELLED, LogLine, Outcome, Priority, RequestRow, Submission
from longtake.queue.status_cache import FRESH_S, RequestStatus, StatusCache
from tests.worker.requests import PATIENCE_S, eventually


@pytest.fixture
def cache(engine: sa.Engine) -> Iterator[StatusCache]:
    """A cache that looks for the changes of other servers."""
    running = StatusCache(engine)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def idle_cache(engine: sa.Engine) -> StatusCache:
    """A cache without its thread."""
    return StatusCache(engine)


def submit(engine: sa.Engine, pool: str = "default", priority: Priority = "normal") -> RequestRow:
    return queue.submit(engine, Submission("a/b/c", pool, "k", b"{}", "http://h/queue", priority))[0]


def claim(engine: sa.Engine) -> RequestRow:
    row = queue.claim(engine, "default", "w")
    assert row is not None
    return row


def status_of(cache: StatusCache, row: RequestRow) -> RequestStatus:
    status = cache.get(row.id)
    assert status is not None
    return status


class QueryCount:
    """Counts the statements of an engine, except those of the cache's own thread."""

    def __init__(self, engine: sa.Engine) -> None:
        self.count = 0
        event.listen(engine, "before_cursor_execute", self._on_statement)

    def _on_statement(self, *_: object) -> None:
        self.count += threading.current_thread().name != "status-cache"


def test_a_status_is_read_once(engine: sa.Engine, cache: StatusCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake.queue.status_cache.FRESH_S", PATIENCE_S)
    row = submit(engine)
    assert cache.peek(row.id) is None
    first = status_of(cache, row)
    queries = QueryCount(engine)
    for _ in range(50):
        assert cache.peek(row.id) is first
        assert cache.get(row.id) is first
    assert queries.count == 0


def test_the_thread_keeps_a_wanted_status_fresh(engine: sa.Engine, cache: StatusCache) -> None:
    row = submit(engine)
    first = status_of(cache, row)
    queries = QueryCount(engine)

    def is_served_without_a_query() -> bool:
        before, end = queries.count, time.monotonic() + 2 * FRESH_S
        while time.monotonic() < end:
            assert cache.get(row.id) is first
            time.sleep(0.02)
        return queries.count == before

    eventually(is_served_without_a_query)


def test_a_status_has_no_payloads(engine: sa.Engine, cache: StatusCache) -> None:
    row = status_of(cache, submit(engine)).row
    assert (row.body, row.output, row.plan) == (b"", None, None)
    assert cache.add(submit(engine)).row.body == b""


def test_an_unknown_request_has_no_status(cache: StatusCache) -> None:
    assert cache.get("nothing") is None
    assert cache.peek("nothing") is None


def test_a_marked_change_is_seen_at_once(engine: sa.Engine, cache: StatusCache) -> None:
    row = submit(engine)
    cache.add(row)
    claimed = claim(engine)
    cache.mark_changed(row.id)
    assert cache.peek(row.id) is None
    running = status_of(cache, row)
    assert (running.row.state, running.queue_position) == ("IN_PROGRESS", None)
    for message in ("one", "two"):
        queue.add_log_lines(engine, claimed, [LogLine(1.0, "INFO", message)])
        cache.mark_changed(row.id)
    assert [line.message for line in status_of(cache, row).log_lines] == ["one", "two"]
    queue.finish(engine, claimed, Outcome(200, {}))
    cache.mark_changed(row.id)
    ended = status_of(cache, row)
    assert (ended.row.state, len(ended.log_lines)) == ("COMPLETED", 2)


def test_a_change_by_another_server_is_seen(engine: sa.Engine, cache: StatusCache) -> None:
    row = submit(engine)
    cache.get(row.id)
    claim(engine)
    eventually(lambda: status_of(cache, row).row.state == "IN_PROGRESS")


def test_without_the_thread_an_old_status_is_read_again(
    engine: sa.Engine, idle_cache: StatusCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longtake.queue.status_cache.FRESH_S", PATIENCE_S)
    row = submit(engine)
    idle_cache.get(row.id)
    queue.cancel(engine, row.id)
    assert idle_cache.peek(row.id) is not None
    monkeypatch.setattr("longtake.queue.status_cache.FRESH_S", 0.0)
    assert idle_cache.peek(row.id) is None
    assert status_of(idle_cache, row).row.state == "CANCELLED"


def test_positions_follow_the_queue(engine: sa.Engine, cache: StatusCache) -> None:
    low = submit(engine, priority="low")
    cache.add(low)
    normal = [submit(engine) for _ in range(3)]
    for row in normal:
        cache.add(row)
    assert cache.add(submit(engine, "other")).queue_position == 0
    assert cache.queue_length("default") == 4

    def become(*expected: int | None) -> None:
        eventually(lambda: [status_of(cache, row).queue_position for row in (*normal, low)] == [*expected])

    become(0, 1, 2, 3)
    cache.mark_changed(claim(engine).id)
    become(None, 0, 1, 2)
    queue.cancel(engine, normal[1].id)  # By another server, which this cache is not told about.
    become(None, None, 0, 1)


def test_an_outdated_queue_is_read_before_it_is_served(
    engine: sa.Engine, idle_cache: StatusCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = submit(engine)
    idle_cache.add(first)
    queue.cancel(engine, first.id)
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 1000)
    monkeypatch.setattr("longtake.queue.status_cache.time", later)
    assert idle_cache.queue_length("default") == 0
    assert idle_cache.add(submit(engine)).queue_position == 0


def waited(cache: StatusCache, status: RequestStatus, timeout: float, change: Callable[[], Any] | None = None) -> float:
    """Returns the seconds that `wait_for_change` took, with `change` called while it waits."""

    async def wait() -> float:
        started = time.monotonic()
        waiting = asyncio.create_task(cache.wait_for_change(status.row.id, status.row.version, timeout))
        await asyncio.sleep(0.05)
        if change is not None:
            await asyncio.to_thread(change)
        await waiting
        return time.monotonic() - started

    return asyncio.run(wait())


def test_a_waiting_client_is_woken_by_a_change(engine: sa.Engine, cache: StatusCache) -> None:
    status = cache.add(submit(engine))
    assert waited(cache, status, timeout=0.3) >= 0.3
    assert waited(cache, status, PATIENCE_S, lambda: cache.mark_changed(claim(engine).id)) < PATIENCE_S / 2
    assert waited(cache, status, PATIENCE_S) < PATIENCE_S / 2, "the change came before the wait"


@pytest.mark.parametrize("wanted_s", [2.0, 0.0])
def test_a_waiting_client_is_woken_when_its_position_changes(
    engine: sa.Engine, cache: StatusCache, monkeypatch: pytest.MonkeyPatch, wanted_s: float
) -> None:
    """Also after `WANTED_S`, when no client has asked for the status for a long time."""
    monkeypatch.setattr("longtake.queue.status_cache.WANTED_S", wanted_s)
    before, row = submit(engine), submit(engine)
    cache.add(before)
    status = cache.add(row)
    assert status.queue_position == 1
    assert waited(cache, status, PATIENCE_S, lambda: queue.cancel(engine, before.id)) < PATIENCE_S / 2
    assert status_of(cache, row).queue_position == 0


def test_no_thread_sees_an_older_state_after_a_newer_one(engine: sa.Engine, cache: StatusCache) -> None:
    row = submit(engine)
    cache.add(row)
    ended = threading.Event()
    backwards: list[tuple[int, int]] = []

    def look() -> None:
        last = -1
        while not ended.is_set():
            version = status_of(cache, row).row.version
            if version < last:
                backwards.append((last, version))
            last = version

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    claimed = claim(engine)
    for step in range(15):
        queue.add_log_lines(engine, claimed, [LogLine(float(step), "INFO", str(step))])
        cache.mark_changed(row.id)
        assert [line.message for line in status_of(cache, row).log_lines][-1] == str(step)
    ended.set()
    for thread in threads:
        thread.join()
    assert backwards == []


def test_a_full_cache_forgets_the_oldest_statuses(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake.queue.status_cache.CAPACITY", 60_000)
    cache = StatusCache(engine)
    rows = [submit(engine) for _ in range(30)]
    for row in rows:
        cache.add(row)
    assert cache.peek(rows[0].id) is None
    assert cache.peek(rows[-1].id) is not None
    assert status_of(cache, rows[0]).row.id == rows[0].id


def test_long_texts_leave_room_for_fewer_statuses(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake.queue.status_cache.CAPACITY", 60_000)
    cache = StatusCache(engine)
    rows = [submit(engine) for _ in range(3)]
    for row in rows:
        cache.add(row)
    talkative = claim(engine)
    queue.add_log_lines(engine, talkative, [LogLine(1.0, "INFO", "x" * 25_000)])
    status_of(cache, talkative)
    cache.mark_changed(talkative.id)
    assert len(status_of(cache, talkative).log_lines) == 1
    assert [cache.peek(row.id) is not None for row in rows] == [True, False, False]


def test_a_log_longer_than_the_cache_is_served(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake.queue.status_cache.CAPACITY", 10_000)
    cache = StatusCache(engine)
    submit(engine)
    claimed = claim(engine)
    queue.add_log_lines(engine, claimed, [LogLine(1.0, "INFO", str(number)) for number in range(30)])
    assert len(status_of(cache, claimed).log_lines) == 30
    assert cache.peek(claimed.id) is not None


def test_the_last_status_is_served_while_the_database_is_away(
    engine: sa.Engine, cache: StatusCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, unknown = submit(engine), submit(engine)
    status = cache.add(known)

    def refuse(*_: object) -> None:
        raise sa.exc.OperationalError("select", {}, Exception("away"))

    event.listen(engine, "before_cursor_execute", refuse)
    monkeypatch.setattr("longtake.queue.status_cache.FRESH_S", 0.0)
    assert cache.get(known.id) is status
    with pytest.raises(sa.exc.OperationalError):
        cache.get(unknown.id)
    event.remove(engine, "before_cursor_execute", refuse)
    queue.cancel(engine, known.id)
    eventually(lambda: status_of(cache, known).row.state == "CANCELLED")
    assert status_of(cache, known).row.error == CANCELLED.error
