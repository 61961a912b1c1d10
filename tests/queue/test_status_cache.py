"""The board: what it tells is what the database has, and it asks only where something changed."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from longtake.queue import engine as queue
from longtake.queue.requests import CANCELLED, LogLine, Outcome, Priority, RequestRow, Submission
from longtake.queue.status_cache import FRESH_S, StatusCache


@pytest.fixture
def board(engine: sa.Engine) -> Iterator[StatusCache]:
    made = StatusCache(engine)
    made.start()
    yield made
    made.stop()


def submit(engine: sa.Engine, pool: str = "default", priority: Priority = "normal") -> RequestRow:
    return queue.submit(engine, Submission("a/b/c", pool, "k", b"{}", "http://h/queue", priority))[0]


def claim(engine: sa.Engine) -> RequestRow:
    row = queue.claim(engine, "default", "w")
    assert row is not None
    return row


def position(board: StatusCache, row: RequestRow) -> int | None:
    view = board.get(row.id)
    assert view is not None
    return view.queue_position


class Counted:
    """The statements that an engine was asked, but for those of the board's own thread."""

    def __init__(self, engine: sa.Engine) -> None:
        self.count = 0
        event.listen(engine, "before_cursor_execute", self._on)

    def _on(self, *_: object) -> None:
        self.count += threading.current_thread().name != "status-cache"


def test_a_view_is_read_once(engine: sa.Engine, board: StatusCache) -> None:
    row = submit(engine)
    assert board.peek(row.id) is None
    first = board.get(row.id)
    counted = Counted(engine)
    end = time.monotonic() + 2 * FRESH_S
    while time.monotonic() < end:
        assert board.peek(row.id) is first
        assert board.get(row.id) is first
        time.sleep(0.02)
    assert counted.count == 0


def test_a_view_holds_nothing_large(engine: sa.Engine, board: StatusCache) -> None:
    view = board.get(submit(engine).id)
    assert view is not None
    assert (view.row.body, view.row.output, view.row.plan) == (b"", None, None)
    assert board.add(submit(engine)).row.body == b""


def test_there_is_no_view_of_an_unknown_request(board: StatusCache) -> None:
    assert board.get("nothing") is None
    assert board.peek("nothing") is None


def test_a_change_is_seen_at_once(engine: sa.Engine, board: StatusCache) -> None:
    row = submit(engine)
    board.add(row)
    held = claim(engine)
    board.mark_changed(row.id)
    assert board.peek(row.id) is None
    view = board.get(row.id)
    assert view is not None
    assert (view.row.state, view.queue_position) == ("IN_PROGRESS", None)
    queue.add_log_lines(engine, held, [LogLine(1.0, "INFO", "one")])
    board.mark_changed(row.id)
    queue.add_log_lines(engine, held, [LogLine(2.0, "INFO", "two")])
    board.mark_changed(row.id)
    later = board.get(row.id)
    assert later is not None
    assert [line.message for line in later.log_lines] == ["one", "two"]
    queue.finish(engine, held, Outcome(200, {}))
    board.mark_changed(row.id)
    ended = board.get(row.id)
    assert ended is not None
    assert ended.row.state == "COMPLETED"
    assert len(ended.log_lines) == 2


def test_what_another_server_changed_is_seen_soon(engine: sa.Engine, board: StatusCache) -> None:
    row = submit(engine)
    board.get(row.id)
    claim(engine)
    end = time.monotonic() + 2
    while (view := board.get(row.id)) is None or view.row.state != "IN_PROGRESS":
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_old_view_is_not_believed_without_the_thread(engine: sa.Engine) -> None:
    idle = StatusCache(engine)
    row = submit(engine)
    idle.get(row.id)
    queue.cancel(engine, row.id)
    assert idle.peek(row.id) is not None
    time.sleep(FRESH_S + 0.05)
    assert idle.peek(row.id) is None
    view = idle.get(row.id)
    assert view is not None
    assert view.row.state == "CANCELLED"


def test_places_in_the_queue(engine: sa.Engine, board: StatusCache) -> None:
    low = submit(engine, priority="low")
    board.add(low)
    normal = [submit(engine) for _ in range(3)]
    for row in normal:
        board.add(row)
    other = board.add(submit(engine, "other"))
    assert other.queue_position == 0
    assert board.queue_length("default") == 4

    def settled(expected: list[int | None]) -> None:
        end = time.monotonic() + 2
        while [position(board, row) for row in (*normal, low)] != expected:
            assert time.monotonic() < end, [position(board, row) for row in (*normal, low)]
            time.sleep(0.02)

    settled([0, 1, 2, 3])
    board.mark_changed(claim(engine).id)
    settled([None, 0, 1, 2])
    queue.cancel(engine, normal[1].id)  # by another server
    settled([None, None, 0, 1])


