"""What the slots of one server share, and the lock under which they claim."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from longtake.queue import engine as queue
from longtake.queue.requests import RequestRow
from longtake.settings import Settings
from longtake.storage.files import NewFile
from longtake.worker.leases import Lease
from longtake.worker.process import Message


class Store(Protocol):
    """Where finished files are kept."""

    def add_result(self, request_id: str, file: NewFile, path: Path) -> str:
        """Moves the file at `path` into the store as a result of a request and returns its key."""


class Claims:
    """What the slots of one server have claimed.

    Claiming is done under one lock. So what is claimed in the database and not known here was claimed by an answer that
    never came (the database went away), and is put back.
    """

    def __init__(self, engine: sa.Engine, lease: Lease) -> None:
        self._engine = engine
        self._lease = lease
        self._lock = threading.Lock()
        self._running: set[str] = set()
        self._doubtful = False

    def take(self, pool: str) -> RequestRow | None:
        """The pool's next request."""
        with self._lock:
            worker = self._lease.worker
            if worker is None:
                return None
            try:
                if self._doubtful:
                    self._tidy(worker)
                row = queue.claim(self._engine, pool, worker)
            except Exception:
                self._doubtful = True
                raise
            if row is not None:
                self._running.add(row.id)
            return row

    def _tidy(self, worker: str) -> None:
        for row in queue.claimed_by(self._engine, worker):
            if row.id not in self._running:
                queue.return_to_queue(self._engine, row, attempt_failed=False)
        self._doubtful = False

    def drop(self, request_id: str) -> None:
        with self._lock:
            self._running.discard(request_id)

    def any(self) -> bool:
        """Whether something runs."""
        with self._lock:
            return bool(self._running)


@dataclass(frozen=True)
class Shop:
    """What the slots of a server share. `on_change(request_id)` is called after each change, `on_done(message)` with
    what a worker process says of each finished video."""

    engine: sa.Engine
    settings: Settings
    store: Store
    on_change: Callable[[str], None]
    on_done: Callable[[Message], None]
    command: Sequence[str]
    claims: Claims
