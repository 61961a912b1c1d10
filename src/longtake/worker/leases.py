"""Leases show which servers are alive. Each server renews its own lease in the database and watches all leases.

A lease holds a count of heartbeats. A server is dead if its count has not changed for `lease_s` seconds. The watching
server measures this time with its own monotonic clock, so the clocks of different machines are never compared. A server
whose process ran on the watcher's machine is dead as soon as that process is gone. The requests of a dead server go
back to the queue.
"""

import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from structlog.contextvars import bound_contextvars

from longtake import clock
from longtake.database.connection import is_temporary, reading
from longtake.database.tables import servers
from longtake.periodic import Repeating
from longtake.processes import born, has_ended
from longtake.queue import engine as queue
from longtake.queue import fetches
from longtake.queue.fetches import Fetch
from longtake.queue.requests import RequestRow
from longtake.settings import Settings
from longtake.system import boot_id
from longtake.worker.outcomes import NOT_STARTED_IN_TIME, download_died, worker_died
from longtake.worker.work_folders import remove_work_folder

log = logging.getLogger(__name__)

BEATS_PER_LEASE = 5
"""Heartbeats that a server sends in `lease_s` seconds, so that a few late heartbeats do not end its lease."""

WATCH_EVERY_S = 0.5
"""Longest pause in seconds between two checks of the leases, which show whether servers are alive. With a short
`lease_s` the pause is shorter."""


