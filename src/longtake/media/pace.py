"""The slowest download that is allowed, and the measurement of how fast a download is."""

from dataclasses import dataclass

from longtake.errors import DownloadFailed
from longtake.flow import Flow


class TooSlow(DownloadFailed):
    """A download is slower than its `Pace` allows."""


@dataclass(frozen=True)
class Pace:
    """The slowest download that is allowed.

    min_rate: smallest rate in bytes per second. It must be reached in each period of `window_s` seconds, counted from
        the beginning of the response's body.
    window_s: length of these periods in seconds.
    total_s: most seconds that the whole download may take, with all redirects and all attempts.
    """

    min_rate: int
    window_s: float
    total_s: float


class Meter:
    """Counts the bytes of a download, and raises TooSlow if they arrive too slowly.

    name, pace: the URL, for error messages, and the slowest download that is allowed.

    The argument `now` of the methods is the present time, as `time.monotonic` returns it.
    """

    def __init__(self, name: str, pace: Pace) -> None:
        self.received = 0
        """The number of bytes of the body so far."""
        self._name = name
        self._pace = pace
        self._flow: Flow | None = None

    def start(self, now: float) -> None:
        """Begins to measure the rate. It is called at the time `now`, when the body of the response begins."""
        self._flow = Flow(self._pace.min_rate, self._pace.window_s, now)

    def add(self, num_bytes: int, now: float) -> None:
        """Counts `num_bytes` received bytes. Then raises TooSlow if they arrive too slowly."""
        self.received += num_bytes
        self.check(now)

    def check(self, now: float) -> None:
        """Raises TooSlow if a period of `pace.window_s` seconds is over at `now` and had too few bytes."""
        slow = None if self._flow is None else self._flow.slow_period(now, self.received)
        if slow is not None:
            raise TooSlow(
                f"{self._name} delivered {_kilobytes(slow.rate)} KB/s over {slow.seconds:.3g} s; a download needs at "
                f"least {_kilobytes(self._pace.min_rate)} KB/s."
            )


def _kilobytes(num_bytes: float) -> str:
    return f"{round(num_bytes / 1024, 1):g}"
