"""The time of day for deadlines and stored times. A jump of the system's clock is not believed at once.

A clock that is wrong for a few seconds must not expire files and requests. So the time goes on evenly after a jump, as
measured by a clock that nobody can set. If the system's clock then runs evenly for ten minutes, it is believed.

At its start a server has no earlier time to compare. So it names the newest time that it finds stored (see `doubt`).
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from longtake.system import elapsed_s

log = logging.getLogger(__name__)

JUMP_S = 60.0
"""Largest difference in seconds that is believed at once. Corrections of a clock that runs are smaller."""
SETTLE_S = 600.0
"""Seconds for which the system's clock must run evenly after a jump until it is believed."""
DOUBT_S = 24 * 3600.0
"""If the newest stored time is older than this number of seconds at a start, the clock may be wrong."""


@dataclass(frozen=True)
class _Jump:
    """A jump that is not believed yet.

    `offset_s`: the system's time after the jump, minus the elapsed time (of the clock that never jumps).
    `at`: the elapsed time at which the jump was noticed.
    """

    offset_s: float
    at: float


class Clock:
    """A clock of Unix time. After a jump of the system's clock it goes on as before for ten minutes. Thread-safe.

    `wall`: returns the system's time as Unix time in seconds.
    `elapsed`: returns the seconds since a fixed moment in the past, and never jumps.
    """

    def __init__(self, wall: Callable[[], float], elapsed: Callable[[], float]) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._lock = threading.Lock()
        self._offset_s = wall() - elapsed()
        self._jump: _Jump | None = None
        self._doubted_since: float | None = None
        self._known = 0.0

    def now(self) -> float:
        """Returns the Unix time in seconds. If the system's clock jumps, the time goes on as if it had not.

        The system's clock is followed again when it has jumped back, or has run evenly for ten minutes (SETTLE_S).
        """
        with self._lock:
            elapsed = self._elapsed()
            self._compare(self._wall() - elapsed, elapsed)
            return elapsed + self._offset_s

    def is_steady(self) -> bool:
        """Returns False while a jump of the system's clock is not believed yet, or its time is in doubt.

        Nothing should be deleted while it is False.
        """
        self.now()
        return self._jump is None and self._doubted_since is None

    def doubt(self, known: float) -> None:
        """Compares the time with `known`, the newest time that is stored, as Unix time.

        If more than a day (DOUBT_S) lies between them, the clock may be wrong, or nothing ran for so long. Then the
        time counts as unsteady until the system's clock has run evenly for ten minutes (SETTLE_S). If it jumps
        meanwhile, as when somebody sets it right, it is followed at once.
        """
        ahead_s = self.now() - known
        if ahead_s <= DOUBT_S:
            return
        with self._lock:
            self._doubted_since, self._known = self._elapsed(), known
        log.warning(
            "The system's clock is %s of all that is stored. Nothing expired is deleted until it has run evenly for "
            "%d minutes. If it is wrong, set it now.",
            _difference(ahead_s),
            SETTLE_S / 60,
        )

    def _compare(self, offset_s: float, elapsed: float) -> None:
        """Decides whether this clock follows the system's clock.

        - If the two differ by less than a minute (JUMP_S), it follows.
        - If they differ by more, the system's clock has jumped. Then it follows only when the system's clock has run
          evenly for ten minutes (SETTLE_S) since the jump.

        offset_s: the system's time minus `elapsed`.
        elapsed: the result of the function `elapsed` at the same moment.
        """
        jump, ahead_s = self._jump, offset_s - self._offset_s
        if self._doubted_since is not None:
            self._compare_in_doubt(offset_s, elapsed)
        elif abs(ahead_s) < JUMP_S:
            if jump is not None:
                log.warning("The system's clock is back. Expired files and requests are deleted again.")
            self._offset_s, self._jump = offset_s, None
        elif jump is None or abs(offset_s - jump.offset_s) >= JUMP_S:
            self._jump = _Jump(offset_s, elapsed)
            log.warning(
                "The system's clock jumped %s. Times go on as before, and nothing expired is deleted, until it is back "
                "or has run evenly for %d minutes.",
                _difference(ahead_s),
                SETTLE_S / 60,
            )
        elif elapsed - jump.at >= SETTLE_S:
            self._offset_s, self._jump = offset_s, None
            log.warning("The system's clock is believed: from now on all times are %s.", _difference(ahead_s))

    def _compare_in_doubt(self, offset_s: float, elapsed: float) -> None:
        """Follows the system's clock, and decides whether its time is still in doubt.

        The arguments are those of `_compare`.
        """
        assert self._doubted_since is not None
        jumped = abs(offset_s - self._offset_s) >= JUMP_S
        self._offset_s = offset_s
        if jumped and offset_s + elapsed - self._known <= DOUBT_S:
            self._doubted_since = None
            log.warning("The system's clock was set, and is not in doubt any more.")
        elif jumped:
            self._doubted_since = elapsed
        elif elapsed - self._doubted_since >= SETTLE_S:
            self._doubted_since = None
            log.warning("The system's clock is believed. Expired files and requests are deleted again.")


def _difference(ahead_s: float) -> str:
    """Returns a difference of two times as text for people, such as "8.0 days ahead" or "70 seconds back".

    ahead_s: the difference in seconds; negative means back.
    """
    size, direction = abs(ahead_s), "ahead" if ahead_s > 0 else "back"
    for name, seconds in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if size >= 2 * seconds:
            return f"{size / seconds:.1f} {name} {direction}"
    return f"{size:.0f} seconds {direction}"


_clock = Clock(lambda: time.time(), elapsed_s)


def now() -> float:
    """Returns the Unix time in seconds for deadlines and stored times.

    A jump of the system's clock is ignored until that clock has jumped back or run evenly for ten minutes (SETTLE_S).
    """
    return _clock.now()


def is_steady() -> bool:
    """Returns False while a jump of the system's clock is not believed: delete nothing then. Otherwise returns True."""
    return _clock.is_steady()


def doubt(known: float) -> None:
    """Doubts the time for ten minutes if it is more than a day after `known`, the newest stored time (Unix time)."""
    _clock.doubt(known)
