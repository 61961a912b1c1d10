"""The waiting requests of a pool (a named group of devices), as last read from the database, and their positions in the
queue."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from longtake.queue.requests import RequestRow

POLL_S = 0.25
"""Seconds between two looks of the cache's background thread into the database, to find the rows that have changed."""
WANTED_S = 2.0
"""Seconds for which a request's cached status, or the cached list of the requests that wait for a pool (a named group
of devices), is kept up to date after a client last asked for it."""
QUEUE_S = 0.05
"""Minimum seconds between two reads of the queue of a pool (a named group of devices) while the queue changes.

After a slow read the pause is longer: ten times as long as the read took.
"""


@dataclass
class WaitingQueue:
    """The waiting requests of a pool (a named group of devices), as last read from the database.

    `positions`: request id -> its position, from 0.
    `counts`: priority -> the number of waiting requests with this priority.
    `is_stale`: True if the queue may have changed since the last read.
    `read_at`: when the last read ended, in seconds of the monotonic clock.
    `read_took_s`: the seconds that the last read took.
    `wanted_at`: when a client last asked for the queue, in seconds of the monotonic clock.
    """

    positions: dict[str, int] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)
    is_stale: bool = True
    read_at: float = -math.inf
    read_took_s: float = 0.0
    wanted_at: float = -math.inf

    def is_due(self, now: float) -> bool:
        """Returns True if the queue should be read again at `now`, which is in seconds of the monotonic clock.

        That is so if a client has asked for the queue in the last 2 seconds (WANTED_S), and the pause after the last
        read is over. The pause is 0.05 seconds (QUEUE_S) if the queue may have changed since then (`is_stale`),
        otherwise 0.25 seconds (POLL_S). It is at least ten times as long as the last read took.
        """
        pause_s = max(QUEUE_S if self.is_stale else POLL_S, 10 * self.read_took_s)
        return now - self.wanted_at <= WANTED_S and now - self.read_at >= pause_s

    def is_outdated(self, now: float) -> bool:
        """Returns True if the cached positions of requests in the queue are too old to be used at `now`, which is in
        seconds of the monotonic clock.

        They are too old 2 seconds (WANTED_S) after the last read, or after 20 times the duration of that read if this
        is longer.
        """
        return now - self.read_at > max(WANTED_S, 20 * self.read_took_s)

    def position(self, row: RequestRow) -> int:
        """Returns the number of requests that would be claimed before the waiting request `row`."""
        if row.id not in self.positions:  # submitted after the queue was read, so it is the last of its priority
            self.positions[row.id] = sum(count for priority, count in self.counts.items() if priority <= row.priority)
            self.counts[row.priority] += 1
        return self.positions[row.id]

    def replace(self, priorities: Mapping[str, int], read_at: float, read_took_s: float) -> None:
        """Replaces the positions and counts by newer ones, which were just read from the database.

        `priorities`: request id -> its priority, in the order in which the requests will be claimed. The requests with
            the lowest number are claimed first.
        `read_at`: when the read ended, in seconds of the monotonic clock.
        `read_took_s`: the seconds that the read took.
        """
        self.positions = {request_id: position for position, request_id in enumerate(priorities)}
        self.counts = Counter(priorities.values())
        self.read_at, self.read_took_s = read_at, read_took_s
