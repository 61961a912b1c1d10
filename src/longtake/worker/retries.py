"""Repeats work on a request's row after temporary failures of the database or the disk."""

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from longtake.database.connection import RetriesStopped, is_temporary, retry_until_stopped

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class Retries:
    """Repeats work on a request's row after temporary failures of the database or the disk.

    `request_id`: the request, for the log.
    `stopping`: an event that is set when the server stops. It ends the repetitions.
    """

    def __init__(self, request_id: str, stopping: threading.Event) -> None:
        self._request_id = request_id
        self._stopping = stopping

    def until_done(self, do: Callable[[], Result]) -> Result:
        """Returns the result of `do()`. It is called again after each temporary error.

        Raises RetriesStopped if the server stops while it fails.
        """
        return retry_until_stopped(do, self._stopping)

    def or_else(self, do: Callable[[], Result], otherwise: Callable[[], Result], *, failure: str) -> Result:
        """Returns the result of `do()`, or of `otherwise()` if `do()` raises an error that is not temporary.

        After a temporary error of either function, the same function is called again.

        `failure`: the line that is logged before `otherwise` is called. The request's id replaces the `%s` in it.

        Raises RetriesStopped if the server stops while a function fails with temporary errors.
        """
        try:
            return self.until_done(do)
        except RetriesStopped:
            raise
        except Exception:
            log.exception(failure, self._request_id)
            return self.until_done(otherwise)

    def once(self, do: Callable[[], Result], otherwise: Result, *, action: str) -> Result:
        """Returns the result of `do()`, or the value `otherwise` if `do()` raises an error.

        Logs the error unless it is temporary. `action` is what `do` does, for the log, such as "reading its row".
        """
        try:
            return do()
        except Exception as error:
            if not is_temporary(error):
                log.exception("Request %s: %s failed with an unexpected error.", self._request_id, action)
            return otherwise
