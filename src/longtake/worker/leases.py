"""Who is alive: each server that works beats in the database, and every server watches the beats of all.

A dead worker's requests go back to the queue. No clock is compared with another's: a worker is dead when its count of
beats has stood still for `lease_s` of the watcher's own monotonic clock, or when it ran on this very machine and its
process is gone.
"""

import logging
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from longtake.database.connection import is_temporary, reading
from longtake.database.tables import servers
from longtake.queue import engine as queue
from longtake.queue import requests
from longtake.settings import Settings
from longtake.worker.outcomes import LATE, lost

log = logging.getLogger(__name__)

BEATS = 5
"""In the time of one lease."""

WATCH_S = 0.5


class Lease:
    """This process's row among the workers, kept alive by a thread."""

    def __init__(self, engine: sa.Engine, lease_s: float) -> None:
        self._engine = engine
        self._beat_s = lease_s / BEATS
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self.worker: str | None = None
        """The id of the row; None until there is one. Another one after others have taken this process for dead."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the lease: what is still claimed under it goes back to the queue."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.delete(servers).where(servers.c.id == self.worker))
        except Exception as error:
            if not is_temporary(error):
                raise
        self.worker = None

    def _run(self) -> None:
        while True:
            try:
                self.beat()
            except Exception as error:
                log.warning("The lease could not be renewed: %s", str(error).partition("\n")[0])
            if self._ending.wait(self._beat_s):
                return

    def beat(self) -> None:
        """One beat; a new row where there is none."""
        with self._engine.begin() as connection:
            alive = connection.execute(
                sa.update(servers)
                .where(servers.c.id == self.worker)
                .values(beats=servers.c.beats + 1, beat_at=time.time())
            )
            if alive.rowcount:
                return
            worker = str(uuid.uuid4())
            pid = os.getpid()
            connection.execute(
                sa.insert(servers).values(
                    id=worker,
                    host=socket.gethostname(),
                    pid=pid,
                    boot=boot(),
                    born=born(pid) or 0,
                    beats=0,
                    beat_at=time.time(),
                )
            )
        if self.worker is not None:
            log.warning("This server was taken for dead; what it worked on is given to others.")
        self.worker = worker


def boot() -> str:
    """This boot of this machine and this space of process ids; empty where the system does not tell."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def born(pid: int) -> int | None:
    """When a process of this machine started, in the kernel's ticks; None where there is none (or it is a zombie)."""
    try:
        _, _, rest = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")
    except OSError:
        return None
    state, *fields = rest.split()
    return None if state in (b"Z", b"X") else int(fields[18])


class Sightings:
    """What one watcher has seen of the workers' beats."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._seen: dict[str, tuple[int, float]] = {}
        self._looked_at = float("-inf")

    def dead(self, rows: Sequence[Any], now: float) -> list[Any]:
        """Of these rows those whose beats have stood still for a lease, by this watcher's monotonic time `now`.

        A watcher that has not looked for long (it was stopped, or the database was away) begins anew: it cannot say
        whether the workers had a chance to beat."""
        if now - self._looked_at > self._lease_s / 2:
            self._seen = {}
        self._looked_at = now
        before, self._seen = self._seen, {}
        for row in rows:
            beats, since = before.get(row.id, (None, now))
            self._seen[row.id] = (row.beats, since if row.beats == beats else now)
        return [row for row in rows if now - self._seen[row.id][1] >= self._lease_s]


class Watch:
    """The thread that gives back what dead workers had, and ends what was not started in time.

    Every server has one. `on_change(request_id)` after each change; `wake(pool)` after a request went back.
    """

    def __init__(
        self,
        engine: sa.Engine,
        settings: Settings,
        on_change: Callable[[str], None],
        wake: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._on_change = on_change
        self._wake = wake
        self._sightings = Sightings(settings.lease_s)
        self._host, self._boot = socket.gethostname(), boot()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except Exception as error:
                log.warning("The workers could not be watched: %s", str(error).partition("\n")[0])
            if self._ending.wait(min(WATCH_S, self._settings.lease_s / 2 / BEATS)):
                return

    def look(self) -> None:
        """One round."""
        with reading(self._engine) as connection:
            rows = connection.execute(sa.select(servers)).all()
        silent = self._sightings.dead(rows, time.monotonic())
        for row in {row.id: row for row in (*silent, *filter(self._gone, rows))}.values():
            self._bury(row)
        for orphan in queue.orphans(self._engine):
            self._recover(orphan)
        for request_id in queue.expire(self._engine, LATE):
            self._on_change(request_id)

    def _gone(self, row: Any) -> bool:
        here = bool(self._boot) and (row.host, row.boot) == (self._host, self._boot)
        return here and born(row.pid) != row.born

    def _bury(self, row: Any) -> None:
        """Removes the row of a dead worker, unless it has just beaten."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(servers).where(servers.c.id == row.id, servers.c.beats == row.beats))
        log.warning("A worker on %s (process %d) is dead.", row.host, row.pid)

    def _recover(self, row: requests.RequestRow) -> None:
        if row.cancel_at is None and spent(row, self._settings):
            changed = queue.finish(self._engine, row, lost(row.attempt))
        else:
            changed = queue.return_to_queue(self._engine, row, attempt_failed=True)
        if not changed:
            return
        log.warning("Request %s lost its worker in attempt %d.", row.id, row.attempt)
        self._on_change(row.id)
        self._wake(row.pool)
        now = queue.get(self._engine, row.id)
        if now is not None and now.has_ended:
            shutil.rmtree(work_folder(self._settings, row.id), ignore_errors=True)


def spent(row: requests.RequestRow, settings: Settings) -> bool:
    """Whether a request whose worker died is not tried again."""
    return row.attempt >= settings.max_attempts or not row.may_retry


def work_folder(settings: Settings, request_id: str) -> Path:
    """Where the worker process keeps what it has of a request."""
    return settings.data_dir / "work" / request_id
