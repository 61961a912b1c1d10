"""A job's turn on a device that several jobs of a process use one after the other."""

import threading
from collections.abc import Callable
from typing import Literal

from longtake.video import OnProgress, Progress

TurnState = Literal["waits", "uses", "soon free"]
"""The state of a job's turn on the device.

"waits": the job needs the device, but another job uses it.
"uses": the job uses the device.
"soon free": the job still uses it, but only for its last sampling step and for decoding.
"""

_POLL_S = 0.05
"""Seconds between two reports of progress while a job waits for its turn."""

_WAITING = Progress("waiting", 0, 1)


def _ignore_state(_: TurnState) -> None:
    pass


class Turn:
    """A job's turn on its device. Only the thread that carries out the job may use this object.

    `device`: the lock of the device that the job shares with others; None for a device that it has for itself.
    `on_state`: called with each new state of the turn (see `TurnState`).
    """

    def __init__(
        self, device: "threading.Lock | None" = None, on_state: Callable[[TurnState], None] = _ignore_state
    ) -> None:
        self.is_shared = device is not None
        """True if other jobs may wait for the device."""
        self._device = device or threading.Lock()
        self.is_mine = False
        """True if the turn has begun and not ended."""
        self._on_state = on_state

    def begin(self, on_progress: OnProgress) -> bool:
        """Waits until no other job uses the device. Returns True if the job had to wait.

        A job that is tried again in its turn keeps the device.

        `on_progress`: called again and again while the job waits. It may raise an exception to end the waiting.
        """
        must_wait = not self.is_mine and not self._device.acquire(blocking=False)
        if must_wait:
            self._on_state("waits")
            on_progress(_WAITING)
            while not self._device.acquire(timeout=_POLL_S):
                on_progress(_WAITING)
        self.is_mine = True
        self._on_state("uses")
        return must_wait

    def watched(self, on_progress: OnProgress) -> OnProgress:
        """Returns a callback that passes the job's reports on to `on_progress`. When the last step of sampling begins,
        the turn's state becomes "soon free"."""

        def report(progress: Progress) -> None:
            is_last_pass = (progress.window, progress.pass_number) == (progress.windows, progress.passes)
            if progress.kind == "sampling" and is_last_pass and progress.step >= progress.steps - 1:
                self._on_state("soon free")
            on_progress(progress)

        return report

    def end(self) -> None:
        """Lets another job use the device. Does nothing if the turn has ended or not begun.

        Before that, the job must free its memory on the device.
        """
        if self.is_mine:
            self.is_mine = False
            self._device.release()
