"""Budgets of keys: how many requests each may submit per minute, and how many bytes it may send per hour."""

import math
import time
from collections.abc import Callable, MutableMapping

from cachetools import TTLCache

from longtake.service.responses import CLOSE, RequestFailed, limit_reached
from longtake.settings import Settings

MINUTE_S, HOUR_S = 60.0, 3600.0
MOST_REMEMBERED = 65536
"""Maximum number of API keys whose use is counted. The key that was used least recently is forgotten first."""


class Budget:
    """An amount, such as a number of requests or bytes, that each API key may use in a period.

    A used amount becomes free again at an even rate: after a tenth of the period, a tenth of the amount is free again.

    amount: the amount; None means that there is no limit.
    period_s: the period in seconds.
    clock: returns the time in seconds.

    Its methods may be called only in the thread of the event loop.
    """

    def __init__(self, amount: int | None, period_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._amount = amount
        self._period_s = period_s
        self._clock = clock
        self._used: MutableMapping[str, tuple[float, float]] = TTLCache(MOST_REMEMBERED, period_s, clock)
        """API key id -> (used amount, time at which it was measured). An entry is dropped after a period without use:
        by then the whole used amount is free again."""

    def use(self, key_id: str, amount: int) -> None:
        """Counts an amount as used by a key, even if less than that is left of its budget."""
        if self._amount is not None:
            self._used[key_id] = (self._in_use(key_id) + amount, self._clock())

    def seconds_left(self, key_id: str, amount: int = 1) -> int:
        """Returns the number of seconds until a key may use `amount` of its budget; 0 if it may do so now.

        If `amount` is larger than the budget, the result is the number of seconds until it may use the whole budget.
        """
        if self._amount is None:
            return 0
        excess = self._in_use(key_id) + min(amount, self._amount) - self._amount
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
        self._most_bytes = settings.key_bytes_per_hour

    def begin_request(self, key_id: str) -> None:
        """Counts a request that this key submits. Call it before anything else in the request is checked.

        Raises RequestFailed with status 429, and does not count the request, in these cases:
        - The key has submitted as many requests per minute as it may.
        - The key has sent as many bytes per hour as it may.
        """
        self.check_bytes(key_id)
        seconds = self._requests.seconds_left(key_id)
        if seconds:
            raise limit_reached("This key has submitted as many requests per minute as it may.", seconds)
        self._requests.use(key_id, 1)

    def check_bytes(self, key_id: str, declared: int = 0) -> None:
        """Raises an error if this key may not send a body or upload now. The bytes are not counted yet.

        declared: the number of bytes that the client announces; 0 if it announces none.

        Raises RequestFailed with status 429 if the key has fewer bytes left than `declared`, or none at all. Raises it
        with status 413 if `declared` is more than the key's whole budget for an hour.
        """
        if self._most_bytes is not None and declared > self._most_bytes:
            raise RequestFailed(
                413,
                f"This has {declared} bytes. A key may send {self._most_bytes} bytes per hour.",
                "bad_request",
                CLOSE,
            )
        self._refuse_bytes(self._bytes.seconds_left(key_id, max(declared, 1)))

    def use_bytes(self, key_id: str, count: int) -> None:
        """Counts bytes of a body or upload that have arrived from this key.

        Raises RequestFailed with status 429 if the key has now sent more bytes per hour than it may.
        """
        self._bytes.use(key_id, count)
        self._refuse_bytes(self._bytes.seconds_left(key_id, 0))

    def _refuse_bytes(self, seconds: int) -> None:
        if seconds:
            raise limit_reached(
                f"This key may send {self._most_bytes} bytes per hour, and too few are left.", seconds, CLOSE
            )
