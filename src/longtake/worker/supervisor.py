"""Keeps the worker process of one slot (a device with its process and thread) running and receives its messages."""

import logging
import os
import threading
import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Literal

from longtake.device_setting import slot_devices
from longtake.settings import Settings
from longtake.worker.exchange import Exchange
from longtake.worker.messages import (
    CancelRequested,
    DeviceUse,
    Died,
    FromProcess,
    Interrupted,
    Printed,
    Ready,
    Unusable,
    Woken,
)
from longtake.worker.process import WorkerProcess

log = logging.getLogger(__name__)

FIRST_RESTART_PAUSE_S = 0.2
"""Seconds between the first and the second start of a worker process. Each further start doubles the pause.

After a process has become ready, the next pause has this length again.
"""

MAX_RESTART_PAUSE_S = 30.0
"""The longest pause in seconds between two starts of a worker process."""

END_S = 1.0
"""Seconds within which a worker process has to end after its standard input was closed. Then it is killed."""

ProcessState = Literal["starting", "failing", "idle"]
"""The state of the worker process of a slot (a device with its process and thread).

"starting": no process is ready. This is the state at first, and again after a ready process has ended.
"failing": no process is ready, and at least three were started since one was last ready.
"idle": the process lives and has reported that it is ready. It may be carrying out a request.
"""

SlotMessage = FromProcess | Woken


