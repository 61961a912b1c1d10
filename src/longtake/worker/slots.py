"""The slots of one server: its devices, each with a thread and a worker process."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from longtake.queue import engine as queue
from longtake.settings import Settings
from longtake.worker.claims import Claims, Shop, Store
from longtake.worker.leases import Lease
from longtake.worker.process import Message
from longtake.worker.slot import Slot, State

COMMAND = (sys.executable, "-m", "longtake.worker.main")
DEFAULT_POOL = "default"


class Slots:
    """All slots of `settings.slots` and this server's lease. `on_change(request_id)` is called, from their threads,
    after each change of a request, `on_done(message)` with what a worker process said of each result that counts (its
    `timings`, `new_frames`, `evaluations`); `command` is the worker process."""

    def __init__(
        self,
        engine: sa.Engine,
        settings: Settings,
        store: Store,
        on_change: Callable[[str], None],
        *,
        on_done: Callable[[Message], None] = lambda _: None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._lease = Lease(engine, settings.lease_s)
        self._claims = Claims(engine, self._lease)
        self._stopped = threading.Event()
        shop = Shop(engine, settings, store, on_change, on_done, command, self._claims)
        self._slots = [
            Slot(f"slot {number} ({text})", device, pool or DEFAULT_POOL, shop)
            for number, text in enumerate(settings.slots)
            for device, _, pool in [text.partition("@")]
        ]

    def start(self) -> None:
        """Begins to beat, starts the worker processes, and claims."""
        if not self._slots:
            return
        self._lease.start()
        for slot in self._slots:
            slot.start()
        threading.Thread(target=self._sweep, name="sweep", daemon=True).start()

    def wake(self, pool: str) -> None:
        """Something waits in this pool: its idle slots look at once."""
        for slot in self._slots:
            if slot.pool == pool and slot.state == "idle":
                slot.wake()

    def cancel(self, request_id: str) -> None:
        """Stops a request that a slot of this server works on, where one does. Its row says so already."""
        for slot in self._slots:
            slot.cancel(request_id)

    def states(self) -> list[tuple[str, str, State, float]]:
        """Of each slot its name, its pool, what it does, and since when in seconds since 1970."""
        return [(slot.name, slot.pool, slot.state, slot.since) for slot in self._slots]

    def drain(self, timeout: float) -> None:
        """Claims nothing more, lets what runs finish for so many seconds, and stops."""
        for slot in self._slots:
            slot.drain()
        until = time.monotonic() + timeout
        while self._claims.any() and time.monotonic() < until:
            if self._stopped.wait(0.05):
                return
        self.stop()

    def stop(self) -> None:
        """Stops at once: what runs goes back to the queue, and the worker processes end."""
        self._stopped.set()
        for slot in self._slots:
            slot.stop()
        until = time.monotonic() + 5
        for slot in self._slots:
            slot.join(max(until - time.monotonic(), 0.1))
        self._lease.stop()

    def _sweep(self) -> None:
        """Removes the work folders of requests that have ended."""
        folder = self._settings.data_dir / "work"
        for name in os.listdir(folder) if folder.is_dir() else ():
            row = queue.get(self._engine, name)
            if row is None or row.has_ended:
                shutil.rmtree(folder / name, ignore_errors=True)
