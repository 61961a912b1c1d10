"""A background thread that calls one function repeatedly until the thread is stopped."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Repeating:
    """Calls a function repeatedly in a daemon thread. The first call follows `start` immediately.

    name: name of the thread.
    work: the function. It returns the number of seconds until its next call.
    failure: start of the line that is logged if a call raises an error.
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
                reason = str(error).partition("\n")[0]
                if self._is_temporary(error):
                    log.warning("%s: %s", self._failure, reason)
                else:
                    log.exception("%s: %s", self._failure, reason)
                delay_s = self._retry_s
            if not self.stopping.is_set():
                self._woken.wait(delay_s)
