"""What is told about requests without asking the database: views in memory, renewed where something changed.

A request that this server changes is known to have changed at once (`Board.changed`); for those of other servers the
database is asked, four times a second and only about requests that somebody asks for.
"""

import asyncio
import math
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace

import sqlalchemy as sa
import structlog

from longtake.queue.engine import outline, told, versions, waiting
from longtake.queue.requests import Event, Row

POLL_S = 0.25
"""So often the database is asked whether other servers changed something."""
IDLE_S = 1.0
"""So often it looks whether somebody asks, where nobody did."""
FRESH_S = 0.6
"""So long a view is believed after it was last compared with the database."""
ASKED_S = 2.0
"""So long after somebody asked for a request it is kept up to date."""
QUEUE_S = 0.05
"""A pool's queue is read no more often than this, nor more than a tenth of the time."""
ROOM = 200_000
"""The views in memory, counted in lines of their logs; one view counts as VIEW of them."""
VIEW = 16
AWAY_S = 0.5
"""So long a database that did not answer is not asked again about what memory has."""
AT_ONCE = 500
"""Requests asked for in one query."""

_log = structlog.get_logger("longtake.board")


@dataclass(frozen=True)
class View:
    """A request as it stands: its row without what is large (see `engine.outline`), its place in the queue, its log.
    `memo`: what readers made of it, kept as long as the view is."""

    row: Row
    position: int | None
    events: tuple[Event, ...]
    memo: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)


@dataclass
class _Entry:
    view: View | None = None
    changes: int = 0
    seen: int = -1
    """`changes` when the view was read: while it is another, the view is not told."""
    checked: float = 0.0
    weight: int = 0


@dataclass
class _Queue:
    """A pool's waiting requests and their places."""

    places: dict[str, int] = field(default_factory=dict)
    stale: bool = True
    read_at: float = -math.inf
    took: float = 0.0
    asked: float = -math.inf

    def due(self, now: float) -> bool:
        """Whether it is time to read it again: somebody asks, and it was not just read."""
        rest = max(QUEUE_S if self.stale else POLL_S, 10 * self.took)
        return now - self.asked <= ASKED_S and now - self.read_at >= rest

    def behind(self, now: float) -> bool:
        """Whether nobody asked for so long that it must be read before it is told."""
        return now - self.read_at > max(ASKED_S, 20 * self.took)


Watcher = tuple[asyncio.AbstractEventLoop, asyncio.Event]


