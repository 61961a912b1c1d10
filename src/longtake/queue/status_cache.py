"""In-memory cache of request statuses, so that polling clients do not query the database.

This server reports its own changes at once, with `StatusCache.mark_changed`. A thread finds changes that other servers
made: four times a second it compares row versions with the database, but only of requests that clients ask for.
"""

import asyncio
import math
import threading
import time
from dataclasses import dataclass, field, replace
from sys import getsizeof

import sqlalchemy as sa
from cachetools import LRUCache

from longtake.database.batches import batches
from longtake.database.connection import is_temporary
from longtake.periodic import Repeating
from longtake.queue.engine import get_without_payloads, log_lines, versions, waiting
from longtake.queue.requests import RequestRow, StoredLogLine
from longtake.queue.rows import NO_PAYLOADS
from longtake.queue.waiting import POLL_S, QUEUE_S, WANTED_S, WaitingQueue

IDLE_S = 1.0
"""Seconds between two wake-ups of the cache's background thread while no client asks for a status."""
FRESH_S = 0.6
"""Seconds for which a status is served from memory after a look into the database has shown that its row is
unchanged."""
CAPACITY = 64 * 1024**2
"""Maximum memory of the cached statuses in bytes, as estimated by `_Entry.size`."""
ENTRY_BYTES = 5000
"""Measured memory in bytes of a cached status and the JSON texts made from it, without its log lines and error."""
LINE_BYTES = 800
"""Measured memory in bytes of a log line without its message: the object, its labels and its part of the JSON text."""
DATABASE_RETRY_S = 0.5
"""Seconds after a failed database query for which cached statuses are served even if they may be outdated."""


@dataclass(frozen=True)
class RequestStatus:
    """A request's row, its position in the queue, and its log.

    `row`: the row without its payloads (see `engine.get_without_payloads`).
    `queue_position`: the number of waiting requests before this one, for the same group of devices. None if the request
        does not wait.
    `log_lines`: all lines of the log, oldest first.
    `rendered`: a cache for JSON texts that callers make from this status: name -> text. Callers choose the names.
    """

    row: RequestRow
    queue_position: int | None
    log_lines: tuple[StoredLogLine, ...]
    rendered: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)


@dataclass
class _Entry:
    """A cached status and the facts that decide whether it is up to date.

    `status`: None until the first read has ended.
    `changes`: the number of known changes of the request since the entry was created.
    `changes_read`: the value of `changes` when the status was read. If it is smaller than `changes`, the status is old.
    `checked_at`: when the status was last read or compared with the database, in seconds of the monotonic clock.
    """

    status: RequestStatus | None = None
    changes: int = 0
    changes_read: int = -1
    checked_at: float = 0.0

    @property
    def size(self) -> int:
        """The estimated bytes of memory that the entry takes. A larger estimate than CAPACITY is lowered to that."""
        if self.status is None:
            return 0
        texts = [self.status.row.error or "", *(line.message for line in self.status.log_lines)]
        # Texts count twice, because the JSON texts in `status.rendered` contain them, too.
        size = ENTRY_BYTES + LINE_BYTES * len(self.status.log_lines) + 2 * sum(map(getsizeof, texts))
        # The cache would refuse a larger entry.
        return min(size, CAPACITY)


Watcher = tuple[asyncio.AbstractEventLoop, asyncio.Event]
"""A waiting call of `wait_for_change`: its event loop, and the event that ends its wait."""


