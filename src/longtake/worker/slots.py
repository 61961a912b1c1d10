"""The slots of one server, which carry out requests: each is a device with a thread and a worker process."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence

from longtake.settings import DEFAULT_POOL, Settings
from longtake.storage.files import FileStore
from longtake.worker.claims import Claims
from longtake.worker.context import SlotContext
from longtake.worker.fetching import FetchPlaces
from longtake.worker.leases import Lease
from longtake.worker.messages import Done
from longtake.worker.slot import Slot, SlotStatus
from longtake.worker.work_folders import make_parent, sweeper

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "longtake.worker.main")
"""The program of a worker process and its arguments."""

STOP_S = 5.0
"""Seconds that a stopping server waits for the threads of its slots (devices with worker processes) to end. After that
it goes on without them."""


class Slots:
    """All slots that the settings name. A slot is a device with its worker process and thread.

    Also runs what the slots need: the server's lease (its sign of life in the database), and the threads that download
    the files of waiting requests.

    `settings`: the server's settings.
    `store`: the store to which results and the files of waiting requests are moved. The requests are in its database.
    `on_change`: called with a request's id after each change of the request, from a thread of this object.
    `on_done`: called with a worker process's message `Done` after the result was stored, from a thread of a slot.
    `on_unusable`: called with a sentence, from a slot's thread, if no worker process can work on this machine.
    `command`: the program of a worker process and its arguments.

    The constructor raises OSError if the folder of the work folders cannot be created.
    """

    def __init__(
        self,
        settings: Settings,
        store: FileStore,
        on_change: Callable[[str], None],
        *,
        on_done: Callable[[Done], None] = lambda _: None,
        on_unusable: Callable[[str], None] = lambda _: None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        engine = store.engine
        if settings.slots:
            make_parent(settings)
        self._lease = Lease(engine, settings.lease_s)
        self._claims = Claims(engine, self._lease)
        self._stopped = threading.Event()
        context = SlotContext(engine, settings, store, self._claims, on_change, on_done, on_unusable, command)
        self._slots = [
            Slot(
                f"slot {number} ({text})",
                settings.device if device == "auto" else device,
                pool or DEFAULT_POOL,
                context,
            )
            for number, text in enumerate(settings.slots)
            for device, _, pool in [text.partition("@")]
        ]
        self._fetches = FetchPlaces(context, self._lease, self.wake)
        self._sweeper = sweeper(engine, settings)

    def start(self) -> None:
        """Starts all slots (devices with their worker processes), which then claim requests, and the downloads of the
        files of waiting requests.

        Also starts the server's lease, which shows the other servers that this one is alive. Does nothing if there are
        no slots.
        """
        if not self._slots:
            return
        self._lease.start()
        self._fetches.start()
        for slot in self._slots:
            slot.start()
        self._sweeper.start()

    def wake(self, pool: str) -> None:
        """Makes the idle slots (devices with their worker processes) of a pool (a named group of devices) look for a
        request at once. If none is idle, the others look, because one may soon have its device free."""
        slots = [slot for slot in self._slots if slot.status.pool == pool]
        for slot in [slot for slot in slots if slot.status.state == "idle"] or slots:
            slot.wake()

    def wake_fetches(self) -> None:
        """Looks for waiting downloads at once. Should be called after a request that names files was submitted."""
        self._fetches.wake()

    def cancel(self, request_id: str) -> None:
        """Stops the work on a request if a device of this server carries it out. Otherwise does nothing.

        The cancellation must already be stored in the database.
        """
        for slot in self._slots:
            slot.cancel(request_id)

    def states(self) -> list[SlotStatus]:
        """Returns the name, the pool (a named group of devices) and the state of each slot (a device with its worker
        process)."""
        return [slot.status for slot in self._slots]

    def drain(self, timeout_s: float) -> None:
        """Claims no more requests, waits at most `timeout_s` seconds until the running ones have ended, and then stops
        all slots (devices with their worker processes).

        Requests that have not ended then go back to the queue. Downloads are stopped at once, because they are for
        requests that this server would no longer claim.
        """
        self._fetches.stop()
        for slot in self._slots:
            slot.drain()
        until = time.monotonic() + timeout_s
        while not self._claims.is_empty() and time.monotonic() < until:
            if self._stopped.wait(0.05):
                return
        self.stop()

    def stop(self) -> None:
        """Stops all slots (devices with their worker processes) at once. Running requests go back to the queue, and the
        worker processes end."""
        self._stopped.set()
        self._fetches.stop()
        for slot in self._slots:
            slot.stop()
        until = time.monotonic() + STOP_S
        for slot in self._slots:
            slot.join(max(until - time.monotonic(), 0.1))
        self._sweeper.stop()
        self._lease.stop()
