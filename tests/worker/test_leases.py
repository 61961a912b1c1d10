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
from longtake.queue import engine as queue
from longtake.queue.requests import RequestRow
from longtake.settings import settings
from longtake.worker.leases import Lease, Sightings, Watch, boot, born
from tests.database.fixtures import Postgres
from tests.worker.help import asked, current, eventually, submit
from tests.worker.server import QUICK

Beat = namedtuple("Beat", "id beats")


def test_a_worker_is_dead_when_its_beats_stand_still_for_a_lease() -> None:
    seen = Sightings(lease_s=10)
    assert seen.dead([Beat("a", 5)], 100.0) == []
    assert seen.dead([Beat("a", 5)], 105.0) == []
    assert seen.dead([Beat("a", 6)], 109.0) == []
    assert seen.dead([Beat("a", 6)], 114.0) == []
    assert seen.dead([Beat("a", 6)], 118.9) == []
    assert seen.dead([Beat("a", 6), Beat("b", 0)], 119.0) == [Beat("a", 6)]


def test_a_watcher_that_could_not_look_begins_anew() -> None:
    """It was stopped, or the database was away: nobody could beat, or none of it was seen."""
    seen = Sightings(lease_s=10)
    seen.dead([Beat("a", 5)], 100.0)
    assert seen.dead([Beat("a", 5)], 200.0) == []
    assert seen.dead([Beat("a", 5)], 205.0) == []
    assert seen.dead([Beat("a", 5)], 210.0) == [Beat("a", 5)]


def test_born_tells_processes_apart() -> None:
    assert born(os.getpid()) == born(os.getpid())
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert born(process.pid) not in (None, born(os.getpid()))
    process.kill()
    eventually(lambda: born(process.pid) is None)  # a zombie by now
    process.communicate()
    assert born(process.pid) is None


def worker_rows(engine: sa.Engine) -> dict[str, Any]:
    with engine.connect() as connection:
        return {row.id: row for row in connection.execute(sa.select(servers))}


def add_worker(engine: sa.Engine, name: str, **facts: Any) -> None:
    values = {"host": "elsewhere", "pid": 1, "boot": "x", "born": 1, "beats": 0, "beat_at": time.time()}
    with engine.begin() as connection:
        connection.execute(sa.insert(servers).values(id=name, **values | facts))


def watch(engine: sa.Engine, tmp_path: Path, **overrides: Any) -> tuple[Watch, list[str], list[str]]:
    changed: list[str] = []
    woken: list[str] = []
    asked = settings(**QUICK | {"data_dir": tmp_path} | overrides)
    return Watch(engine, asked, changed.append, woken.append), changed, woken


def looking(watch: Watch, until: Callable[[], Any], within_s: float = 5.0) -> None:
    """Looks, as its thread would, until something is so."""

    def look() -> Any:
        watch.look()
        return until()

    eventually(look, within_s)


def taken_by(engine: sa.Engine, worker: str, **more: Any) -> RequestRow:
    queue.submit(engine, replace(asked(), **more))
    row = queue.claim(engine, "default", worker)
    assert row is not None
    return row


def test_a_lease_beats_and_ends(engine: sa.Engine) -> None:
    lease = Lease(engine, lease_s=0.25)
    assert lease.worker is None
    lease.start()
    worker = eventually(lambda: lease.worker)
    row = worker_rows(engine)[worker]
    assert (row.host, row.pid, row.boot, row.born) == (socket.gethostname(), os.getpid(), boot(), born(os.getpid()))
    eventually(lambda: worker_rows(engine)[worker].beats >= 3)
    lease.stop()
    assert worker_rows(engine) == {}


def test_a_server_taken_for_dead_goes_on_under_another_name(engine: sa.Engine) -> None:
    lease = Lease(engine, lease_s=0.25)
    lease.start()
    before = eventually(lambda: lease.worker)
    with engine.begin() as connection:
        connection.execute(sa.delete(servers))
    eventually(lambda: lease.worker not in (None, before))
    assert set(worker_rows(engine)) == {lease.worker}
    lease.stop()


def test_the_silent_are_buried_and_the_beating_live(engine: sa.Engine, tmp_path: Path) -> None:
    add_worker(engine, "silent")
    lost = taken_by(engine, "silent")
    lease = Lease(engine, lease_s=0.5)
    lease.start()
    alive = eventually(lambda: lease.worker)
    kept = taken_by(engine, alive)
    watcher, changed, woken = watch(engine, tmp_path, lease_s=0.5)
    started = time.monotonic()
    looking(watcher, lambda: current(engine, lost).state == "IN_QUEUE")
    assert time.monotonic() - started >= 0.5
    assert (changed, woken) == ([lost.id], ["default"])
    assert set(worker_rows(engine)) == {alive}
    assert current(engine, kept).worker == alive
    assert current(engine, lost).attempt == 1
    lease.stop()


