"""Collects the log lines of a running request until they are stored in the database."""

import time
from collections.abc import Callable, Mapping

from longtake.queue.requests import LogLine
from longtake.worker.messages import Printed, ProgressReport

STORE_EVERY_S = 0.05
"""Seconds between two writes of one request's log lines, so that a fast worker does not cause a write per line."""

RETRY_S = 0.5
"""Seconds until the next write after one has failed."""

MAX_LINES = 1000
"""Maximum number of one request's log lines in memory while the database is unreachable. Older lines are dropped."""


class RequestLog:
    """The log lines of a running request that are not in the database yet.

    They are stored several at a time, to save transactions.
    """

    def __init__(self) -> None:
        self.lines: list[LogLine] = []
        self._store_at = 0.0

    def add(self, line: LogLine) -> None:
        self.lines.append(line)

    @property
    def due_at(self) -> float:
        """The time at which `store` should be called next, in seconds of the monotonic clock.

        It is infinite if there are no lines.
        """
        return self._store_at if self.lines else float("inf")

    def store(self, write: Callable[[list[LogLine]], bool]) -> None:
        """Passes all lines to `write`, which stores them in the database and returns True if that succeeded.

        If it returns True, the lines are removed from this object. If it returns False, the last 1000 lines (MAX_LINES)
        are kept, and `due_at` says when to call `store` again.
        """
        if write(self.lines):
            self.lines = []
            self._store_at = time.monotonic() + STORE_EVERY_S
        else:
            self.lines = self.lines[-MAX_LINES:]
            self._store_at = time.monotonic() + RETRY_S


def progress_line(report: ProgressReport) -> LogLine:
    """Returns a progress report as a log line. The stage and the numbers of steps and windows are its labels."""
    names = ("stage", "step", "steps", "window", "windows")
    return log_line(report.sentence, labels={name: str(getattr(report, name)) for name in names})


def printed_line(printed: Printed) -> LogLine:
    """Returns a line that the worker process printed as a log line with the level STDOUT."""
    return log_line(printed.text, level="STDOUT")


def log_line(text: str, *, level: str = "INFO", labels: Mapping[str, str] = {}) -> LogLine:
    """Returns a log line with the current time. NUL characters are removed, because PostgreSQL cannot store them."""
    return LogLine(time.time(), level, text.replace("\0", ""), labels)
