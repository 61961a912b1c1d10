"""Budgets of keys: how many requests each may submit per minute, and how many bytes it may send per hour."""

import math
import time
from collections.abc import Callable

from longtake.service.responses import limit_reached
from longtake.settings import Settings

MINUTE_S, HOUR_S = 60.0, 3600.0


class Budget:
    """An amount that each key may use in a period.

    What a key has used comes back evenly: after a tenth of the period, a tenth of the amount may be used again.

    amount: the amount; None means that there is no limit.
    period_s: the period in seconds.
    clock: returns the time in seconds.

    Its methods may be called only in the thread of the event loop.
    """

    def __init__(self, amount: int | None, period_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._amount = amount
        self._period_s = period_s
        self._clock = clock
        self._used: dict[str, tuple[float, float]] = {}  # key -> (amount in use, time at which it was that)

    def use(self, key_id: str, amount: int) -> None:
        """Takes an amount from a key's budget, even if less than that is left."""
        if self._amount is not None:
            self._used[key_id] = (self._in_use(key_id) + amount, self._clock())

    def seconds_left(self, key_id: str) -> int:
        """Returns the number of seconds until at least 1 of a key's amount (such as one request) is left; 0 if it is
        left now.
        """
        if self._amount is None:
            return 0
        excess = self._in_use(key_id) + 1 - self._amount
        return max(0, math.ceil(excess * self._period_s / self._amount))

    def _in_use(self, key_id: str) -> float:
        used, at = self._used.get(key_id, (0.0, 0.0))
        return max(0.0, used - (self._clock() - at) * (self._amount or 0) / self._period_s)


class Budgets:
    """Two budgets for each key: requests per minute, and bytes per hour.

    settings: `key_requests_per_minute` and `key_bytes_per_hour` are the amounts; None means that there is no limit.
    """

    def __init__(self, settings: Settings) -> None:
        self._requests = Budget(settings.key_requests_per_minute, MINUTE_S)
        self._bytes = Budget(settings.key_bytes_per_hour, HOUR_S)

    def begin_request(self, key_id: str) -> None:
        """Counts a request that this key submits.

        Raises RequestFailed with status 429, and does not count the request, in these cases:
        - The key has submitted as many requests per minute as it may.
        - The key has sent as many bytes per hour as it may.
        """
        self.check_bytes(key_id)
        _check(self._requests, key_id, "submitted as many requests per minute")
        self._requests.use(key_id, 1)

    def check_bytes(self, key_id: str) -> None:
        """Raises RequestFailed with status 429 if this key has sent as many bytes per hour as it may."""
        _check(self._bytes, key_id, "sent as many bytes per hour")

    def use_bytes(self, key_id: str, count: int) -> None:
        """Counts bytes of a body or upload that this key has sent."""
        self._bytes.use(key_id, count)


def _check(budget: Budget, key_id: str, used: str) -> None:
    seconds = budget.seconds_left(key_id)
    if seconds:
        raise limit_reached(f"This key has {used} as it may. Ask again in {seconds} s.", seconds)