class Board:
    """The views of one server process. Every method may be called from any thread; `wait` from any event loop."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._weight = 0
        self._asked: dict[str, float] = {}
        self._queues: dict[str, _Queue] = {}
        self._watchers: dict[str, list[Watcher]] = {}
        self._away_until = -math.inf
        self._compared = -math.inf
        self._asleep = False
        self._stirred = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="board", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._stirred.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def peek(self, request_id: str) -> View | None:
        """The view, where memory has it and it is up to date: asks no database."""
        with self._lock:
            entry = self._entries.get(request_id)
            return None if entry is None else self._told(request_id, entry, time.monotonic())

    def view(self, request_id: str) -> View | None:
        """The view of a request, from memory or the database; None where there is no such request. While the database
        does not answer, the last view is told."""
        now = time.monotonic()
        with self._lock:
            entry = self._entries.get(request_id) or _Entry()
            told = self._told(request_id, entry, now)
            if told is not None:
                return told
            self._entries[request_id] = entry  # so that a change while it is read is noticed
            changes, before = entry.changes, entry.view
        try:
            fresh = self._read(request_id, before)
        except sa.exc.DBAPIError:
            self._away_until = now + AWAY_S
            if before is None:
                self._forget(request_id)
                raise
            return before
        if fresh is None:
            self._forget(request_id)
            return None
        return self._keep(fresh, changes)

    def learn(self, row: Row) -> View:
        """The view of a request that was stored this moment, by its row: what `view` would tell."""
        queue = self._queue(row.pool)
        if row.state == "IN_QUEUE" and queue.behind(time.monotonic()):
            self._read_queue(row.pool, queue)
        with self._lock:
            self._mark(row.pool)
        return self._keep(View(replace(row, body=b"", plan=None, output=None), None, ()), 0)

    def changed(self, request_id: str) -> None:
        """The request was submitted, claimed, told of, or has ended."""
        with self._lock:
            entry = self._entries.get(request_id)
            if entry is not None:
                entry.changes += 1
            known = None if entry is None else entry.view
            if known is None:
                for pool in self._queues:
                    self._mark(pool)
            elif not known.row.ended:
                self._mark(known.row.pool)
            self._wake(request_id)

    def depth(self, pool: str) -> int:
        """About how many requests of a pool wait."""
        queue, now = self._queue(pool), time.monotonic()
        if queue.behind(now):
            self._read_queue(pool, queue)
        queue.asked = now
        return len(queue.places)

    async def wait(self, request_id: str, version: int, timeout: float) -> None:
        """Until the request changed beyond that version, or its place in the queue did, or the time is over."""
        watcher = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            entry = self._entries.get(request_id)
            current = None if entry is None else self._told(request_id, entry, time.monotonic())
            if current is None or current.row.version > version:
                return
            self._watchers.setdefault(request_id, []).append(watcher)
        try:
            await asyncio.wait_for(watcher[1].wait(), timeout)
        except TimeoutError:
            pass
        finally:
            with self._lock:
                others = [one for one in self._watchers.get(request_id, ()) if one is not watcher]
                if others:
                    self._watchers[request_id] = others
                else:
                    self._watchers.pop(request_id, None)

    def _told(self, request_id: str, entry: _Entry, now: float) -> View | None:
        """The entry's view, where it is up to date. Needs the lock."""
        view = entry.view
        if view is None:
            return None
        if not view.row.ended:
            if request_id not in self._asked and self._asleep:
                self._stirred.set()
            self._asked[request_id] = now
        if now >= self._away_until and (
            entry.seen != entry.changes or (not view.row.ended and now - entry.checked > FRESH_S)
        ):
            return None
        return self._placed(entry, view, now)

    def _placed(self, entry: _Entry, view: View, now: float) -> View:
        """The view with the place it has now. Needs the lock."""
        if view.row.state != "IN_QUEUE":
            return view
        queue = self._queues[view.row.pool]
        queue.asked = now
        # One that is not there yet was submitted since: it is the last, until the queue is read again.
        position = queue.places.setdefault(view.row.id, len(queue.places))
        if view.position != position:
            entry.view = view = replace(view, position=position, memo={})
        return view

    def _keep(self, fresh: View, changes: int) -> View:
        """Keeps a view that was read when its entry counted so many changes; drops the oldest above the room there
        is."""
        now = time.monotonic()
        with self._lock:
            entry = self._entries.setdefault(fresh.row.id, _Entry())
            self._entries.move_to_end(fresh.row.id)
            if entry.view is None or entry.view.row.version < fresh.row.version:
                entry.view = fresh
            entry.seen, entry.checked = max(entry.seen, changes), now
            self._weight += VIEW + len(entry.view.events) - entry.weight
            entry.weight = VIEW + len(entry.view.events)
            while self._weight > ROOM and len(self._entries) > 1:
                self._weight -= self._entries.popitem(last=False)[1].weight
            return self._placed(entry, entry.view, now)

    def _forget(self, request_id: str) -> None:
        with self._lock:
            entry = self._entries.pop(request_id, None)
            self._weight -= entry.weight if entry else 0

    def _read(self, request_id: str, before: View | None) -> View | None:
        row = outline(self._engine, request_id)
        if row is None:
            return None
        known = () if before is None or before.row.ended else before.events  # one that has ended only loses lines
        unchanged = before is not None and before.row.version == row.version
        new = [] if unchanged else told(self._engine, request_id, known[-1].seq if known else 0)
        if row.state == "IN_QUEUE":
            queue = self._queue(row.pool)
            if queue.behind(time.monotonic()):
                self._read_queue(row.pool, queue)
        return View(row, None, (*known, *new))

    def _queue(self, pool: str) -> _Queue:
        with self._lock:
            return self._queues.setdefault(pool, _Queue())

    def _read_queue(self, pool: str, queue: _Queue) -> None:
        """Reads the places of a pool's queue, and wakes those who watch one that moved."""
        with self._reading:
            started = time.monotonic()
            queue.stale = False
            places = {one: place for place, one in enumerate(waiting(self._engine, pool))}
            with self._lock:
                moved = [one for one in self._watchers if queue.places.get(one) != places.get(one)]
                queue.places, queue.read_at = places, time.monotonic()
                queue.took = queue.read_at - started
                for one in moved:
                    self._wake(one)

    def _mark(self, pool: str) -> None:
        """The pool's queue changed. Needs the lock."""
        if pool in self._queues:
            self._queues[pool].stale = True
        if self._asleep:
            self._stirred.set()

    def _wake(self, request_id: str) -> None:
        """Needs the lock."""
        for loop, woken in self._watchers.get(request_id, ()):
            if not loop.is_closed():
                loop.call_soon_threadsafe(woken.set)

    def _poll(self) -> None:
        while not self._stopped.is_set():
            try:
                pause = self._renew()
            except sa.exc.DBAPIError as error:
                _log.warning("the database does not answer", error=str(error.orig))
                self._away_until = time.monotonic() + AWAY_S
                pause = POLL_S
            self._asleep = pause == IDLE_S
            self._stirred.wait(pause)
            self._asleep = False
            self._stirred.clear()

    def _renew(self) -> float:
        """Brings up to date what somebody asks for; how long to wait before the next time."""
        now = time.monotonic()
        with self._lock:
            queues = list(self._queues.items())
            self._asked = {one: at for one, at in self._asked.items() if now - at <= ASKED_S}
            asked = {*self._asked, *self._watchers}
            for one in self._watchers:
                entry = self._entries.get(one)
                if entry is not None and entry.view is not None and entry.view.row.state == "IN_QUEUE":
                    self._queues[entry.view.row.pool].asked = now
        for pool, queue in queues:
            if queue.due(now):
                self._read_queue(pool, queue)
        if asked and now - self._compared >= POLL_S:
            self._compared = now
            self._compare(list(asked))
        if any(queue.stale and now - queue.asked <= ASKED_S for _, queue in queues):
            return QUEUE_S
        return POLL_S if asked else IDLE_S

    def _compare(self, ids: list[str]) -> None:
        """Asks the database which of these requests have changed."""
        for start in range(0, len(ids), AT_ONCE):
            began = time.monotonic()
            now_at = versions(self._engine, ids[start : start + AT_ONCE])
            with self._lock:
                for one, version in now_at.items():
                    entry = self._entries.get(one)
                    if entry is None or entry.view is None:
                        self._wake(one)
                    elif entry.view.row.version < version:
                        entry.changes += 1
                        self._wake(one)
                    elif entry.seen == entry.changes:
                        entry.checked = began