@pytest.mark.parametrize("beat_at", [0.0, 4e9, -1e12])
def test_clocks_that_jump_change_nothing(engine: sa.Engine, tmp_path: Path, beat_at: float) -> None:
    """Whatever times stand in the rows: only that the count of beats changes keeps a worker alive."""
    add_worker(engine, "silent", beat_at=beat_at)
    add_worker(engine, "alive", beat_at=beat_at)
    lost, kept = taken_by(engine, "silent"), taken_by(engine, "alive")
    with engine.begin() as connection:
        connection.execute(sa.update(rows_of_requests).values(created_at=beat_at, started_at=beat_at))
    watcher, *_ = watch(engine, tmp_path, lease_s=0.3)

    def beat_and_look() -> bool:
        with engine.begin() as connection:
            connection.execute(sa.update(servers).where(servers.c.id == "alive").values(beats=servers.c.beats + 1))
        watcher.look()
        return current(engine, lost).state == "IN_QUEUE"

    eventually(beat_and_look)
    assert current(engine, kept).state == "IN_PROGRESS"
    assert set(worker_rows(engine)) == {"alive"}


@pytest.mark.skipif(not boot(), reason="this system does not tell its boot id")
@pytest.mark.parametrize("reused", [False, True], ids=["gone", "id given to another process"])
def test_a_process_of_this_machine_that_is_gone_is_dead_at_once(
    engine: sa.Engine, tmp_path: Path, reused: bool
) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    pid = os.getpid() if reused else gone.pid
    add_worker(engine, "gone", host=socket.gethostname(), boot=boot(), pid=pid, born=1)
    lost = taken_by(engine, "gone")
    watcher, *_ = watch(engine, tmp_path, lease_s=3600)
    watcher.look()
    assert current(engine, lost).state == "IN_QUEUE"


def test_process_ids_of_another_machine_or_boot_tell_nothing(engine: sa.Engine, tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    add_worker(engine, "elsewhere", host="elsewhere", boot=boot(), pid=gone.pid)
    add_worker(engine, "before", host=socket.gethostname(), boot="of before", pid=gone.pid)
    watcher, *_ = watch(engine, tmp_path, lease_s=3600)
    watcher.look()
    assert set(worker_rows(engine)) == {"elsewhere", "before"}


def test_what_becomes_of_the_requests_of_the_dead(engine: sa.Engine, tmp_path: Path) -> None:
    again, unwanted = taken_by(engine, "dead"), taken_by(engine, "dead")
    no_retry = taken_by(engine, "dead", may_retry=False)
    assert queue.cancel(engine, unwanted.id) == "requested"
    folder = tmp_path / "work" / unwanted.id
    folder.mkdir(parents=True)
    watcher, changed, _ = watch(engine, tmp_path, max_attempts=2)
    watcher.look()
    assert current(engine, again).state == "IN_QUEUE"
    assert current(engine, unwanted).state == "CANCELLED"
    assert not folder.exists()
    ended = current(engine, no_retry)
    assert (ended.state, ended.status_code, ended.error_type) == ("COMPLETED", 500, "runner_server_error")
    assert sorted(changed) == sorted([again.id, unwanted.id, no_retry.id])
    queue.claim(engine, "default", "dead too")
    watcher.look()
    ended = current(engine, again)
    assert (ended.state, ended.error) == ("COMPLETED", "The worker died while it worked on this request, 2 times.")


def test_what_is_not_started_in_time_is_told(engine: sa.Engine, tmp_path: Path) -> None:
    row, _ = queue.submit(engine, replace(asked(), start_timeout_s=0.2))
    watcher, changed, _ = watch(engine, tmp_path)
    watcher.start()
    eventually(lambda: changed == [row.id])
    watcher.stop()
    ended = current(engine, row)
    assert (ended.status_code, ended.error_type) == (504, "request_timeout")
    assert ended.headers is not None
    assert ended.headers["x-fal-request-timeout-type"] == "user"


def test_of_two_watchers_one_gives_back(engine: sa.Engine, tmp_path: Path) -> None:
    for _ in range(5):
        submit(engine)
        queue.claim(engine, "default", "dead")
    both = [watch(engine, tmp_path) for _ in range(2)]
    threads = [threading.Thread(target=watcher.look) for watcher, *_ in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    changed = [one for _, changed, _ in both for one in changed]
    assert len(changed) == len(set(changed)) == 5


def test_a_server_stopped_inside_a_transaction_does_not_hold_the_others_up(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of SQLite, where such a server stops all that use the file, one cannot say the same."""
    monkeypatch.setattr(database, "IDLE_MS", 500)
    url = postgres.create("stopped", "migrated")
    engine, of_the_stopped = database.connect(url), database.connect(url)
    add_worker(engine, "stopped")
    lost = taken_by(engine, "stopped")
    with of_the_stopped.connect() as connection:
        connection.execute(sa.update(servers).values(beats=servers.c.beats))
        connection.execute(sa.update(rows_of_requests).values(plan={"seed": 1}))  # and it is never heard of again
        watcher, *_ = watch(engine, tmp_path, lease_s=0.3)
        looking(watcher, lambda: current(engine, lost).state == "IN_QUEUE")
        with pytest.raises(sa.exc.DBAPIError, match="idle-in-transaction"):
            connection.commit()
    assert current(engine, lost).plan is None
    engine.dispose()
    of_the_stopped.dispose()