def test_a_queue_nobody_asked_for_is_read_before_it_is_told(engine: sa.Engine) -> None:
    idle = StatusCache(engine)
    first = submit(engine)
    idle.add(first)
    queue.cancel(engine, first.id)
    time.sleep(2.1)
    assert idle.queue_length("default") == 0
    assert idle.add(submit(engine)).queue_position == 0


def test_one_who_waits_is_woken(engine: sa.Engine, board: StatusCache) -> None:
    row = submit(engine)
    view = board.add(row)

    async def wait(change: bool) -> float:
        began = time.monotonic()
        if change:
            asyncio.get_running_loop().call_later(0.1, lambda: board.mark_changed(claim(engine).id))
        await board.wait_for_change(row.id, view.row.version, 0.3)
        return time.monotonic() - began

    assert asyncio.run(wait(change=False)) >= 0.3
    assert 0.1 <= asyncio.run(wait(change=True)) < 0.25
    assert asyncio.run(wait(change=False)) < 0.05  # it changed before


def test_one_who_waits_is_woken_when_others_before_it_go(engine: sa.Engine, board: StatusCache) -> None:
    before, row = submit(engine), submit(engine)
    board.add(before)
    view = board.add(row)
    assert view.queue_position == 1

    async def wait() -> float:
        began = time.monotonic()
        asyncio.get_running_loop().call_later(0.05, lambda: queue.cancel(engine, before.id))
        await board.wait_for_change(row.id, view.row.version, 5)
        return time.monotonic() - began

    assert asyncio.run(wait()) < 2
    assert position(board, row) == 0


def test_one_who_waits_long_is_woken_too(
    engine: sa.Engine, board: StatusCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longtake.queue.status_cache.WANTED_S", 0.3)
    before, row = submit(engine), submit(engine)
    board.add(before)
    view = board.add(row)

    async def wait() -> float:
        began = time.monotonic()
        asyncio.get_running_loop().call_later(0.8, lambda: queue.cancel(engine, before.id))
        await board.wait_for_change(row.id, view.row.version, 5)
        return time.monotonic() - began

    assert 0.8 <= asyncio.run(wait()) < 1.8


def test_many_threads_never_see_an_older_state_after_a_newer(engine: sa.Engine, board: StatusCache) -> None:
    row = submit(engine)
    board.add(row)
    ended = threading.Event()
    wrong: list[tuple[int, int]] = []

    def look() -> None:
        last = -1
        while not ended.is_set():
            view = board.get(row.id)
            assert view is not None
            if view.row.version < last:
                wrong.append((last, view.row.version))
            last = view.row.version

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    held = claim(engine)
    for step in range(60):
        queue.add_log_lines(engine, held, [LogLine(float(step), "INFO", str(step))])
        board.mark_changed(row.id)
        view = board.get(row.id)
        assert view is not None
        assert [line.message for line in view.log_lines][-1] == str(step)
    ended.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_oldest_are_forgotten(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake.queue.status_cache.CAPACITY", 16 * 10)
    board = StatusCache(engine)
    rows = [submit(engine) for _ in range(30)]
    for row in rows:
        board.add(row)
    assert board.peek(rows[0].id) is None
    assert board.peek(rows[-1].id) is not None
    assert board.get(rows[0].id) is not None


def test_while_the_database_is_away_the_last_view_is_told(engine: sa.Engine, board: StatusCache) -> None:
    known, unknown = submit(engine), submit(engine)
    view = board.add(known)

    def refuse(*_: object) -> None:
        raise sa.exc.OperationalError("select", {}, Exception("away"))

    event.listen(engine, "before_cursor_execute", refuse)
    time.sleep(FRESH_S + 0.1)
    assert board.get(known.id) is view
    with pytest.raises(sa.exc.OperationalError):
        board.get(unknown.id)
    event.remove(engine, "before_cursor_execute", refuse)
    queue.cancel(engine, known.id)
    end = time.monotonic() + 3
    while (later := board.get(known.id)) is None or later.row.state != "CANCELLED":
        assert time.monotonic() < end
        time.sleep(0.02)
    assert later.row.error == CANCELLED.error
