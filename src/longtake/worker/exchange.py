"""The exchange of messages about one request with a worker process, which may have two requests at a time."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from queue import Empty, SimpleQueue
from threading import Event

from longtake.turn import TurnState
from longtake.worker.messages import (
    Cancel,
    CancelRequested,
    DeviceUse,
    Died,
    Done,
    Failed,
    FileFound,
    Interrupted,
    MachineFailed,
    OfRequest,
    Printed,
    Proceed,
    Run,
    Watched,
    Woken,
)
from longtake.worker.process import WorkerProcess

log = logging.getLogger(__name__)

ForAttempt = OfRequest | Printed | Died | Interrupted | CancelRequested | Woken
"""A message for the attempt to carry out a request."""

STOPPED_EVERY_S = 0.25
"""Seconds between two looks at whether the server stops, while a worker process has to stop its work on a request."""


class Exchange:
    """The exchange of messages about one request with a worker process.

    `process`: the process; None if it has ended already.
    `request_id`: the request.
    `stall_s`: the number of seconds after which a silent process counts as stalled.
    `kill`: called with this object to kill the process, if it still runs.
    `is_alone`: a function that returns True if the process has no other request.

    Only the thread of the attempt may use this object, except for the method `put` and the attribute `device_state`,
    which any thread may use.
    """

    def __init__(
        self,
        process: WorkerProcess | None,
        request_id: str,
        stall_s: float,
        kill: Callable[["Exchange"], None],
        is_alone: Callable[[], bool],
    ) -> None:
        self.process = process
        self.request_id = request_id
        self.device_state: TurnState | None = None
        """The state of the request's turn on the device, if its process has reported one."""
        self._stall_s = stall_s
        self._kill = kill
        self._is_alone = is_alone
        self._mailbox: SimpleQueue[ForAttempt] = SimpleQueue()
        self._active_at = time.monotonic()

    @property
    def stalls_at(self) -> float:
        """The time from which the process counts as stalled, in seconds of the monotonic clock.

        It is `stall_s` seconds after the last message about the request. While the request waits for the device, which
        another request uses, the process does not count as stalled because of it.
        """
        return math.inf if self.device_state == "waits" else self._active_at + self._stall_s

    @property
    def has_used_device(self) -> bool:
        """True if the process has reported that the request uses the device, or has used it."""
        return self.device_state in ("uses", "soon free")

    def put(self, message: ForAttempt) -> None:
        """Delivers a message to the attempt. May be called from any thread."""
        match message:
            case DeviceUse(state):
                # In this order, because the attempt's thread may ask for `stalls_at` between the two.
                self._active_at = time.monotonic()
                self.device_state = state
            case _:
                self._mailbox.put(message)

    def receive(self, timeout_s: float) -> ForAttempt | None:
        """Waits at most `timeout_s` seconds for a message and returns it. Returns None if no message arrives."""
        try:
            message = self._mailbox.get(timeout=max(timeout_s, 0))
        except Empty:
            return None
        self._active_at = time.monotonic()
        return message

    def send(self, message: Run | Proceed | FileFound | Cancel | Watched) -> None:
        """Sends a message about the request to the worker process. Does nothing if the process has ended."""
        if self.process is not None:
            self.process.send(replace(message, request_id=self.request_id))
            if not isinstance(message, Watched):  # A question for previews must not keep a hanging process alive.
                self._active_at = time.monotonic()

    def stop(self, grace_s: float, stopping: Event, *, spares_other: bool = False) -> None:
        """Tells the worker process to stop its work on the request, and waits until it has stopped.

        Kills the process if it still works after `grace_s` seconds, or when the server stops (`stopping` is set).

        `spares_other`: if True, the seconds count from the end of the other request, which a killed process would
            interrupt.
        """
        self.send(Cancel(self.request_id))
        until = time.monotonic() + grace_s
        while not stopping.is_set():
            now = time.monotonic()
            if spares_other and not self._is_alone():
                until = now + grace_s
            if now >= until:
                break
            message = self.receive(min(until - now, STOPPED_EVERY_S))
            if isinstance(message, Done | Failed | MachineFailed | Died | Interrupted):
                return
        self.kill()

    def kill_if_stalled(self) -> bool:
        """Kills the worker process if it counts as stalled (see `stalls_at`). Returns True if it was killed."""
        if time.monotonic() < self.stalls_at:
            return False
        log.error("The worker process was silent about request %s for %g s.", self.request_id, self._stall_s)
        self.kill()
        return True

    def kill(self) -> None:
        """Kills the worker process, if it still runs. Another request that it carries out is interrupted."""
        self._kill(self)
