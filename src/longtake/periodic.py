"""A background thread that calls one function again and again until it is stopped."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Repeating:
    """Calls `work` in a daemon thread, first at once, then after the number of seconds that each call returns.

    If a call raises, the error is logged in a line that starts with `failure`, and the next call follows after
    `retry_s` seconds. An error that is not `is_temporary` is logged with its traceback.
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
        """Set once `stop` is called, so that a long call of `work` can end early."""

    def start(self) -> None:
        """Starts the thread. Raises RuntimeError if it was started before."""
        self._thread.start()

    def wake(self) -> None:
        """Makes the next call start now; if one is running, another follows it immediately."""
        self._woken.set()

    def stop(self) -> None:
        """Ends the loop and waits for the running call to return. Does nothing if the thread was never started."""
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
