"""Whole servers in processes of their own that are killed, frozen and woken, on both kinds of database."""

import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from longtake.queue import engine as queue
from longtake.settings import settings
from longtake.storage.blobs import Blobs
from longtake.system import start_ticks
from tests.processes import kill, send_signal
from tests.storage.fixtures import each_once, on_local_blobs, read
from tests.worker.requests import (
    PATIENCE_S,
    another_server,
    current,
    effects_of,
    end_of,
    eventually,
    stored_files,
    submit,
)
from tests.worker.server import QUICK, Server, slow_store


@pytest.fixture
def effects(tmp_path: Path) -> Path:
    return tmp_path / "effects"


@pytest.fixture
def rescuer(engine: sa.Engine, blobs: Blobs, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts a second server in this process, with the same data folder or another one, and the same blobs."""
    started: list[Server] = []

    def start(folder: Path = tmp_path, **overrides: Any) -> Server:
        chosen = settings(**QUICK | {"data_dir": folder} | overrides)
        started.append(Server(engine, chosen, store=slow_store(engine, folder, blobs)).start())
        return started[-1]

    yield start
    for server in started:
        server.stop()


def is_gone(pid: int) -> bool:
    return start_ticks(pid) is None


@pytest.mark.parametrize("at", ["queued", "start", "planned", 1, "end", "done"])
@each_once
def test_a_request_survives_its_server_at_every_state(
    database_url: str,
    engine: sa.Engine,
    blobs: Blobs,
    rescuer: Callable[..., Server],
    tmp_path: Path,
    effects: Path,
    at: str | int,
) -> None:
    """Queued, claimed before the plan, after it, in the middle, made but not reported, and reported but not stored."""
    if at == "done":
        (tmp_path / "slow").touch()
    with another_server(database_url, tmp_path, blobs, slots=() if at == "queued" else ("cpu",)) as server:
        row = submit(engine, windows=2, at=at, do="hang", once=True, effects=str(effects))
        if at == "done":
            eventually(lambda: stored_files(engine, row))
        elif at != "queued":
            eventually(lambda: (tmp_path / "work" / row.id / f"deed-{at}").exists())
        kill(server)
    workers = [int(pid) for _, _, pid in effects_of(effects, "began")]
    eventually(lambda: all(map(is_gone, workers)))  # worker processes do not outlive their server
    (tmp_path / "slow").unlink(missing_ok=True)
    rescuer(lease_s=3600)  # on the same machine a dead server is noticed before its lease is over
    ended = end_of(engine, row)
    assert (ended.status_code, ended.attempt) == (200, 1 if at == "queued" else 2)
    assert [window for *_, window in effects_of(effects, "window")] == ["0", "1"]
    assert {seed for *_, seed in effects_of(effects, "made")} == {str((ended.plan or {})["seed"])}
    (file,) = stored_files(engine, row)
    assert [blob.key for blob in blobs.list()] == [file.blob]
    assert read(blobs, file.blob).decode() == " ".join([str((ended.plan or {})["seed"])] * 2)


@on_local_blobs
def test_a_cancelled_request_of_a_killed_server_is_cancelled(
    database_url: str, engine: sa.Engine, rescuer: Callable[..., Server], tmp_path: Path, effects: Path
) -> None:
    (tmp_path / "slow").touch()  # so that the server does not notice the cancellation
    with another_server(database_url, tmp_path) as server:
        row = submit(engine, effects=str(effects))
        eventually(lambda: stored_files(engine, row))
        assert queue.cancel(engine, row.id) == "requested"
        kill(server)
    rescuer()
    assert end_of(engine, row).state == "CANCELLED"


def freeze(process: ForkServerProcess, engine: sa.Engine) -> None:
    """Stops a process while it is not in a transaction, because its locks would stop the other servers too."""
    while True:
        send_signal(process, signal.SIGSTOP)
        eventually(lambda: is_stopped(process.pid))
        if not has_open_transaction(engine):
            return
        send_signal(process, signal.SIGCONT)
        time.sleep(0.01)


def is_stopped(pid: int | None) -> bool:
    """True if no thread of the process runs any more. A thread stops only after the system call that it is in, and that
    call may still take a lock. Only Linux tells; elsewhere the answer is True."""
    return all(stat.read_text().rpartition(") ")[2][0] == "T" for stat in Path(f"/proc/{pid}/task").glob("*/stat"))


def has_open_transaction(engine: sa.Engine) -> bool:
    """True if another process is in a transaction and stays there."""
    if engine.dialect.name == "sqlite":
        raw = sqlite3.connect(engine.url.database or "", timeout=0.3, isolation_level=None)
        try:
            raw.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        finally:
            raw.close()
        return False
    time.sleep(0.05)
    with engine.connect() as connection:
        return bool(
            connection.execute(
                sa.text(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid() AND state <> 'idle'"
                )
            ).scalar()
        )


@each_once
def test_a_server_that_was_declared_dead_changes_nothing_when_it_wakes(
    database_url: str,
    engine: sa.Engine,
    blobs: Blobs,
    rescuer: Callable[..., Server],
    tmp_path: Path,
    effects: Path,
) -> None:
    gate = tmp_path / "gate"
    with another_server(database_url, tmp_path / "one", blobs, lease_s=2.0) as zombie:
        row = submit(engine, windows=2, at=1, do="wait", gate=str(gate), effects=str(effects))
        eventually(lambda: effects_of(effects, "window"))
        freeze(zombie, engine)
        gate.touch()
        other = rescuer(tmp_path / "two", lease_s=1.0)
        ended = end_of(engine, row)
        assert (ended.status_code, ended.attempt) == (200, 2)
        # The frozen server's worker process goes on to the end.
        eventually(lambda: len(effects_of(effects, "made")) == 2)
        lines = queue.log_lines(engine, row.id)
        other.stop()
        send_signal(zombie, signal.SIGCONT)
        later = submit(engine, effects=str(effects))
        assert end_of(engine, later).status_code == 200  # it claims again, with the same worker process
        assert len({pid for *_, pid in effects_of(effects, "began")}) == 2
        assert current(engine, row) == ended
        assert queue.log_lines(engine, row.id) == lines
        (file,) = stored_files(engine, row)
        assert [blob.key for blob in blobs.list() if blob.key.endswith(file.key)] == [file.blob]
        eventually(lambda: not (tmp_path / "one" / "work" / row.id).exists())


@on_local_blobs
def test_a_server_that_wakes_stops_the_work_on_a_lost_request(
    database_url: str, engine: sa.Engine, rescuer: Callable[..., Server], tmp_path: Path, effects: Path
) -> None:
    with another_server(database_url, tmp_path / "one", lease_s=2.0) as zombie:
        row = submit(engine, at=0, do="hang", effects=str(effects))
        eventually(lambda: (tmp_path / "one" / "work" / row.id / "deed-0").exists())
        ((*_, pid),) = effects_of(effects, "began")
        freeze(zombie, engine)
        rescuer(tmp_path / "two", lease_s=1.0)
        eventually(lambda: current(engine, row).attempt == 2)
        send_signal(zombie, signal.SIGCONT)
        eventually(lambda: is_gone(int(pid)))
        assert current(engine, row).state == "IN_PROGRESS"


def test_two_servers_share_a_queue(database_url: str, engine: sa.Engine, tmp_path: Path, effects: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        (folder / "slow").touch()  # each server holds its first request until both have one
    with another_server(database_url, folders[0]), another_server(database_url, folders[1]):
        rows = [submit(engine, effects=str(effects)) for _ in range(12)]
        eventually(lambda: len({current(engine, row).server for row in rows} - {None}) == 2)
        for folder in folders:
            (folder / "slow").unlink()
        for row in rows:
            assert end_of(engine, row).status_code == 200
    assert sorted(name for _, name, _ in effects_of(effects, "made")) == sorted(row.id for row in rows)


def test_one_of_three_servers_hangs_and_comes_back(
    database_url: str, engine: sa.Engine, tmp_path: Path, effects: Path
) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    with (
        another_server(database_url, one, lease_s=5.0) as hanging,
        another_server(database_url, two, lease_s=5.0),
        another_server(database_url, three, lease_s=5.0),
    ):
        rows = [submit(engine, effects=str(effects)) for _ in range(12)]
        eventually(lambda: effects_of(effects, "made"))
        freeze(hanging, engine)
        rows += [submit(engine, effects=str(effects)) for _ in range(6)]
        assert {end_of(engine, row).status_code for row in rows} == {200}
        send_signal(hanging, signal.SIGCONT)
        rows += [submit(engine, effects=str(effects)) for _ in range(6)]
        assert {end_of(engine, row).status_code for row in rows} == {200}
        assert {current(engine, row).attempt for row in rows} <= {1, 2}
        assert [len(stored_files(engine, row)) for row in rows] == [1] * len(rows)


def test_a_terminated_server_finishes_its_running_request(
    database_url: str, engine: sa.Engine, tmp_path: Path, effects: Path
) -> None:
    gate = tmp_path / "gate"
    with another_server(database_url, tmp_path, drain_s=PATIENCE_S) as server:
        body: dict[str, Any] = {"windows": 2, "at": 1, "do": "wait", "gate": str(gate), "effects": str(effects)}
        row, waiting = (submit(engine, **body) for _ in range(2))
        eventually(lambda: effects_of(effects, "window"))
        server.terminate()
        threading.Timer(0.5, gate.touch).start()  # by then the server drains
        server.join(PATIENCE_S)
        assert server.exitcode == 0
    assert (current(engine, row).status_code, current(engine, waiting).state) == (200, "IN_QUEUE")
