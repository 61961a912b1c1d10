"""Runs work in a background thread while the model generates, such as writing the source's frames."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from longtake.threads import start
from longtake.video import OnProgress, Progress

_POLL_S = 0.05
"""Seconds between two reports of progress while the caller waits for the work."""


class _Stopped(Exception):
    """The work must end, because its result is not needed any more."""


class Background:
    """A context manager that runs one piece of work in a thread. At the end of the `with` block the work is stopped.

    The thread reports no progress itself, because the callbacks of a job are made for one thread. `wait` reports it.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._last: Progress | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def is_running(self) -> bool:
        """True if the work has begun and not ended."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, work: Callable[[OnProgress], None]) -> None:
        """Starts the work in a thread and returns at once. Raises OSError if the system allows no more threads.

        `work` is called with a callback that it must call often, with its progress. The callback ends the work by
        raising an exception when the `with` block ends.
        """

        def run() -> None:
            try:
                work(self._note)
            except _Stopped:
                pass
            except BaseException as error:
                self._error = error

        thread = threading.Thread(target=run, name="write source", daemon=True)
        start(thread)
        self._thread = thread

    def wait(self, on_progress: OnProgress) -> None:
        """Waits until the work has ended, and reports its progress meanwhile. Raises the error with which it failed."""
        if self._thread is None:
            return
        while self._thread.is_alive():
            if self._last is not None:
                on_progress(self._last)
            self._thread.join(_POLL_S)
        self._raise_error()

    def watched(self, on_progress: OnProgress) -> OnProgress:
        """Returns a callback that passes reports on to `on_progress`, but raises the error of the work in the thread,
        if that has failed."""

        def report(progress: Progress) -> None:
            self._raise_error()
            on_progress(progress)

        return report

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _note(self, progress: Progress) -> None:
        if self._stopping.is_set():
            raise _Stopped
        self._last = progress
