"""Two requests in one slot: one is prepared, or its video is written, while the other one uses the device."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from longtake.queue import engine as queue
from longtake.queue.requests import RequestRow
from longtake.storage.blobs import Blobs
from longtake.system import start_ticks
from tests.database.fixtures import on_sqlite
from tests.processes import kill
from tests.storage.fixtures import on_local_blobs
from tests.worker.requests import (
    PATIENCE_S,
    another_server,
    current,
    effects_of,
    end_of,
    eventually,
    pids,
    submission,
    windows,
)
from tests.worker.server import Server

Serve = Callable[..., Server]


class Pair:
    """Requests of the test. Each waits at a place of its work until its own file `gate` is there."""

    def __init__(self, engine: sa.Engine, folder: Path) -> None:
        self.engine, self.folder, self.effects = engine, folder, folder / "effects"
        self.rows: list[RequestRow] = []

    def submit(self, at: str, *, may_retry: bool = True, **body: Any) -> RequestRow:
        waiting: dict[str, Any] = {"at": at, "do": "wait", "gate": str(self.folder / f"gate-{len(self.rows)}")}
        whole: dict[str, Any] = {"shares": True, "effects": str(self.effects), "windows": 2} | waiting | body
        one = submission(**whole)
        self.rows.append(queue.submit(self.engine, replace(one, may_retry=may_retry))[0])
        return self.rows[-1]

    def open(self, row: RequestRow) -> None:
        (self.folder / f"gate-{self.rows.index(row)}").touch()

    def reaches(self, row: RequestRow, place: str) -> None:
        """Waits until the request is at this place."""
        eventually(lambda: (self.folder / "work" / row.id / f"deed-{place}").exists())

    def waits(self, row: RequestRow) -> None:
        """Waits until the request waits for the device."""
        eventually(lambda: effects_of(self.effects, "waits", row.id))

    def is_running(self, row: RequestRow) -> bool:
        return current(self.engine, row).state == "IN_PROGRESS"

    def ends(self, row: RequestRow) -> tuple[int | None, int]:
        """Waits for the end of the request, and returns its status and the number of attempts."""
        ended = end_of(self.engine, row)
        return ended.status_code, ended.attempt

    def order(self) -> list[tuple[str, str]]:
        """Returns what began and what was made, in order."""
        lines = [line.split() for line in self.effects.read_text().splitlines()]
        return [(kind, request_id) for kind, request_id, *_ in lines if kind in ("began", "made")]


@pytest.fixture
def pair(engine: sa.Engine, tmp_path: Path) -> Pair:
    return Pair(engine, tmp_path)


def test_the_next_request_uses_the_device_while_the_video_of_the_first_is_written(
    engine: sa.Engine, serve: Serve, pair: Pair
) -> None:
    serve()
    first, second, third = pair.submit("tail"), pair.submit("tail"), pair.submit("tail")
    pair.reaches(second, "tail")
    assert windows(pair.effects, second) == ["0", "1"]
    assert pair.is_running(first)
    time.sleep(0.2)
    assert current(engine, third).state == "IN_QUEUE", "there are never three"
    pair.open(second)
    assert pair.ends(second) == (200, 1), "the second one need not wait for the first"
    pair.reaches(third, "tail")
    for row in (first, third):
        pair.open(row)
        assert pair.ends(row) == (200, 1)
    assert len(set(pids(pair.effects))) == 1
    for row in pair.rows:
        assert [line.message for line in queue.log_lines(engine, row.id)] == ["Sampling new frames"]
        output = json.loads(current(engine, row).output or "")
        assert output["seed"] == (current(engine, row).plan or {})["seed"]


def test_the_next_request_is_claimed_when_the_device_is_soon_free_and_waits_for_it(serve: Serve, pair: Pair) -> None:
    server = serve()
    first = pair.submit("turn")
    pair.reaches(first, "turn")
    second = pair.submit("last")
    server.slots.wake("default")
    time.sleep(0.2)
    assert not pair.is_running(second)
    pair.open(first)
    pair.reaches(second, "last")
    third = pair.submit("turn", wants="https://example.com/clip.mp4")
    server.slots.wake("default")
    pair.waits(third)
    assert windows(pair.effects, third) == []
    pair.open(second)
    pair.reaches(third, "turn")
    pair.open(third)
    assert [pair.ends(row) for row in (first, second, third)] == [(200, 1)] * 3


@pytest.mark.parametrize("place", ["start", "planned", "waits", "turn", "last", "tail"])
@on_sqlite
def test_if_the_process_dies_both_requests_are_tried_again_alone(serve: Serve, pair: Pair, place: str) -> None:
    serve()
    first = pair.submit("last" if place == "waits" else "tail", once=True)
    pair.reaches(first, "last" if place == "waits" else "tail")
    second = pair.submit("turn") if place == "waits" else pair.submit(place, do="crash", once=True)
    if place == "waits":
        pair.waits(second)
        os.kill(pids(pair.effects)[0], signal.SIGKILL)
        pair.open(second)
    assert pair.ends(first) == (200, 2)
    assert pair.ends(second) == (200, 2)
    assert len(set(pids(pair.effects))) == 2
    assert [windows(pair.effects, row) for row in (first, second)] == [["0", "1"]] * 2, "each window is made once"
    again = pair.order()[2:]
    assert again == [(kind, row.id) for row in (first, second) for kind in ("began", "made")]


@pytest.mark.parametrize("which", ["first", "waiting", "using"])
def test_a_cancellation_ends_one_request_and_leaves_the_other_alone(
    engine: sa.Engine, serve: Serve, pair: Pair, which: str
) -> None:
    server = serve(cancel_grace_s=3600)
    first = pair.submit("last" if which == "waiting" else "tail")
    pair.reaches(first, "last" if which == "waiting" else "tail")
    second = pair.submit("turn")
    if which == "waiting":
        pair.waits(second)
    else:
        pair.reaches(second, "turn")
    cancelled, other = (first, second) if which == "first" else (second, first)
    assert queue.cancel(engine, cancelled.id) == "requested"
    server.slots.cancel(cancelled.id)
    assert end_of(engine, cancelled).state == "CANCELLED"
    assert pair.is_running(other)
    pair.open(other)
    assert pair.ends(other) == (200, 1)
    third = pair.submit("tail")
    pair.open(third)
    assert pair.ends(third) == (200, 1)
    assert len(set(pids(pair.effects))) == 1


@pytest.mark.parametrize("place", ["start", "turn", "tail"])
@on_sqlite
def test_a_failure_of_one_request_leaves_the_other_alone(serve: Serve, pair: Pair, place: str) -> None:
    serve()
    first = pair.submit("tail")
    pair.reaches(first, "tail")
    assert pair.ends(pair.submit(place, do="fail")) == (422, 1)
    assert pair.is_running(first)
    pair.open(first)
    assert pair.ends(first) == (200, 1)


def test_a_drain_finishes_the_first_request_and_returns_the_one_that_waits(
    engine: sa.Engine, serve: Serve, pair: Pair
) -> None:
    server = serve()
    first = pair.submit("last")
    pair.reaches(first, "last")
    second = pair.submit("turn")
    pair.waits(second)
    draining = threading.Thread(target=server.slots.drain, args=(PATIENCE_S,))
    draining.start()
    eventually(lambda: current(engine, second).state == "IN_QUEUE")
    assert current(engine, second).attempt == 0
    assert pair.is_running(first)
    pair.open(first)
    assert pair.ends(first) == (200, 1)
    draining.join()
    serve()
    pair.open(second)
    assert pair.ends(second) == (200, 1)


@on_sqlite
def test_a_drain_kills_a_request_that_does_not_stop_when_the_other_one_has_ended(
    engine: sa.Engine, serve: Serve, pair: Pair
) -> None:
    server = serve(cancel_grace_s=0.1)
    first = pair.submit("last")
    pair.reaches(first, "last")
    second = pair.submit("start", do="hang", once=True)
    pair.reaches(second, "start")
    threading.Thread(target=server.slots.drain, args=(3600,), daemon=True).start()
    eventually(lambda: effects_of(pair.effects, "ignored", second.id))
    pair.open(first)
    assert pair.ends(first) == (200, 1)
    eventually(lambda: current(engine, second).state == "IN_QUEUE")
    assert current(engine, second).attempt == 0


@on_sqlite
def test_a_drain_finishes_both_requests_if_both_have_used_the_device(serve: Serve, pair: Pair) -> None:
    server = serve()
    first, second = pair.submit("tail"), pair.submit("turn")
    pair.reaches(second, "turn")
    draining = threading.Thread(target=server.slots.drain, args=(PATIENCE_S,))
    draining.start()
    for row in (second, first):
        pair.open(row)
        assert pair.ends(row) == (200, 1)
    draining.join()


def test_a_stopped_server_returns_both_requests(engine: sa.Engine, serve: Serve, pair: Pair) -> None:
    server = serve()
    first, second = pair.submit("tail"), pair.submit("turn")
    pair.reaches(second, "turn")
    server.slots.drain(0.2)
    for row in (first, second):
        assert (current(engine, row).state, current(engine, row).attempt) == ("IN_QUEUE", 0)
        pair.open(row)
    serve()
    assert [pair.ends(row) for row in (first, second)] == [(200, 1)] * 2


@on_sqlite
def test_a_stall_counts_only_as_an_attempt_of_the_request_that_hangs(serve: Serve, pair: Pair) -> None:
    """The other request is interrupted: its attempt does not count."""
    serve(stall_s=1.0)
    first = pair.submit("last", do="hang", once=True)
    pair.reaches(first, "last")
    second = pair.submit("turn")
    pair.waits(second)
    pair.open(second)
    assert pair.ends(first) == (200, 2)
    assert pair.ends(second) == (200, 1)
    assert windows(pair.effects, first) == ["0", "1"]


@pytest.mark.parametrize("single", ["first", "second"])
@on_sqlite
def test_a_request_with_a_single_attempt_is_carried_out_alone(
    engine: sa.Engine, serve: Serve, pair: Pair, single: str
) -> None:
    """If the process died because of the other request, this one would fail."""
    serve()
    first = pair.submit("tail", may_retry=single != "first")
    pair.reaches(first, "tail")
    second = pair.submit("tail", may_retry=single != "second")
    time.sleep(0.3)
    assert not pair.is_running(second)
    for row in (first, second):
        pair.open(row)
        assert pair.ends(row) == (200, 1)


@on_sqlite
def test_a_request_that_cannot_be_given_back_at_once_is_carried_out_later(
    serve: Serve, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request with a single attempt is claimed beside another one, and the database fails when it goes back."""

    def fail(*arguments: Any, **named: Any) -> bool:
        monkeypatch.undo()
        raise RuntimeError("a bug")

    serve()
    first = pair.submit("tail")
    pair.reaches(first, "tail")
    monkeypatch.setattr(queue, "return_to_queue", fail)
    second = pair.submit("tail", may_retry=False)
    eventually(lambda: queue.return_to_queue is not fail)
    for row in (first, second):
        pair.open(row)
        assert pair.ends(row) == (200, 1)


@on_local_blobs
def test_both_requests_of_a_killed_server_are_carried_out_by_another(
    database_url: str, engine: sa.Engine, serve: Serve, blobs: Blobs, pair: Pair, tmp_path: Path
) -> None:
    with another_server(database_url, tmp_path, blobs) as server:
        first, second = pair.submit("tail"), pair.submit("turn")
        pair.reaches(second, "turn")
        kill(server)
    eventually(lambda: all(start_ticks(pid) is None for pid in pids(pair.effects)))
    for row in (first, second):
        pair.open(row)
    serve(lease_s=3600)
    assert [pair.ends(row) for row in (first, second)] == [(200, 2)] * 2
    assert [windows(pair.effects, row) for row in (first, second)] == [["0", "1"]] * 2