class StatusCache:
    """The cached statuses of one server process.

    Every method may be called from any thread, except `wait_for_change`, which must be awaited in an event loop.
    `start` starts the thread that finds changes that other servers have made. Without this thread, the cached status of
    a request that has not ended is used for 0.6 seconds (FRESH_S), and then read again.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._queue_reading = threading.Lock()
        self._entries: LRUCache[str, _Entry] = LRUCache(CAPACITY, getsizeof=lambda entry: entry.size)
        self._wanted_at: dict[str, float] = {}
        self._queues: dict[str, WaitingQueue] = {}
        self._watchers: dict[str, list[Watcher]] = {}
        self._serve_old_until = -math.inf
        self._compared_at = -math.inf
        self._is_idle = False
        self._refresher = Repeating(
            "status-cache",
            self._refresh,
            failure="The status cache cannot be refreshed",
            is_temporary=is_temporary,
            retry_s=POLL_S,
        )

    def start(self) -> None:
        """Starts the thread that finds changes that other servers have made to requests."""
        self._refresher.start()

    def stop(self) -> None:
        """Ends the thread that `start` has started, and waits until it has ended."""
        self._refresher.stop()

    def wake_all(self) -> None:
        """Makes all calls of `wait_for_change` return."""
        with self._lock:
            for request_id in self._watchers:
                self._wake_watchers(request_id)

    def peek(self, request_id: str) -> RequestStatus | None:
        """Returns a request's status if it is cached and up to date, otherwise None. Never queries the database."""
        with self._lock:
            entry = self._entries.get(request_id)
            return None if entry is None else self._current(request_id, entry, time.monotonic())

    def get(self, request_id: str) -> RequestStatus | None:
        """Returns a request's status from memory or from the database, or None if there is no such request.

        While the database does not answer, returns the last known status. If no status is known, raises SQLAlchemy's
        DBAPIError.
        """
        now = time.monotonic()
        with self._lock:
            entry = self._entries.get(request_id) or _Entry()
            current = self._current(request_id, entry, now)
            if current is not None:
                return current
            # The entry is stored before the read, so that a change during the read increases its `changes`.
            self._entries[request_id] = entry
            changes, last = entry.changes, entry.status
        try:
            status = self._read(request_id, last)
        except sa.exc.DBAPIError:
            self._serve_old_until = now + DATABASE_RETRY_S
            if last is None:
                self._forget(request_id)
                raise
            return last
        if status is None:
            self._forget(request_id)
            return None
        return self._store(status, changes)

    def add(self, row: RequestRow) -> RequestStatus:
        """Caches the status of a request that was just submitted, and returns it.

        `row` is the row that was inserted.
        """
        queue = self._queue(row.pool)
        if row.state == "IN_QUEUE" and queue.is_outdated(time.monotonic()):
            self._read_queue(row.pool, queue)
        with self._lock:
            self._mark_queue_stale(row.pool)
        return self._store(RequestStatus(replace(row, **NO_PAYLOADS), None, ()), changes=0)

    def mark_changed(self, request_id: str) -> None:
        """Marks a request's status as outdated, so that it is read again when it is next needed.

        Must be called after this server has changed the request.
        """
        with self._lock:
            entry = self._entries.get(request_id)
            if entry is not None:
                entry.changes += 1
            status = None if entry is None else entry.status
            if status is None:
                for pool in self._queues:
                    self._mark_queue_stale(pool)
            elif not status.row.has_ended:
                self._mark_queue_stale(status.row.pool)
            self._wake_watchers(request_id)

    def queue_length(self, pool: str) -> int:
        """Returns the number of waiting requests of a pool (a named group of devices), when its queue was last read.

        If that was more than about two seconds ago, or never, the queue is read from the database first.
        """
        queue, now = self._queue(pool), time.monotonic()
        if queue.is_outdated(now):
            self._read_queue(pool, queue)
        queue.wanted_at = now
        return len(queue.positions)

    async def wait_for_change(self, request_id: str, version: int, timeout: float) -> None:
        """Waits until the request's version (the number of changes of its row) is above `version`, or its position in
        the queue changes.

        Returns after `timeout` seconds at the latest. Returns at once if the version is greater already, or if the
        cache has no up-to-date status of the request.
        """
        watcher = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            entry = self._entries.get(request_id)
            current = None if entry is None else self._current(request_id, entry, time.monotonic())
            if current is None or current.row.version > version:
                return
            self._watchers.setdefault(request_id, []).append(watcher)
        try:
            await asyncio.wait_for(watcher[1].wait(), timeout)
        except TimeoutError:
            pass
        finally:
            with self._lock:
                others = [other for other in self._watchers.get(request_id, ()) if other is not watcher]
                if others:
                    self._watchers[request_id] = others
                else:
                    self._watchers.pop(request_id, None)

    # The following methods must be called with the lock held.

    def _current(self, request_id: str, entry: _Entry, now: float) -> RequestStatus | None:
        """Returns the entry's status if it is up to date, otherwise None. Also records that a client asks for it.

        `now` is the current time in seconds of the monotonic clock.
        """
        status = entry.status
        if status is None:
            return None
        if not status.row.has_ended:
            if request_id not in self._wanted_at and self._is_idle:
                self._refresher.wake()
            self._wanted_at[request_id] = now
        if now >= self._serve_old_until and (
            entry.changes_read != entry.changes or (not status.row.has_ended and now - entry.checked_at > FRESH_S)
        ):
            return None
        return self._positioned(entry, status, now)

    def _positioned(self, entry: _Entry, status: RequestStatus, now: float) -> RequestStatus:
        """Returns `status` with its current queue position, and stores it in `entry` if the position has changed.

        `now` is the current time in seconds of the monotonic clock.
        """
        if status.row.state != "IN_QUEUE":
            return status
        queue = self._queues[status.row.pool]
        queue.wanted_at = now
        position = queue.position(status.row)
        if status.queue_position != position:
            entry.status = status = replace(status, queue_position=position, rendered={})
        return status

    def _mark_queue_stale(self, pool: str) -> None:
        if pool in self._queues:
            self._queues[pool].is_stale = True
        if self._is_idle:
            self._refresher.wake()

    def _wake_watchers(self, request_id: str) -> None:
        for loop, changed in self._watchers.get(request_id, ()):
            if not loop.is_closed():
                loop.call_soon_threadsafe(changed.set)

    # The following methods take the lock themselves.

    def _store(self, status: RequestStatus, changes: int) -> RequestStatus:
        """Caches a status that was read from the database, and returns it with its queue position.

        If a status of the same or a greater version is already cached, that status stays, and is returned instead.

        `changes`: the value of `_Entry.changes` before the read. If `_Entry.changes` has grown since, the request
            changed during the read, and the cached status counts as outdated at once.
        """
        now = time.monotonic()
        with self._lock:
            entry = self._entries.get(status.row.id) or _Entry()
            if entry.status is None or entry.status.row.version < status.row.version:
                entry.status = status
            entry.changes_read, entry.checked_at = max(entry.changes_read, changes), now
            # The assignment also measures the entry's size and evicts the least recently used entries.
            self._entries[status.row.id] = entry
            return self._positioned(entry, entry.status, now)

    def _forget(self, request_id: str) -> None:
        with self._lock:
            self._entries.pop(request_id, None)

    def _queue(self, pool: str) -> WaitingQueue:
        with self._lock:
            return self._queues.setdefault(pool, WaitingQueue())

    def _read(self, request_id: str, last: RequestStatus | None) -> RequestStatus | None:
        """Returns a request's status from the database, without a queue position. Returns None if there is no such
        request.

        `last`: the status that was cached before, or None. Its log lines are reused, and only newer ones are read,
            unless it is the status of an ended request, whose log may have been deleted since.
        """
        row = get_without_payloads(self._engine, request_id)
        if row is None:
            return None
        # The log of an ended request can only be deleted, never grow. So it is read again from the start, because
        # deleted lines must not be served.
        lines = () if last is None or last.row.has_ended else last.log_lines
        is_unchanged = last is not None and last.row.version == row.version
        new = [] if is_unchanged else log_lines(self._engine, request_id, lines[-1].seq if lines else 0)
        if row.state == "IN_QUEUE":
            queue = self._queue(row.pool)
            if queue.is_outdated(time.monotonic()):
                self._read_queue(row.pool, queue)
        return RequestStatus(row, None, (*lines, *new))

    def _read_queue(self, pool: str, queue: WaitingQueue) -> None:
        """Reads the positions of the waiting requests of a pool (a named group of devices) into `queue`.

        Also wakes the calls of `wait_for_change` for requests whose position has changed.
        """
        with self._queue_reading:
            started = time.monotonic()
            queue.is_stale = False
            priorities = waiting(self._engine, pool)
            with self._lock:
                before, now = queue.positions, time.monotonic()
                queue.replace(priorities, read_at=now, read_took_s=now - started)
                moved = [one for one in self._watchers if before.get(one) != queue.positions.get(one)]
                for request_id in moved:
                    self._wake_watchers(request_id)

    # The following methods are called by the background thread.

    def _refresh(self) -> float:
        """Marks the cached statuses that have changed in the database, and reads changed queues again.

        Only statuses and queues that clients have recently asked for are refreshed. Returns the seconds after which
        this method must be called again.
        """
        try:
            return self._refresh_wanted(time.monotonic())
        except sa.exc.DBAPIError:
            self._serve_old_until = time.monotonic() + DATABASE_RETRY_S
            raise

    def _refresh_wanted(self, now: float) -> float:
        with self._lock:
            self._wanted_at = {one: at for one, at in self._wanted_at.items() if now - at <= WANTED_S}
            wanted = {*self._wanted_at, *self._watchers}
            self._is_idle = not wanted
            queues = list(self._queues.items())
            for request_id in self._watchers:
                entry = self._entries.get(request_id)
                if entry is not None and entry.status is not None and entry.status.row.state == "IN_QUEUE":
                    self._queues[entry.status.row.pool].wanted_at = now
        for pool, queue in queues:
            if queue.is_due(now):
                self._read_queue(pool, queue)
        if wanted and now - self._compared_at >= POLL_S:
            self._compared_at = now
            self._compare(list(wanted))
        if any(queue.is_stale and now - queue.wanted_at <= WANTED_S for _, queue in queues):
            return QUEUE_S
        return POLL_S if wanted else IDLE_S

    def _compare(self, ids: list[str]) -> None:
        """Looks into the database which of these requests have changed, and marks their cached statuses as outdated."""
        for some in batches(ids):
            asked_at = time.monotonic()
            found = versions(self._engine, some)
            with self._lock:
                for request_id, version in found.items():
                    entry = self._entries.get(request_id)
                    if entry is None or entry.status is None:
                        self._wake_watchers(request_id)
                    elif entry.status.row.version < version:
                        entry.changes += 1
                        self._wake_watchers(request_id)
                    elif entry.changes_read == entry.changes:
                        entry.checked_at = asked_at
