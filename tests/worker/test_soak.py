"""Many requests while servers and worker processes are killed at random: none is lost, none has two outcomes.

python -m pytest tests/worker/test_soak.py -m soak
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake.database.connection import connect, file_url, reading, retry_until_stopped
from longtake.database.migrate import migrate
from longtake.queue import engine as queue
from longtake.queue.requests import RequestRow, Submission
from longtake.settings import settings
from longtake.storage.local import LocalBlobs
from longtake.system import start_ticks
from tests.processes import send_signal
from tests.worker.requests import PATIENCE_S, another_server, effects_of, end_of, eventually, submission, whole_row
from tests.worker.server import QUICK, Server
from tests.worker.troubles import filled, froze, restarted, small_disk, troubled


@dataclass
class Killer:
    """Kills servers and worker processes at random moments, and starts new servers."""

    url: str
    folder: Path
    effects: Path
    chance: random.Random
    every_s: float
    ending: threading.Event = field(default_factory=threading.Event)
    killed: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        while not self.ending.is_set():
            with another_server(self.url, self.folder, slots=("cpu", "cpu"), max_attempts=1000) as server:
                lifetime = self.chance.uniform(1, 4) * self.every_s
                until = time.monotonic() + lifetime
                while time.monotonic() < until and not self.ending.wait(self.every_s * self.chance.random()):
                    self.kill_worker()
                self.end(server)

    def kill_worker(self) -> None:
        alive = [pid for pid in set(workers(self.effects)) if start_ticks(pid) is not None]
        if alive:
            with suppress(ProcessLookupError):
                os.kill(self.chance.choice(alive), signal.SIGKILL)
                self.killed["worker"] += 1

    def end(self, server: ForkServerProcess) -> None:
        how = signal.SIGTERM if self.killed["SIGKILL"] and self.chance.random() < 0.3 else signal.SIGKILL
        send_signal(server, how)
        self.killed[how.name] += 1
        server.join(PATIENCE_S)
        assert server.exitcode is not None


def soak(engine: sa.Engine, url: str, folder: Path, number: int, within_s: float, every_s: float) -> str:
    """Submits `number` requests, has them carried out while two killers are at work, and counts the outcomes."""
    chance = random.Random(number)
    effects = folder / "effects"
    killers = [Killer(url, folder, effects, random.Random(seed), every_s) for seed in range(2)]
    threads = [threading.Thread(target=killer.run) for killer in killers]
    for thread in threads:
        thread.start()
    rows: list[RequestRow] = []
    cancelled: set[str] = set()
    started = time.monotonic()
    try:
        for i in range(number):
            windows, window_s = chance.randint(1, 4), chance.choice([0.0, 0.02, 0.06])
            body = submission(effects=str(effects), i=i, windows=windows, window_s=window_s)
            rows.append(queue.submit(engine, body)[0])
            if chance.random() < 0.05:
                unwanted = chance.choice(rows).id
                if queue.cancel(engine, unwanted) != "ended":
                    cancelled.add(unwanted)
        eventually(lambda: has_killed_both(killers))
        while time.monotonic() - started < within_s and open_requests(engine) > number // 5:
            time.sleep(0.2)
    finally:
        for killer in killers:
            killer.ending.set()
        for thread in threads:
            thread.join()
    last = Server(engine, settings(**QUICK | {"data_dir": folder, "slots": ("cpu", "cpu"), "max_attempts": 1000}))
    last.start()
    eventually(lambda: open_requests(engine) == 0, within_s + PATIENCE_S)
    last.stop()
    return count(engine, folder, rows, cancelled, killers, time.monotonic() - started)


def has_killed_both(killers: list[Killer]) -> bool:
    """True if at least one server and one worker process were killed."""
    return all(any(killer.killed[kind] for killer in killers) for kind in ("worker", "SIGKILL"))


def open_requests(engine: sa.Engine) -> int:
    table = sa.table("requests", sa.column("state"))
    with engine.connect().execution_options(reads_only=True) as connection:
        return connection.execute(
            sa.select(sa.func.count()).select_from(table).where(table.c.state.in_(("IN_QUEUE", "IN_PROGRESS")))
        ).scalar_one()


def count(
    engine: sa.Engine, folder: Path, rows: list[RequestRow], cancelled: set[str], killers: list[Killer], seconds: float
) -> str:
    effects = folder / "effects"
    ended = {row.id: whole_row(engine, row.id) for row in rows}
    made = Counter(name for _, name, _ in effects_of(effects, "made"))
    windows = Counter((name, window) for _, name, window in effects_of(effects, "window"))
    seeds: dict[str, set[str]] = {}
    for _, name, seed in effects_of(effects, "made"):
        seeds.setdefault(name, set()).add(seed)
    killed: Counter[str] = sum((killer.killed for killer in killers), Counter())
    completed = [row for row in ended.values() if row is not None and row.state == "COMPLETED"]
    again = [row for row in completed if row.attempt > 1]
    result = (
        f"{len(rows)} requests in {seconds:.0f} s under {dict(killed)}: {len(completed)} completed, of them"
        f" {len(again)} after more than one attempt, {len(ended) - len(completed)} cancelled;"
        f" made again after the result was made: {sum(made.values()) - len(made)},"
        f" windows made again: {sum(windows.values()) - len(windows)}"
    )
    assert all(row is not None and row.has_ended for row in ended.values()), result
    assert all(row.status_code == 200 and made[row.id] for row in completed), result  # none is lost
    assert {row.id for row in ended.values() if row and row.state == "CANCELLED"} <= cancelled, result
    assert all(len(of_one) == 1 for of_one in seeds.values()), result  # a result that was made twice is the same
    assert len(list(LocalBlobs(folder / "files").list())) >= len(completed), result
    assert killed["worker"], result
    assert killed["SIGKILL"], result
    return result


def test_no_request_is_lost_while_servers_are_killed(database_url: str, engine: sa.Engine, tmp_path: Path) -> None:
    print(soak(engine, database_url, tmp_path, number=40, within_s=8, every_s=0.4))


@pytest.mark.soak
def test_no_request_of_a_thousand_is_lost_while_servers_are_killed(
    database_url: str, engine: sa.Engine, tmp_path: Path
) -> None:
    print(soak(engine, database_url, tmp_path, number=1000, within_s=600, every_s=1.0))


@pytest.mark.soak
def test_no_request_is_lost_while_disks_fill_processes_freeze_and_the_database_restarts(
    request: pytest.FixtureRequest, database_url: str, engine: sa.Engine, tmp_path: Path
) -> None:
    chance = random.Random(7)
    with small_disk(tmp_path) as disk:
        troubles = [filled(disk, chance)]
        if engine.dialect.name == "postgresql":
            troubles.append(restarted(request.getfixturevalue("postgres"), chance))
            url = database_url
        else:
            url = file_url(disk / "queue.db")
            engine = connect(url)
            migrate(engine)
        effects = tmp_path / "effects"
        with ExitStack() as stack:
            servers = [
                stack.enter_context(another_server(url, disk, slots=("cpu", "cpu"), max_attempts=1000, lease_s=2.0))
                for _ in range(2)
            ]
            troubles.append(froze(lambda: [server.pid or 0 for server in servers], chance, longest_s=5.0))
            troubles.append(froze(lambda: workers(effects), chance, longest_s=2.0))
            with troubled(troubles, chance, every_s=1.0) as made:
                rows = []
                for i in range(150):
                    body = submission(effects=str(effects), i=i, windows=2, window_s=0.2)
                    rows.append(retry_until_stopped(partial(submitted, engine, body), threading.Event()))
                    time.sleep(0.2)
            for row in rows:
                ended = end_of(engine, row, within_s=4 * PATIENCE_S)
                assert (ended.state, ended.status_code) == ("COMPLETED", 200)
        print(f"{len(rows)} requests completed under {made} troubles of each kind")
        assert all(made)
        if engine.dialect.name == "sqlite":
            with reading(engine) as connection:
                assert connection.execute(sa.text("PRAGMA integrity_check")).scalar() == "ok"
            engine.dispose()


def workers(effects: Path) -> list[int]:
    """Returns the process ids of the latest worker processes."""
    return [int(pid) for _, _, pid in effects_of(effects, "began")[-6:]]


def submitted(engine: sa.Engine, body: Submission) -> RequestRow:
    """Submits a request, also if an earlier call has stored it but its reply was lost."""
    found = whole_row(engine, body.id)
    return found or queue.submit(engine, body)[0]
