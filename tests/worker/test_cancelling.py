"""A cancelled request ends at once, and its worker process survives if it hears the cancellation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from longtake.queue import engine as queue
from tests.database.fixtures import on_sqlite
from tests.worker.requests import current, effects_of, end_of, eventually, pids, submit, windows
from tests.worker.server import Server

Serve = Callable[..., Server]


@pytest.mark.parametrize(
    ("at", "is_told"),
    [("start", True), ("planned", True), (1, True), (1, False)],
    ids=["start", "planned", "in the middle", "in the middle, by another server"],
)
def test_a_cancelled_request_ends_before_its_worker_stops(
    engine: sa.Engine, serve: Serve, effects: Path, at: str | int, is_told: bool
) -> None:
    """The worker process hangs and gets an hour to stop, but the client need not wait for that."""
    server = serve(cancel_grace_s=3600)
    row = submit(engine, windows=2, at=at, do="hang", effects=str(effects))
    eventually(lambda: pids(effects) and len(windows(effects, row)) == (at if isinstance(at, int) else 0))
    assert queue.cancel(engine, row.id) == "requested"
    if is_told:
        server.slots.cancel(row.id)
    ended = end_of(engine, row)
    assert (ended.state, ended.status_code, ended.error_type) == ("CANCELLED", 499, "client_cancelled")


@on_sqlite
def test_a_worker_that_heeds_a_cancellation_lives_on(
    engine: sa.Engine, serve: Serve, tmp_path: Path, effects: Path
) -> None:
    server = serve(cancel_grace_s=3600)
    row = submit(engine, windows=10_000, window_s=0.05, effects=str(effects))
    eventually(lambda: effects_of(effects, "window"))
    queue.cancel(engine, row.id)
    server.slots.cancel(row.id)
    assert end_of(engine, row).state == "CANCELLED"
    assert end_of(engine, submit(engine, effects=str(effects))).status_code == 200
    assert len(set(pids(effects))) == 1
    assert not (tmp_path / "work" / row.id).exists()


@pytest.mark.parametrize("body", [{"do": "ignore", "windows": 10_000, "window_s": 0.05}, {"do": "hang", "at": 0}])
@on_sqlite
def test_a_worker_that_ignores_a_cancellation_is_killed(
    engine: sa.Engine, serve: Serve, effects: Path, body: dict[str, Any]
) -> None:
    server = serve()
    row = submit(engine, effects=str(effects), **body)
    eventually(lambda: current(engine, row).plan)
    queue.cancel(engine, row.id)
    server.slots.cancel(row.id)
    assert end_of(engine, row).state == "CANCELLED"
    assert end_of(engine, submit(engine, effects=str(effects))).status_code == 200
    assert len(set(pids(effects))) == 2


def test_a_request_that_is_cancelled_while_it_waits_never_begins(
    engine: sa.Engine, serve: Serve, effects: Path
) -> None:
    row = submit(engine, effects=str(effects))
    assert queue.cancel(engine, row.id) == "cancelled"
    server = serve()
    end_of(engine, submit(engine))
    server.slots.cancel(row.id)
    assert not effects.exists()


@on_sqlite
def test_cancelling_another_request_changes_nothing(engine: sa.Engine, serve: Serve, effects: Path) -> None:
    server = serve()
    row = submit(engine, windows=3, window_s=0.1, effects=str(effects))
    eventually(lambda: pids(effects))
    server.slots.cancel("another")
    assert end_of(engine, row).status_code == 200
