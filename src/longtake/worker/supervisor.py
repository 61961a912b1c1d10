"""Keeps the worker process of one slot (a device with its process and thread) running and receives its messages."""

import logging
import os
import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Literal

from longtake.settings import Settings
from longtake.worker.messages import CancelRequested, Died, FromProcess, Ready, ToWorker, Watched, Woken
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

SlotMessage = FromProcess | Woken | CancelRequested


class Supervisor:
    """Starts the worker process of a slot (a device with its process and thread), starts a new one after it has ended,
    and receives the process's messages.

    `name`: the slot's name for logs.
    `device`: the device that the process uses, such as "cuda:0".
    `command`: the program of the process and its arguments.
    `settings`: has the data folder, and the seconds after which a silent process counts as stalled.

    Only the slot's thread may use this object, except for the method `post`, which any thread may call.
    """

    def __init__(self, name: str, device: str, command: Sequence[str], settings: Settings) -> None:
        self.name = name
        self.is_ready = False
        """True if the worker process has sent `Ready` and can carry out requests."""
        self._environment = {"LONGTAKE_DEVICE": device, "LONGTAKE_DATA_DIR": str(settings.data_dir)}
        self._command = command
        self._stall_s = settings.stall_s
        self._mailbox: SimpleQueue[tuple[WorkerProcess | None, SlotMessage]] = SimpleQueue()
        self._process: WorkerProcess | None = None
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

    @property
    def stalls_at(self) -> float:
        """The time from which the process counts as stalled, in seconds of the monotonic clock.

        It is `stall_s` seconds (a setting) after the start of the process or the last message from or to it. Without
        a process it has no meaning.
        """
        return self._active_at + self._stall_s

    def post(self, message: Woken | CancelRequested) -> None:
        """Delivers a message to the thread that controls the worker process. May be called from any thread."""
        self._mailbox.put((None, message))

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
        self._next_start_at = now + min(FIRST_RESTART_PAUSE_S * 2**self._starts, MAX_RESTART_PAUSE_S)
        self._starts += 1
        environment = os.environ | self._environment
        self._process = WorkerProcess(self._command, environment, lambda *received: self._mailbox.put(received))
        self._active_at = now

    def kill_if_stalled(self) -> bool:
        """Kills the worker process if it counts as stalled (see `stalls_at`). Returns True if it was killed."""
        if self._process is None or time.monotonic() < self.stalls_at:
            return False
        log.error("The worker process of %s was silent for %g s; killing it.", self.name, self._stall_s)
        self.kill()
        return True

    def receive(self, timeout_s: float) -> SlotMessage | None:
        """Waits at most `timeout_s` seconds for a message and returns it. Returns None if no message arrives.

        Also returns None if the message comes from an earlier process.
        """
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
        """Sends a message to the worker process. Does nothing if none runs."""
        if self._process is not None:
            self._process.send(message)
            if not isinstance(message, Watched):  # A question for previews must not keep a hanging process alive.
                self._active_at = time.monotonic()

    def kill(self) -> None:
        """Kills the worker process, if one runs. Its messages that were not received yet are dropped."""
        if self._process is not None:
            self._process.kill()
        self._process, self.is_ready = None, False

    def end(self) -> None:
        """Closes the process's standard input, and kills the process if it has not ended after one second (END_S).

        Does nothing if no process runs.
        """
        process, self._process, self.is_ready = self._process, None, False
        if process is None:
            return
        process.close()
        if not process.has_ended(within_s=END_S):
            process.kill()
