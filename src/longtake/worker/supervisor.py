"""Keeps the worker process of one slot running and receives its messages."""

import logging
import os
import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Literal

from longtake.settings import Settings
from longtake.worker.messages import CancelRequested, Died, FromProcess, Ready, ToWorker, Woken
from longtake.worker.process import WorkerProcess

log = logging.getLogger(__name__)

FIRST_RESTART_PAUSE_S = 0.2
"""Seconds between the first two starts of a worker process. The pause doubles until a process becomes ready."""

MAX_RESTART_PAUSE_S = 30.0
"""The longest pause in seconds between two starts."""

END_S = 1.0
"""Seconds that a worker process gets to end by itself after its input was closed."""

ProcessState = Literal["starting", "failing", "idle"]
"""A worker process's state: not ready yet, not ready after several starts, or ready for a request."""

SlotMessage = FromProcess | Woken | CancelRequested


class Supervisor:
    """Starts a slot's worker process, starts it again after it died, and receives its messages.

    Only the slot's thread may use it, except for `post`. A process that is silent for `stall_s` seconds before it is
    ready is killed.
    """

    def __init__(self, name: str, device: str, command: Sequence[str], settings: Settings) -> None:
        self.name = name
        self.is_ready = False
        """True if the worker process can carry out a request."""
        self._environment = {"LONGTAKE_DEVICE": device, "LONGTAKE_DATA_DIR": str(settings.data_dir)}
        self._command = command
        self._stall_s = settings.stall_s
        self._mailbox: SimpleQueue[tuple[WorkerProcess | None, SlotMessage]] = SimpleQueue()
        self._process: WorkerProcess | None = None
        self._active_at = 0.0
        self._next_start_at = 0.0
        self._starts = 0  # since a process was last ready

    @property
    def state(self) -> ProcessState:
        """The process's state. It is "failing" from the third start on if no process has become ready."""
        if self.is_ready:
            return "idle"
        return "failing" if self._starts > 2 else "starting"

    @property
    def stalls_at(self) -> float:
        """The monotonic time from which on a process that stays silent counts as stalled."""
        return self._active_at + self._stall_s

    def post(self, message: Woken | CancelRequested) -> None:
        """Delivers a message to the slot's thread, from any other one."""
        self._mailbox.put((None, message))

    def has_messages(self) -> bool:
        return not self._mailbox.empty()

    def start_if_needed(self) -> None:
        """Starts a worker process if there is none and the pause after the last start is over."""
        now = time.monotonic()
        if self._process is not None or now < self._next_start_at:
            return
        self._next_start_at = now + min(FIRST_RESTART_PAUSE_S * 2**self._starts, MAX_RESTART_PAUSE_S)
        self._starts += 1
        environment = os.environ | self._environment
        self._process = WorkerProcess(self._command, environment, lambda *received: self._mailbox.put(received))
        self._active_at = now

    def kill_if_stalled(self) -> bool:
        """Kills a process that was silent for `stall_s` seconds. Returns True if it did."""
        if self._process is None or time.monotonic() < self.stalls_at:
            return False
        log.error("The worker process of %s was silent for %g s; killing it.", self.name, self._stall_s)
        self.kill()
        return True

    def receive(self, timeout_s: float) -> SlotMessage | None:
        """Returns the next message. None after `timeout_s` seconds, or if it is from an earlier process."""
        try:
            process, message = self._mailbox.get(timeout=max(timeout_s, 0))
        except Empty:
            return None
        if process is None:
            return message
        if process is not self._process:
            return None
        self._active_at = time.monotonic()
        match message:
            case Ready():
                self.is_ready, self._starts = True, 0
            case Died(reason):
                log.error("The worker process of %s ended: %s.", self.name, reason)
                self._process, self.is_ready = None, False
        return message

    def send(self, message: ToWorker) -> None:
        """Sends a message to the process, if there is one."""
        if self._process is not None:
            self._process.send(message)
            self._active_at = time.monotonic()

    def kill(self) -> None:
        """Kills the process; its last messages are dropped."""
        if self._process is not None:
            self._process.kill()
        self._process, self.is_ready = None, False

    def end(self) -> None:
        """Ends the process, by force if it does not end by itself."""
        process, self._process, self.is_ready = self._process, None, False
        if process is None:
            return
        process.close()
        if not process.has_ended(within_s=END_S):
            process.kill()
