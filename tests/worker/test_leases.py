import errno
import os
import socket
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from longtake.database import connection as database
from longtake.database.tables import requests as rows_of_requests
from longtake.database.tables import servers
from longtake.processes import born
from longtake.queue import engine as queue
from longtake.queue.requests import RequestRow
from longtake.settings import settings
from longtake.system import boot_id, start_ticks
from longtake.worker import leases
from longtake.worker.leases import Heartbeats, Lease, LeaseWatch
from tests.database.fixtures import Postgres
from tests.worker.requests import current, eventually, submission, submit
from tests.worker.server import QUICK

Beat = namedtuple("Beat", "id beats")


def test_a_server_is_dead_when_its_heartbeats_stop_for_a_lease() -> None:
    seen = Heartbeats(lease_s=10)
    assert seen.expired([Beat("a", 5)], 100.0) == []
    assert seen.expired([Beat("a", 5)], 105.0) == []
    assert seen.expired([Beat("a", 6)], 109.0) == []
    assert seen.expired([Beat("a", 6)], 114.0) == []
    assert seen.expired([Beat("a", 6)], 118.9) == []
    assert seen.expired([Beat("a", 6), Beat("b", 0)], 119.0) == [Beat("a", 6)]


def test_a_watcher_that_could_not_look_starts_over() -> None:
    """It was stopped or the database was unreachable: the servers could not beat, or their beats were not seen."""
    seen = Heartbeats(lease_s=10)
    seen.expired([Beat("a", 5)], 100.0)
    assert seen.expired([Beat("a", 5)], 200.0) == []
    assert seen.expired([Beat("a", 5)], 205.0) == []
    assert seen.expired([Beat("a", 5)], 210.0) == [Beat("a", 5)]


def test_start_ticks_tell_processes_apart() -> None:
    assert start_ticks(os.getpid()) == start_ticks(os.getpid())
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert start_ticks(process.pid) not in (None, start_ticks(os.getpid()))
    process.kill()
    eventually(lambda: start_ticks(process.pid) is None)  # it is a zombie now
    process.communicate()
    assert start_ticks(process.pid) is None


def server_rows(engine: sa.Engine) -> dict[str, Any]:
    with engine.connect() as connection:
        return {row.id: row for row in connection.execute(sa.select(servers))}


def add_server(engine: sa.Engine, name: str, **facts: Any) -> None:
    values = {"host": "elsewhere", "pid": 1, "boot": "x", "born": 1, "beats": 0, "beat_at": time.time()}
    with engine.begin() as connection:
        connection.execute(sa.insert(servers).values(id=name, **values | facts))


def watch(engine: sa.Engine, tmp_path: Path, **overrides: Any) -> tuple[LeaseWatch, list[str], list[str]]:
    changed: list[str] = []
    woken: list[str] = []
    chosen = settings(**QUICK | {"data_dir": tmp_path} | overrides)
    return LeaseWatch(engine, chosen, changed.append, woken.append), changed, woken


def check_until(watch: LeaseWatch, condition: Callable[[], Any]) -> None:
    """Checks the leases, as the watch's thread would, until the condition is true."""

    def check() -> Any:
        watch.check()
        return condition()

    eventually(check)


def claimed_by(engine: sa.Engine, server: str, **more: Any) -> RequestRow:
    queue.submit(engine, replace(submission(), **more))
    row = queue.claim(engine, "default", server)
    assert row is not None
    return row


def test_a_lease_beats_and_ends(engine: sa.Engine) -> None:
    lease = Lease(engine, lease_s=0.25)
    assert lease.server_id is None
    lease.start()
    server = eventually(lambda: lease.server_id)
    row = server_rows(engine)[server]
    assert (row.host, row.pid, row.boot, row.born) == (
        socket.gethostname(),
        os.getpid(),
        boot_id(),
        start_ticks(os.getpid()),
    )
    eventually(lambda: server_rows(engine)[server].beats >= 3)
    lease.stop()
    assert server_rows(engine) == {}