class Supervisor:
    """Starts the worker process of a slot (a device with its process and thread), starts a new one after it has ended,
    and receives the process's messages. Messages about a request go to the request's `Exchange`.

    `name`: the slot's name for logs.
    `device`: the device that the process uses, such as "cuda:0".
    `command`: the program of the process and its arguments.
    `settings`: has the data folder, and the seconds after which a silent process counts as stalled.

    Only the slot's thread may use this object, except for the methods `wake`, `wake_all`, `cancel` and `close` and its
    exchanges, which any thread may use.
    """

    def __init__(self, name: str, device: str, command: Sequence[str], settings: Settings) -> None:
        self.name = name
        self.is_ready = False
        """True if the worker process has sent `Ready` and can carry out requests."""
        self._environment = {
            "LONGTAKE_DEVICE": device,
            "LONGTAKE_DATA_DIR": str(settings.data_dir),
            # The processes of all slots share the host's memory, and those of one GPU its memory.
            "LONGTAKE_SLOTS": ",".join(slot_devices(settings.slots, settings.device)),
        }
        self._command = command
        self._stall_s = settings.stall_s
        self._mailbox: SimpleQueue[tuple[WorkerProcess | None, SlotMessage]] = SimpleQueue()
        self._lock = threading.Lock()  # for what other threads use: the process, if it is ready, and the exchanges
        self._process: WorkerProcess | None = None
        self._end: Died | None = None  # the end of the process, also if this was not received yet
        self._exchanges: dict[str, Exchange] = {}
        self._active_at = 0.0
        self._next_start_at = 0.0
        self._starts = 0  # processes started since one was last ready

    @property
    def state(self) -> ProcessState:
        """The state of the worker process.

        "starting": no process is ready, and fewer than three were started since one was last ready.
        "failing": no process is ready, and at least three were started since one was last ready.
        "idle": the process lives and has reported that it is ready. It may be carrying out a request.
        """
        if self.is_ready:
            return "idle"
        return "failing" if self._starts > 2 else "starting"

    def wake(self) -> None:
        """Ends the wait in `receive`. May be called from any thread."""
        self._mailbox.put((None, Woken()))

    def wake_all(self) -> None:
        """Ends the wait in `receive`, also that of each exchange. May be called from any thread."""
        self.wake()
        with self._lock:
            for exchange in self._exchanges.values():
                exchange.put(Woken())

    def cancel(self, request_id: str) -> None:
        """Tells the attempt to carry out a request that a client has cancelled it, if there is one. May be called from
        any thread."""
        with self._lock:
            exchange = self._exchanges.get(request_id)
        if exchange is not None:
            exchange.put(CancelRequested())

    def open(self, request_id: str) -> Exchange:
        """Returns the exchange of messages about a request. The caller must close it."""
        with self._lock:
            exchange = Exchange(
                self._process, request_id, self._stall_s, self._kill_for, lambda: len(self._exchanges) == 1
            )
            self._exchanges[request_id] = exchange
            if self._process is None or self._end is not None:
                exchange.put(self._end or Interrupted())
        return exchange

    def close(self, exchange: Exchange) -> None:
        """Drops further messages about the request. May be called from any thread."""
        with self._lock:
            # A request that went back to the queue may have been claimed again, and then has a new exchange.
            if self._exchanges.get(exchange.request_id) is exchange:
                del self._exchanges[exchange.request_id]

    def has_messages(self) -> bool:
        return not self._mailbox.empty()

    def start_if_needed(self) -> None:
        """Starts a worker process if none runs and the pause after the last start is over.

        The pause grows, up to 30 seconds (MAX_RESTART_PAUSE_S), each time that a started process ends before it is
        ready.
        """
        now = time.monotonic()
        if self._process is not None or now < self._next_start_at:
            return
        doublings = min(self._starts, 30)  # With many more the result would be too large for a float.
        self._next_start_at = now + min(FIRST_RESTART_PAUSE_S * 2.0**doublings, MAX_RESTART_PAUSE_S)
        self._starts += 1
        environment = os.environ | self._environment
        with self._lock:  # so that a message of the new process is not delivered before it is known
            self._process, self._end = WorkerProcess(self._command, environment, self._deliver), None
        self._active_at = now

    def kill_if_stalled(self) -> bool:
        """Kills the worker process if it is not ready and has sent nothing for `stall_s` seconds (a setting). Returns
        True if it was killed."""
        if self._process is None or time.monotonic() < self._active_at + self._stall_s:
            return False
        log.error("The worker process of %s was silent for %g s; killing it.", self.name, self._stall_s)
        self._kill_for(None)
        return True

    def receive(self, timeout_s: float) -> SlotMessage | None:
        """Waits at most `timeout_s` seconds for a message about no request, and returns it.

        Returns None if no message arrives, or if the message comes from an earlier process.
        """
        try:
            process, message = self._mailbox.get(timeout=max(timeout_s, 0))
        except Empty:
            return None
        if process is None:
            return message
        with self._lock:
            if process is not self._process:
                return None
            match message:
                case Ready():
                    self.is_ready, self._starts = True, 0
                case Died(reason):
                    log.error("The worker process of %s ended: %s.", self.name, reason)
                    self._process, self.is_ready = None, False
        self._active_at = time.monotonic()
        return message

    def end(self) -> None:
        """Closes the process's standard input, and kills the process if it has not ended after one second (END_S).

        Does nothing if no process runs.
        """
        with self._lock:
            process, self._process, self.is_ready = self._process, None, False
        if process is None:
            return
        process.close()
        if not process.has_ended(within_s=END_S):
            process.kill()

    def _deliver(self, process: WorkerProcess, message: FromProcess) -> None:
        """Delivers a message of a process to the attempt that it is about, or else to the slot."""
        with self._lock:
            exchanges = [one for one in self._exchanges.values() if one.process is process]
            if isinstance(message, Died) and process is self._process:
                self._end = message
        match message:
            case Died():
                self._mailbox.put((process, message))
                for exchange in exchanges:
                    exchange.put(message)
            case Printed() if len(exchanges) == 1:  # of two requests, it is not known which one has printed
                exchanges[0].put(message)
            case Ready() | Unusable() | Printed():
                self._mailbox.put((process, message))
            case _ if message.request_id is None:
                self._mailbox.put((process, message))
            case _:
                for exchange in exchanges:
                    if exchange.request_id == message.request_id:
                        exchange.put(message)
                if isinstance(message, DeviceUse):
                    self.wake()

    def _kill_for(self, exchange: Exchange | None) -> None:
        """Kills the worker process, if it still runs, because of a request; None for no request.

        The process's messages that were not received yet are dropped. Its other request is interrupted.
        """
        with self._lock:
            process = self._process
            if process is None or (exchange is not None and exchange.process is not process):
                return
            self._process, self.is_ready = None, False
            others = [one for one in self._exchanges.values() if one.process is process and one is not exchange]
        for other in others:
            other.put(Interrupted())
        process.kill()
