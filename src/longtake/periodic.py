"""A background thread that calls one function repeatedly until the thread is stopped."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Repeating:
    """Calls `work` repeatedly in a daemon thread. `work` returns the number of seconds until its next call.

    The first call follows `start` immediately. If a call raises, the error is logged in a line that starts with
    `failure`, and the next call follows after `retry_s` seconds. If `is_temporary` returns False for the error, the
    traceback is logged, too.
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
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.stopping = threading.Event()
        """Set when `stop` is called. A long call of `work` can check it and end early."""

    def start(self) -> None:
        """Starts the thread. Raises RuntimeError if it was started before."""
        self._thread.start()

    def wake(self) -> None:
        """Starts the next call now instead of after the delay. If a call is running, another one follows it at once."""
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
                reason = str(error).partition("\n")[0]
                if self._is_temporary(error):
                    log.warning("%s: %s", self._failure, reason)
                else:
                    log.exception("%s: %s", self._failure, reason)
                delay_s = self._retry_s
            if not self.stopping.is_set():
                self._woken.wait(delay_s)
