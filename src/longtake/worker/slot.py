"""One slot of a server: a thread with a device and a worker process. It carries out the requests of one pool (named
group of devices)."""

import logging
import threading
from typing import Literal, NamedTuple

from longtake.database.connection import RetriesStopped, is_temporary
from longtake.worker.attempt import Attempt
from longtake.worker.context import SlotContext
from longtake.worker.messages import CancelRequested, Failed, MachineFailed, Printed, ProgressReport, Unusable, Woken
from longtake.worker.supervisor import ProcessState, SlotMessage, Supervisor

log = logging.getLogger(__name__)

POLL_S = 0.25
"""Seconds between two times at which an idle slot (a thread with a device) looks into the database for a waiting
request. Other servers add requests without waking this one."""

State = ProcessState | Literal["busy", "stopped"]
"""The state of a slot, which is a device with its worker process and thread.

"busy": the slot carries out a request. "stopped": its thread has ended. "idle": the worker process waits for a request.
"starting": no worker process is ready, and fewer than three were started since one was last ready.
"failing": none is ready, and at least three were started since one was last ready.
"""


class SlotStatus(NamedTuple):
    """The status of a slot (a device with its worker process): its name for logs, its pool (a named group of devices),
    and its state (see `State`)."""

    name: str
    pool: str
    state: State


class Slot:
    """A device, its worker process, and the thread that claims requests and lets the process carry them out.

    `name`: the slot's name for logs.
    `device`: the device's name for torch, such as "cuda:0".
    `pool`: the pool (a named group of devices) whose requests the slot carries out.
    `context`: the objects that all slots of the server share.

    All public methods may be called from any thread.
    """

    def __init__(self, name: str, device: str, pool: str, context: SlotContext) -> None:
        self.status = SlotStatus(name, pool, "starting")
        self._context = context
        self._worker = Supervisor(name, device, context.command, context.settings)
        self._last_progress = ""
        self._draining = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread of the slot (a device with its worker process). The thread then starts the process."""
        self._thread.start()

    def wake(self) -> None:
        """Makes an idle slot (a device with its worker process) look for a request at once."""
        self._worker.post(Woken())

    def cancel(self, request_id: str) -> None:
        """Stops the work on a request if this slot (a device with its worker process) carries it out. Otherwise does
        nothing.

        The cancellation must already be stored in the database.
        """
        self._worker.post(CancelRequested(request_id))

    def drain(self) -> None:
        """Makes the slot (a device with its worker process) claim no more requests. It finishes the current one."""
        self._draining.set()
        self.wake()

    def stop(self) -> None:
        """Makes the slot (a device with its worker process and thread) return its current request to the queue and end
        its process and thread.

        Returns at once; `join` waits for the thread.
        """
        self._draining.set()
        self._stopping.set()
        self.wake()

    def join(self, timeout_s: float) -> None:
        """Waits at most `timeout_s` seconds for the thread to end."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._turn()
            except RetriesStopped:
                pass
            except Exception as error:
                if is_temporary(error):
                    log.warning(
                        "%s is waiting for the database or this machine: %s",
                        self.status.name,
                        str(error).partition("\n")[0],
                    )
                else:
                    log.exception("%s failed with an unexpected error; it tries again.", self.status.name)
                self._stopping.wait(POLL_S)
        self._worker.end()
        self._enter("stopped")

    def _turn(self) -> None:
        """Handles the waiting messages, starts the worker process if it does not run, and carries out one request.

        If it can claim no request, it waits up to 0.25 seconds (POLL_S) for a message instead.
        """
        while self._worker.has_messages():
            self._handle(self._worker.receive(0))
        if not self._draining.is_set():
            self._worker.start_if_needed()
        if not self._worker.is_ready:
            self._worker.kill_if_stalled()
        self._enter(self._worker.state)
        can_claim = self._worker.is_ready and not self._draining.is_set()
        row = self._context.claims.claim_next(self.status.pool) if can_claim else None
        if row is None:
            self._handle(self._worker.receive(POLL_S))
            return
        self._enter("busy")
        try:
            Attempt(row, self._worker, self._context, self._stopping).run()
        finally:
            self._context.claims.release(row.id)
            self._enter(self._worker.state)

    def _handle(self, message: SlotMessage | None) -> None:
        """Handles a message that came while the worker process had no request. Also updates the state of the slot (the
        device with its worker process), such as "idle".

        - Progress, a printed line or an error of the process is logged. The same progress is logged only once in a row.
        - If no worker process can work on this machine, `SlotContext.on_unusable` is called with the reason.
        - For any other message, and for None (no message), only the state is updated.
        """
        match message:
            case ProgressReport() if message.sentence != self._last_progress:
                self._last_progress = message.sentence
                log.info("%s: %s", self.status.name, message.sentence)
            case Unusable():
                self._context.on_unusable(message.reason)
            case Printed():
                log.info("%s: %s", self.status.name, message.text)
            case Failed():
                log.error("%s: %s", self.status.name, message.error)
            case MachineFailed():
                log.error("%s: this machine failed: %s", self.status.name, message.reason)
        self._enter(self._worker.state)

    def _enter(self, state: State) -> None:
        if state != self.status.state:
            self.status = self.status._replace(state=state)
