"""The time for deadlines and stored times: the system's clock, but a sudden jump of it is ignored for ten minutes.

A clock that is wrong for a few seconds must not expire files and requests. So after a jump the time continues as
measured by a monotonic clock, which nobody can set. If the system's clock then runs for ten minutes without another
jump, its time is accepted.

A server that starts has no earlier time to compare with. It passes the newest time in its database to `doubt` instead.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from longtake.system import elapsed_s

log = logging.getLogger(__name__)

JUMP_S = 60.0
"""A change of the system's clock by this number of seconds or more is a jump. Ordinary corrections are smaller."""
SETTLE_S = 600.0
"""After a jump of the system's clock, the time is counted on as before. The system's time is used again when its clock
has run for this number of seconds without another jump."""
DOUBT_S = 24 * 3600.0
"""If the newest time in the database is more than this number of seconds ago when a server starts, the system's clock
may be wrong."""


@dataclass(frozen=True)
class _Jump:
    """A jump of the system's clock whose new time is not accepted yet.

    `offset_s`: the system's time minus the monotonic clock's, after the jump, in seconds.
    `at`: the time of the monotonic clock at which the jump was noticed.
    """

    offset_s: float
    at: float


class Clock:
    """A clock of Unix time that ignores a jump of the system's clock for ten minutes. Thread-safe.

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
        """Returns the Unix time in seconds. If the system's clock jumps, the time continues as if it had not.

        The system's time is used again when its clock has jumped back, or has run for ten minutes (SETTLE_S) without
        another jump.
        """
        with self._lock:
            elapsed = self._elapsed()
            self._compare(self._wall() - elapsed, elapsed)
            return elapsed + self._offset_s

    def is_steady(self) -> bool:
        """Returns False while the time may be wrong. Nothing that has expired should be deleted then.

        It is False after a jump of the system's clock, and after `doubt` was called with a time more than a day ago. It
        is True again when the clock was corrected, or has run for ten minutes (SETTLE_S) without another jump.
        """
        self.now()
        return self._jump is None and self._doubted_since is None

    def doubt(self, known: float) -> None:
        """Makes `is_steady` False if `known`, the newest stored time (Unix time), is more than a day (DOUBT_S) ago.

        Call it when a server starts. After such a gap, either no server ran for that long, or the system's clock is set
        wrong.

        `is_steady` is True again when the system's clock has run for ten minutes (SETTLE_S) without a jump, or jumps to
        a time at most a day after `known`. Until then `now` follows each jump at once, because somebody may correct the
        system's clock.
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
        """Updates this clock's offset from the monotonic clock, if the system's time is accepted.

        - It is accepted if it differs from this clock's time by less than a minute (JUMP_S).
        - If it differs by more, the system's clock has jumped. Then its time is accepted only when it has run for ten
          minutes (SETTLE_S) without another jump.

        offset_s: the system's time minus `elapsed`, both at the same moment.
        elapsed: the seconds since a fixed moment, by the monotonic clock, at the same moment.
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
        """Updates this clock's offset from the monotonic clock, and always accepts the system's time.

        It is used after `doubt` found that the system's time may be wrong. The doubt ends in two cases:
        - The system's clock jumps, by a minute (JUMP_S) or more, to a time at most a day after the newest stored time.
        - The system's clock runs for ten minutes (SETTLE_S) without a jump.

        offset_s: the system's time minus `elapsed`, both at the same moment.
        elapsed: the present time of the monotonic clock in seconds.
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

    A jump of the system's clock is ignored until that clock has jumped back, or has run for ten minutes (SETTLE_S)
    without another jump.
    """
    return _clock.now()


def is_steady() -> bool:
    """Returns False while the time may be wrong, as after a jump of the system's clock. Nothing should expire then."""
    return _clock.is_steady()


def doubt(known: float) -> None:
    """Makes `is_steady` return False for ten minutes if `known`, the newest Unix time in the database, is more than a
    day ago: the system's time may then be wrong, and nothing should expire."""
    _clock.doubt(known)
