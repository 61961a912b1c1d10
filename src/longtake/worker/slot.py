"""One slot of a server: a thread with a device and a worker process. It carries out the requests of one pool (named
group of devices)."""

import logging
import threading
from queue import SimpleQueue
from typing import Literal, NamedTuple, get_args

from structlog.contextvars import bound_contextvars

from longtake.database.connection import RetriesStopped, is_temporary
from longtake.periodic import Failures
from longtake.queue.requests import RequestRow
from longtake.settings import Settings
from longtake.worker.attempt import Attempt
from longtake.worker.context import SlotContext
from longtake.worker.leases import is_last_attempt
from longtake.worker.messages import Failed, MachineFailed, Printed, ProgressReport, Unusable
from longtake.worker.supervisor import ProcessState, SlotMessage, Supervisor

log = logging.getLogger(__name__)

MOST_REQUESTS = 2
"""The most requests that a slot (a device with its worker process) carries out at a time. Only one of them uses the
device."""

POLL_S = 0.25
"""Seconds between two times at which an idle slot (a thread with a device) looks into the database for a waiting
request. Other servers add requests without waking this one."""

State = ProcessState | Literal["busy", "stopped"]
"""The state of a slot, which is a device with its worker process and thread.

"busy": the slot carries out a request. "stopped": its thread has ended. "idle": the worker process waits for a request.
"starting": no worker process is ready, and fewer than three were started since one was last ready.
"failing": none is ready, and at least three were started since one was last ready.
"""

SLOT_STATES: tuple[State, ...] = tuple(state for part in get_args(State) for state in get_args(part))
"""All values of `State`."""


class SlotStatus(NamedTuple):
    """The status of a slot (a device with its worker process): its name for logs, its pool (a named group of devices),
    and its state (see `State`)."""

    name: str
    pool: str
    state: State


class Slot:
    """A device, its worker process, the thread that claims requests, and threads that let the process carry them out.

    The next request is claimed when the last one has ended, or when it soon ends its use of the device (see
    `may_share`).

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
        self._failures = Failures()
        self._draining = threading.Event()
        self._stopping = threading.Event()
        self._attempts: list[Attempt] = []
        self._runs_next_alone = False
        self._claimed: SimpleQueue[Attempt | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._carriers = [
            threading.Thread(target=self._carry_out_claimed, name=name, daemon=True) for _ in range(MOST_REQUESTS)
        ]

    def start(self) -> None:
        """Starts the threads of the slot (a device with its worker process), which then start the process."""
        for thread in (*self._carriers, self._thread):
            thread.start()

    def wake(self) -> None:
        """Makes the slot (a device with its worker process) look for a request at once, if it may claim one."""
        self._worker.wake()

    def cancel(self, request_id: str) -> None:
        """Stops the work on a request if this slot (a device with its worker process) carries it out. Otherwise does
        nothing.

        The cancellation must already be stored in the database.
        """
        self._worker.cancel(request_id)

    def drain(self) -> None:
        """Makes the slot (a device with its worker process) claim no more requests. It finishes the current one. A
        second one that has not used the device yet goes back to the queue."""
        self._draining.set()
        self._worker.wake_all()

    def stop(self) -> None:
        """Makes the slot (a device with its worker process and thread) return its current requests to the queue and end
        its process and threads.

        Returns at once; `join` waits for the thread.
        """
        self._draining.set()
        self._stopping.set()
        self._worker.wake_all()

    def join(self, timeout_s: float) -> None:
        """Waits at most `timeout_s` seconds for the thread to end."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._turn()
            except Exception as error:
                if self._failures.news(error) is not None:
                    self._report(error)
                self._stopping.wait(POLL_S)
            else:
                if self._failures.have_ended():
                    log.warning("%s goes on.", self.status.name)
        for _ in self._carriers:
            self._claimed.put(None)
        for carrier in self._carriers:
            carrier.join()
        self._worker.end()
        self._enter("stopped")

    def _turn(self) -> None:
        """Handles the waiting messages, starts the worker process if it does not run, and claims one request.

        If it can claim no request, it waits up to 0.25 seconds (POLL_S) for a message instead.
        """
        while self._worker.has_messages():
            self._handle(self._worker.receive(0))
        self._attempts = [attempt for attempt in self._attempts if not attempt.has_ended]
        self._runs_next_alone &= bool(self._attempts)
        if not self._draining.is_set():
            self._worker.start_if_needed()
        if not self._worker.is_ready:
            self._worker.kill_if_stalled()
        self._update_state()
        attempt = self._claim_next() if self._may_claim() else None
        if attempt is None:
            self._handle(self._worker.receive(POLL_S))
            return
        self._attempts.append(attempt)
        self._enter("busy")
        self._claimed.put(attempt)

    def _may_claim(self) -> bool:
        if not self._worker.is_ready or self._draining.is_set():
            return False
        if not self._attempts:
            return True
        return (
            len(self._attempts) < MOST_REQUESTS
            and not self._runs_next_alone
            and all(
                one.exchange.device_state == "soon free" and may_share(one.row, self._context.settings)
                for one in self._attempts
            )
        )

    def _claim_next(self) -> Attempt | None:
        """Claims the next request. Returns None if none waits, or if it must wait for the end of the running one."""
        row = self._context.claims.claim_next(self.status.pool)
        if row is None:
            return None
        if self._attempts and not may_share(row, self._context.settings):
            self._runs_next_alone = True
            self._context.claims.give_back(row)
            self._context.on_change(row.id)  # a client may have cancelled it meanwhile
            return None
        draining = self._draining if self._attempts else None
        return Attempt(row, self._worker.open(row.id), self._context, self._stopping, draining)

    def _carry_out_claimed(self) -> None:
        """Carries out claimed requests, one after the other, until the slot's thread ends."""
        while (attempt := self._claimed.get()) is not None:
            with bound_contextvars(request_id=attempt.row.id):
                self._carry_out(attempt)

    def _carry_out(self, attempt: Attempt) -> None:
        log.info("Request %s begins in %s, attempt %d.", attempt.row.id, self.status.name, attempt.row.attempt)
        try:
            attempt.run()
        except Exception as error:
            self._report(error)
            self._stopping.wait(POLL_S)
        finally:
            self._worker.close(attempt.exchange)
            self._context.claims.release(attempt.row.id)
            attempt.has_ended = True
            self._worker.wake()

    def _report(self, error: Exception) -> None:
        if isinstance(error, RetriesStopped):
            return
        if is_temporary(error):
            reason = str(error).partition("\n")[0]
            log.warning("%s is waiting for the database or this machine: %s", self.status.name, reason)
        else:
            log.error("%s failed with an unexpected error; it tries again.", self.status.name, exc_info=error)

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
        self._update_state()

    def _update_state(self) -> None:
        self._enter("busy" if self._attempts else self._worker.state)

    def _enter(self, state: State) -> None:
        if state != self.status.state:
            self.status = self.status._replace(state=state)


def may_share(row: RequestRow, settings: Settings) -> bool:
    """Returns True if the worker process may carry out another request at the same time.

    That is so in a first attempt which is not the last one that is allowed. If the process dies, it is not known which
    of two requests is at fault. So both are tried again, and alone.
    """
    return row.attempt == 1 and not is_last_attempt(row, settings)