def test_a_server_that_was_declared_dead_goes_on_with_a_new_lease(engine: sa.Engine) -> None:
    lease = Lease(engine, lease_s=0.25)
    lease.start()
    before = eventually(lambda: lease.server_id)
    with engine.begin() as connection:
        connection.execute(sa.delete(servers))
    eventually(lambda: lease.server_id not in (None, before))
    assert set(server_rows(engine)) == {lease.server_id}
    lease.stop()


def test_the_requests_of_silent_servers_go_back_and_those_of_beating_ones_stay(
    engine: sa.Engine, tmp_path: Path
) -> None:
    add_server(engine, "silent")
    lost = claimed_by(engine, "silent")
    lease = Lease(engine, lease_s=1.0)
    lease.start()
    alive = eventually(lambda: lease.server_id)
    held = claimed_by(engine, alive)
    watcher, changed, woken = watch(engine, tmp_path, lease_s=1.0)
    started = time.monotonic()
    check_until(watcher, lambda: current(engine, lost).state == "IN_QUEUE")
    assert time.monotonic() - started >= 1.0
    assert (changed, woken) == ([lost.id], ["default"])
    assert set(server_rows(engine)) == {alive}
    assert current(engine, held).server == alive
    assert current(engine, lost).attempt == 1
    lease.stop()


def test_jumping_clocks_change_nothing(engine: sa.Engine, tmp_path: Path) -> None:
    """The times in the rows do not matter: a server lives as long as its count of heartbeats changes."""
    clocks = (0.0, 4e9, -1e12)
    lost, held = [], []
    for number, beat_at in enumerate(clocks):
        add_server(engine, f"silent {number}", beat_at=beat_at)
        add_server(engine, f"alive {number}", beat_at=beat_at)
        lost.append(claimed_by(engine, f"silent {number}"))
        held.append(claimed_by(engine, f"alive {number}"))
        with engine.begin() as connection:
            of_the_clock = rows_of_requests.c.id.in_([lost[-1].id, held[-1].id])
            at = {"created_at": beat_at, "started_at": beat_at}
            connection.execute(sa.update(rows_of_requests).where(of_the_clock).values(at))
    watcher, *_ = watch(engine, tmp_path, lease_s=1.0)

    def beat_and_check() -> bool:
        with engine.begin() as connection:
            connection.execute(sa.update(servers).where(servers.c.id.like("alive%")).values(beats=servers.c.beats + 1))
        watcher.check()
        return all(current(engine, row).state == "IN_QUEUE" for row in lost)

    eventually(beat_and_check)
    assert {current(engine, row).state for row in held} == {"IN_PROGRESS"}
    assert set(server_rows(engine)) == {f"alive {number}" for number in range(len(clocks))}


@pytest.mark.skipif(not boot_id(), reason="this system has no boot id")
@pytest.mark.parametrize("reused", [False, True], ids=["gone", "id given to another process"])
def test_a_server_whose_process_on_this_machine_is_gone_is_dead_at_once(
    engine: sa.Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture, reused: bool
) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    pid = os.getpid() if reused else gone.pid
    add_server(engine, "gone", host=socket.gethostname(), boot=boot_id(), pid=pid, born=1)
    lost = claimed_by(engine, "gone")
    watcher, *_ = watch(engine, tmp_path, lease_s=3600)
    watcher.check()
    assert current(engine, lost).state == "IN_QUEUE"
    assert "is dead" in caplog.text


