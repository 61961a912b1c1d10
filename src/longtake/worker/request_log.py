"""The log lines of a running request on their way to the database."""

import time
from collections.abc import Callable, Mapping

from longtake.queue.requests import LogLine
from longtake.worker.messages import Printed, ProgressReport

STORE_EVERY_S = 0.05
"""Shortest time in seconds between two writes of one request's log lines."""

RETRY_S = 0.5
"""Seconds until the next try after the database refused log lines."""

MAX_LINES = 1000
"""Log lines of one request that are held while the database is unreachable; older ones are dropped."""


class RequestLog:
    """Log lines of a running request that are not stored yet. Lines are stored in batches, to save transactions."""

    def __init__(self) -> None:
        self.lines: list[LogLine] = []
        self._store_at = 0.0

    def add(self, line: LogLine) -> None:
        self.lines.append(line)

    @property
    def due_at(self) -> float:
        """The monotonic time at which lines have to be stored; infinite if there are none."""
        return self._store_at if self.lines else float("inf")

    def store(self, write: Callable[[list[LogLine]], bool]) -> None:
        """Passes the lines to `write`, which returns False if storing them failed. They are then tried again later."""
        if write(self.lines):
            self.lines = []
            self._store_at = time.monotonic() + STORE_EVERY_S
        else:
            self.lines = self.lines[-MAX_LINES:]
            self._store_at = time.monotonic() + RETRY_S


def progress_line(report: ProgressReport) -> LogLine:
    """Returns a progress report as a log line, with its numbers as labels."""
    names = ("stage", "step", "steps", "window", "windows")
    return log_line(report.sentence, labels={name: str(getattr(report, name)) for name in names})


def printed_line(printed: Printed) -> LogLine:
    """Returns a line of the worker's standard output as a log line."""
    return log_line(printed.text, level="STDOUT")


def log_line(text: str, *, level: str = "INFO", labels: Mapping[str, str] = {}) -> LogLine:
    """Returns a log line of the current time, without NUL characters, which PostgreSQL cannot store."""
    return LogLine(time.time(), level, text.replace("\0", ""), labels)
