"""The time of day for deadlines and stored times. A jump of the system's clock is not believed at once.

A clock that is wrong for a few seconds must not expire files and requests. So the time goes on evenly after a jump, as
measured by a clock that nobody can set. If the system's clock then runs evenly for ten minutes, it is believed.
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

    def now(self) -> float:
        """Returns the Unix time in seconds. If the system's clock jumps, the time goes on as if it had not.

        The system's clock is followed again when it has jumped back, or has run evenly for ten minutes (SETTLE_S).
        """
        with self._lock:
            elapsed = self._elapsed()
            self._compare(self._wall() - elapsed, elapsed)
            return elapsed + self._offset_s

    def is_steady(self) -> bool:
        """Returns False while a jump of the system's clock is not believed yet, otherwise True.

        Nothing should be deleted while it is False.
        """
        self.now()
        return self._jump is None

    def _compare(self, offset_s: float, elapsed: float) -> None:
        """Decides whether this clock follows the system's clock.

        - If the two differ by less than a minute (JUMP_S), it follows.
        - If they differ by more, the system's clock has jumped. Then it follows only when the system's clock has run
          evenly for ten minutes (SETTLE_S) since the jump.

        offset_s: the system's time minus `elapsed`.
        elapsed: the result of the function `elapsed` at the same moment.
        """
        jump, ahead_s = self._jump, offset_s - self._offset_s
        if abs(ahead_s) < JUMP_S:
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
