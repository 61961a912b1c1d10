"""A background thread that calls one function again and again until it is stopped, and logs its failures sparingly."""

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


LOG_EVERY_S = 60.0
"""Seconds after which a failure is logged again while something fails again and again for the same reason."""


class Failures:
    """The failures of something that is tried again and again. Says which are logged, so that a long outage of the
    database does not fill the log. Not safe to use from several threads.
    """

    def __init__(self) -> None:
        self._reason: str | None = None
        self._log_again_at = 0.0

    def news(self, error: Exception) -> str | None:
        """Returns the first line of an error that must be logged, because it differs from that of the last failure or a
        minute has passed; otherwise None."""
        reason, now = str(error).partition("\n")[0], time.monotonic()
        if reason == self._reason and now < self._log_again_at:
            return None
        self._reason, self._log_again_at = reason, now + LOG_EVERY_S
        return reason

    def have_ended(self) -> bool:
        """Returns True if there was a failure since the last call. Call it after each success."""
        had_one, self._reason = self._reason is not None, None
        return had_one


class Repeating:
    """Calls a function repeatedly in a daemon thread. The first call follows `start` immediately.

    name: name of the thread.
    work: the function. It returns the number of seconds until its next call.
    failure: start of the line that is logged if a call raises an error. While calls fail for the same reason, it is
        logged once a minute, and when a call succeeds again, a line says so.
    is_temporary: returns True for an error that is logged without its traceback.
    retry_s: number of seconds from a call that raised an error to the next call.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], float],
        *,
        failure: str,
        is_temporary: Callable[[Exception], bool],
        retry_s: float = 1.0,
    ) -> None:
        self._work = work
        self._failure = failure
        self._is_temporary = is_temporary
        self._retry_s = retry_s
        self._failures = Failures()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.stopping = threading.Event()
        """Set when `stop` is called. A long call of `work` can check it and end early."""

    def start(self) -> None:
        """Starts the thread. Raises RuntimeError if it was started before."""
        self._thread.start()

    def wake(self) -> None:
        """Makes the thread call its function without further delay. If a call is running, the next one follows it."""
        self._woken.set()

    def stop(self) -> None:
        """Ends the thread. Waits until a running call has returned; does not wait if the thread was never started."""
        self.stopping.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self.stopping.is_set():
            self._woken.clear()
            try:
                delay_s = self._work()
            except Exception as error:
                self._log(error)
                delay_s = self._retry_s
            else:
                if self._failures.have_ended():
                    log.warning("This is over: %s.", self._failure)
            if not self.stopping.is_set():
                self._woken.wait(delay_s)

    def _log(self, error: Exception) -> None:
        reason = self._failures.news(error)
        if reason is None:
            return
        if self._is_temporary(error):
            log.warning("%s: %s", self._failure, reason)
        else:
            log.exception("%s: %s", self._failure, reason)
