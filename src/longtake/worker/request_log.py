"""Collects the log lines and the progress of a running request until they are stored in the database."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from longtake import clock
from longtake.printable import printable
from longtake.queue.requests import LogLine
from longtake.worker.messages import Printed, ProgressReport

STORE_EVERY_S = 0.05
"""Seconds between two writes of one request's log lines and progress, so that a fast worker causes few writes."""

SHORT_STAGES = frozenset(("encode",))
"""Names of the stages of a request's work that are too short for a log line of their own."""

RETRY_S = 0.5
"""Seconds until log lines and progress are written again after a failed write."""

MAX_LINES = 1000
"""Maximum number of one request's log lines in memory while the database is unreachable. Older lines are dropped."""


Write = Callable[[list[LogLine], Mapping[str, Any] | None], bool]
"""A function that stores log lines and the progress (None: unchanged). Returns False if it could not store them."""


class RequestLog:
    """The log lines and the progress of a running request that are not in the database yet.

    The log is short, because clients read all of it again and again: each message is written once, and each long stage
    of the work has one line. The steps of a stage change only the progress.

    `known`: the messages that the log has already, from an earlier attempt. They are not added again.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        self.lines: list[LogLine] = []
        self.progress: dict[str, Any] | None = None
        self._known = set(known)
        self._store_at = 0.0

    def add(self, line: LogLine) -> None:
        """Adds a line, unless the log has a line with this message already."""
        if line.message not in self._known:
            self._known.add(line.message)
            self.lines.append(line)

    def report(self, report: ProgressReport) -> None:
        """Replaces the progress by that of `report`. Also adds a log line about the stage, if the log has none yet.

        Very short stages (SHORT_STAGES) get no line.
        """
        self.progress = {
            "message": report.sentence,
            "stage": report.stage,
            "step": report.step,
            "steps": report.steps,
            "window": report.window,
            "windows": report.windows,
            "pass": report.pass_number,
            "passes": report.passes,
        }
        if report.stage not in SHORT_STAGES:
            self.add(stage_line(report))

    @property
    def due_at(self) -> float:
        """The time at which `store` should be called next, in seconds of the monotonic clock.

        It is infinite if there is nothing to store.
        """
        return self._store_at if self.lines or self.progress is not None else float("inf")

    def store(self, write: Write) -> None:
        """Calls `write` with all lines and the progress.

        If `write` returns True, the lines and the progress are removed from this object. If it returns False, the last
        1000 lines (MAX_LINES) and the progress are kept, and `due_at` says when to call `store` again.

        `write`: stores lines and the progress; a progress of None means that it is unchanged. Returns False if it could
            not.
        """
        if write(self.lines, self.progress):
            self.lines, self.progress = [], None
            self._store_at = time.monotonic() + STORE_EVERY_S
        else:
            self.lines = self.lines[-MAX_LINES:]
            self._store_at = time.monotonic() + RETRY_S


def stage_line(report: ProgressReport) -> LogLine:
    """Returns the log line that says that a stage of the work begins. Its labels are `stage` (its name), and `window`
    and `windows`: the number of the window (frames that are sampled together), from 1, and of all windows."""
    names = ("stage", "window", "windows")
    return log_line(report.sentence, labels={name: str(getattr(report, name)) for name in names})


def printed_line(printed: Printed) -> LogLine:
    """Converts a line that the worker process printed to a log line with the level STDOUT."""
    return log_line(printed.text, level="STDOUT")


def log_line(text: str, *, level: str = "INFO", labels: Mapping[str, str] = {}) -> LogLine:
    """Returns a log line with this text and the current time. Unprintable characters become escapes (see `printable`).

    `level`: INFO, or STDOUT for a line that a library printed.
    `labels`: the stage of the work and its window (frames that are sampled together), for a line that says that a stage
        begins; otherwise empty.
    """
    return LogLine(clock.now(), level, printable(text), labels)
