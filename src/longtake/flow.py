"""Measures the rate of a transfer of bytes, and finds periods in which it was too low."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Period:
    """A part of a transfer's time: its length in seconds, and the average rate in bytes per second."""

    seconds: float
    rate: float


class Flow:
    """Checks a transfer in successive periods: the average rate of each must not be below a lowest rate.

    min_rate: the lowest allowed rate in bytes per second.
    period_s: the shortest length of a period in seconds. It ends at the first call of `slow_period` after that time.
    now: the present time in seconds, by any clock. The first period begins then.
    """

    def __init__(self, min_rate: float, period_s: float, now: float = 0.0) -> None:
        self._min_rate = min_rate
        self._period_s = period_s
        self.restart(now, 0)

    def restart(self, now: float, moved: int) -> None:
        """Begins a new period at once (a period is the time over which the rate is measured). The rate of the period
        that ends by this is not checked.

        now: the present time in seconds, by the same clock as in the constructor.
        moved: the count of moved bytes at this moment. It may be any number, such as 0. Later calls of `slow_period`
            must go on with this count.
        """
        self._since, self._moved = now, moved

    def slow_period(self, now: float, moved: int) -> Period | None:
        """Returns the present period if it is over and its rate was below the lowest allowed one, otherwise None.

        If the present period is over, the next one begins.

        now: the present time in seconds.
        moved: the count of moved bytes: the number that the last call of `restart` was given (0 if there was none),
            plus all bytes that were moved since that call.
        """
        seconds = now - self._since
        if seconds < self._period_s:
            return None
        rate = (moved - self._moved) / seconds
        self.restart(now, moved)
        return Period(seconds, rate) if rate < self._min_rate else None