@pytest.mark.skipif(not boot_id(), reason="this system has no boot id")
def test_a_server_whose_row_changes_before_it_is_removed_is_not_dead(
    engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its heartbeat is counted after the watcher has read the leases and before it deletes the dead ones."""
    add_server(engine, "late", host=socket.gethostname(), boot=boot_id())
    held = claimed_by(engine, "late")

    def beat(*_: int) -> bool:
        with engine.begin() as connection:
            connection.execute(sa.update(servers).values(beats=servers.c.beats + 1))
        return True

    monkeypatch.setattr(leases, "has_ended", beat)
    watcher, *_ = watch(engine, tmp_path, lease_s=3600)
    watcher.check()
    assert set(server_rows(engine)) == {"late"}
    assert current(engine, held).state == "IN_PROGRESS"
    assert "is dead" not in caplog.text


@pytest.mark.skipif(not boot_id(), reason="this system has no boot id")
def test_a_watcher_without_free_descriptors_calls_no_server_dead(
    engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starve(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    add_server(engine, "alive", host=socket.gethostname(), boot=boot_id(), pid=os.getpid(), born=born(os.getpid()))
    held = claimed_by(engine, "alive")
    watcher, *_ = watch(engine, tmp_path, lease_s=3600)
    monkeypatch.setattr("longtake.processes.start_ticks", starve)
    watcher.check()
    assert set(server_rows(engine)) == {"alive"}
    assert current(engine, held).state == "IN_PROGRESS"


def test_process_ids_of_another_machine_or_boot_are_ignored(engine: sa.Engine, tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    add_server(engine, "elsewhere", host="elsewhere", boot=boot_id(), pid=gone.pid)
    add_server(engine, "before", host=socket.gethostname(), boot="of before", pid=gone.pid)
    watcher, *_ = watch(engine, tmp_path, lease_s=3600)
    watcher.check()
    assert set(server_rows(engine)) == {"elsewhere", "before"}


def test_a_dead_server_s_requests_are_tried_again_cancelled_or_ended(engine: sa.Engine, tmp_path: Path) -> None:
    again, unwanted = claimed_by(engine, "dead"), claimed_by(engine, "dead")
    no_retry = claimed_by(engine, "dead", may_retry=False)
    assert queue.cancel(engine, unwanted.id) == "requested"
    folder = tmp_path / "work" / unwanted.id
    folder.mkdir(parents=True)
    watcher, changed, _ = watch(engine, tmp_path, max_attempts=2)
    watcher.check()
    assert current(engine, again).state == "IN_QUEUE"
    assert current(engine, unwanted).state == "CANCELLED"
    assert not folder.exists()
    ended = current(engine, no_retry)
    assert (ended.state, ended.status_code, ended.error_type) == ("COMPLETED", 500, "runner_server_error")
    assert sorted(changed) == sorted([again.id, unwanted.id, no_retry.id])
    queue.claim(engine, "default", "dead too")
    watcher.check()
    ended = current(engine, again)
    assert (ended.state, ended.error) == ("COMPLETED", "The worker died while it worked on this request, 2 times.")


def test_a_request_that_is_not_started_in_time_ends(engine: sa.Engine, tmp_path: Path) -> None:
    row, _ = queue.submit(engine, replace(submission(), start_timeout_s=0.2))
    watcher, changed, _ = watch(engine, tmp_path)
    watcher.start()
    eventually(lambda: changed == [row.id])
    watcher.stop()
    ended = current(engine, row)
    assert (ended.status_code, ended.error_type) == (504, "request_timeout")
    assert ended.headers is not None
    assert ended.headers["x-fal-request-timeout-type"] == "user"


def test_only_one_of_two_watchers_returns_a_request(engine: sa.Engine, tmp_path: Path) -> None:
    for _ in range(5):
        submit(engine)
        queue.claim(engine, "default", "dead")
    both = [watch(engine, tmp_path) for _ in range(2)]
    threads = [threading.Thread(target=watcher.check) for watcher, *_ in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    changed = [one for _, changed, _ in both for one in changed]
    assert len(changed) == len(set(changed)) == 5


def test_a_server_frozen_inside_a_transaction_does_not_block_the_others(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On PostgreSQL only: a process that holds SQLite's write lock does block all others."""
    monkeypatch.setattr(database, "IDLE_MS", 500)
    url = postgres.create("frozen", "migrated")
    engine, of_the_frozen = database.connect(url), database.connect(url)
    add_server(engine, "frozen")
    lost = claimed_by(engine, "frozen")
    with of_the_frozen.connect() as connection:
        connection.execute(sa.update(servers).values(beats=servers.c.beats))
        connection.execute(sa.update(rows_of_requests).values(plan={"seed": 1}))  # and the transaction stays open
        watcher, *_ = watch(engine, tmp_path, lease_s=1.0)
        check_until(watcher, lambda: current(engine, lost).state == "IN_QUEUE")
        with pytest.raises(sa.exc.DBAPIError, match="idle-in-transaction"):
            connection.commit()
    assert current(engine, lost).plan is None
    engine.dispose()
    of_the_frozen.dispose()