class Lease:
    """This server's row in the table `servers`, and a thread that adds 1 to the row's count of heartbeats again and
    again.

    `engine`: the engine of the database.
    `lease_s`: the seconds without a change of the count after which other servers declare this server dead and delete
        the row. The thread adds to the count five times (BEATS_PER_LEASE) in this time.
    """

    def __init__(self, engine: sa.Engine, lease_s: float) -> None:
        self.server_id: str | None = None
        """The id of this server's row in the table `servers`.

        None before the first heartbeat and after `stop`. It changes if the row was deleted by others.
        """
        self._engine = engine
        self._beat_s = lease_s / BEATS_PER_LEASE
        self._thread = Repeating(
            "lease", self._renew, failure="The lease was not renewed", is_temporary=is_temporary, retry_s=self._beat_s
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stops the heartbeats and deletes this server's row.

        The requests that this server still holds are then returned to the queue by the other servers.
        """
        self._thread.stop()
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.delete(servers).where(servers.c.id == self.server_id))
        except Exception as error:
            if not is_temporary(error):
                raise
        self.server_id = None

    def beat(self) -> None:
        """Adds 1 to the count of heartbeats in this server's row.

        If the row does not exist, inserts one with a new id and a count of 0.
        """
        with self._engine.begin() as connection:
            renewed = connection.execute(
                sa.update(servers)
                .where(servers.c.id == self.server_id)
                .values(beats=servers.c.beats + 1, beat_at=clock.now())
            )
            if renewed.rowcount:
                return
            server_id, pid = str(uuid.uuid4()), os.getpid()
            connection.execute(
                sa.insert(servers).values(
                    id=server_id,
                    host=socket.gethostname(),
                    pid=pid,
                    boot=boot_id(),
                    born=born(pid),
                    beats=0,
                    beat_at=clock.now(),
                )
            )
        if self.server_id is not None:
            log.warning("Other servers declared this one dead; its requests went back to the queue.")
        self.server_id = server_id

    def _renew(self) -> float:
        self.beat()
        return self._beat_s


class Heartbeats:
    """Finds the servers whose counts of heartbeats have stopped growing.

    Remembers the last count of each server and when that count was first seen.

    `lease_s`: the seconds without a change of its count after which a server counts as dead.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._seen: dict[str, tuple[int, float]] = {}
        self._looked_at = float("-inf")

    def expired(self, rows: Sequence[Any], now: float) -> list[Any]:
        """Returns those rows of the table `servers` whose `beats` have not changed for `lease_s` seconds.

        If more than half of `lease_s` has passed since the last call, returns no rows and starts to time all servers
        anew.

        `rows`: all rows of the table, just read.
        `now`: when the rows were read, in seconds of the monotonic clock.
        """
        # Such a gap means that this process was frozen or the database was unreachable. Living servers may have been
        # unable to store heartbeats.
        if now - self._looked_at > self._lease_s / 2:
            self._seen = {}
        self._looked_at = now
        before, self._seen = self._seen, {}
        for row in rows:
            beats, since = before.get(row.id, (None, now))
            self._seen[row.id] = (row.beats, since if row.beats == beats else now)
        return [row for row in rows if now - self._seen[row.id][1] >= self._lease_s]


class LeaseWatch:
    """A thread that returns the requests of dead servers to the queue, and ends requests that were not started in time.

    Every server runs one.

    `engine`: the engine of the database with the queue and the leases.
    `settings`: has `lease_s` and the maximum number of attempts.
    `on_change`: called with a request's id after the thread has changed the request.
    `wake`: called with the name of a pool (a named group of devices) after a request of the pool was returned or ended.
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
        self._heartbeats = Heartbeats(settings.lease_s)
        self._machine = (socket.gethostname(), boot_id())
        self._pause_s = min(WATCH_EVERY_S, settings.lease_s / 2 / BEATS_PER_LEASE)
        self._thread = Repeating(
            "lease watch",
            self._check,
            failure="The leases could not be read",
            is_temporary=is_temporary,
            retry_s=self._pause_s,
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._thread.stop()

    def check(self) -> None:
        """Looks once for dead servers, and for requests that were not started in time.

        - The running requests of dead servers go back to the queue. They end if they may not be tried again.
        - The downloads of dead servers wait again, so that other servers can continue them. Their requests end if the
          downloads may not be tried again.
        - Requests that were not started in time end, unless the system's clock is in doubt (see `clock.is_steady`).
        """
        with reading(self._engine) as connection:
            rows = connection.execute(sa.select(servers)).all()
        expired = self._heartbeats.expired(rows, time.monotonic())
        for row in rows:
            if row in expired or self._is_process_gone(row):
                self._remove(row)
        for orphan in queue.orphans(self._engine):
            with bound_contextvars(request_id=orphan.id):
                self._recover(orphan)
        for download in fetches.orphans(self._engine):
            with bound_contextvars(request_id=download.request_id):
                self._recover_download(download)
        if clock.is_steady():
            for request_id in queue.expire(self._engine, NOT_STARTED_IN_TIME):
                self._on_change(request_id)

    def _check(self) -> float:
        self.check()
        return self._pause_s

    def _is_process_gone(self, row: Any) -> bool:
        """Returns True if the server ran on this machine and it is certain that its process has ended.

        `row` is the server's row in the table `servers`.
        """
        _, boot = self._machine
        return boot != "" and (row.host, row.boot) == self._machine and has_ended(row.pid, row.born)

    def _remove(self, row: Any) -> None:
        """Deletes the row of a dead server, unless its count of heartbeats has changed since the row was read."""
        with self._engine.begin() as connection:
            deleted = connection.execute(sa.delete(servers).where(servers.c.id == row.id, servers.c.beats == row.beats))
        if deleted.rowcount:
            log.warning("The server with process %d on %s is dead.", row.pid, row.host)

    def _recover(self, row: RequestRow) -> None:
        """Puts a request of a dead server back into the queue.

        Ends the request instead if it has no attempts left, or if a client has cancelled it.
        """
        if row.cancel_at is None and is_last_attempt(row, self._settings):
            is_changed = queue.finish(self._engine, row, worker_died(row.attempt))
        else:
            is_changed = queue.return_to_queue(self._engine, row, attempt_failed=True)
        if not is_changed:
            return
        self._on_change(row.id)
        self._wake(row.pool)
        now = queue.get_without_payloads(self._engine, row.id)
        has_ended = now is not None and now.has_ended
        result = "has ended" if has_ended else "is back in the queue"
        log.warning("The server of request %s died in attempt %d; the request %s.", row.id, row.attempt, result)
        if has_ended:
            remove_work_folder(self._settings, row.id)

    def _recover_download(self, download: Fetch) -> None:
        """Makes a download of a dead server wait again. Ends its request instead if it has no attempts left."""
        is_last = download.downloads.attempt >= self._settings.max_attempts
        if is_last:
            is_changed = queue.fail_fetch(self._engine, download, download_died(download.downloads.attempt))
        else:
            is_changed = fetches.put_back(self._engine, download.request_id, download.server, attempt_failed=True)
        if is_changed:
            self._on_change(download.request_id)
            log.warning(
                "The server that downloaded the files of request %s died in attempt %d; %s.",
                download.request_id,
                download.downloads.attempt,
                "the request has ended" if is_last else "the download waits again",
            )


def is_last_attempt(row: RequestRow, settings: Settings) -> bool:
    """Returns True if the request is not tried again after its current attempt fails.

    That is so if it has had `settings.max_attempts` attempts, or if the client allowed only one.
    """
    return row.attempt >= settings.max_attempts or not row.may_retry
