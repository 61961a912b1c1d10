"""A running download of the files of one waiting request. A server has a limited number of places for such
downloads."""

import math
import threading
import time
from dataclasses import dataclass, field
from typing import Literal

from longtake.errors import Cancelled
from longtake.queue.fetches import Fetch
from longtake.queue.requests import Outcome

DownloadEnding = Outcome | Literal["done", "stopped", "failed"]
"""How the download of a request's files ended.

An `Outcome`: the error with which the request must end.
"done": all files are downloaded.
"stopped": it was stopped, or the database failed, or the disk is full. The attempt does not count towards the maximum.
"failed": this machine failed in another way. The attempt counts.
"""


@dataclass
class Place:
    """A running download of the files of one request.

    `fetch`: the request's id, the files, and those that are downloaded already.
    `began_at`: when the download began, in seconds of the monotonic clock.
    `stopped`: set when the download must stop. Call `stop` to set it.
    `stopped_at`: when `stopped` was set, in seconds of the monotonic clock; infinite if it is not set.
    """

    fetch: Fetch
    began_at: float
    stopped: threading.Event = field(default_factory=threading.Event)
    stopped_at: float = math.inf

    @property
    def key_id(self) -> str:
        return self.fetch.group.key_id

    def stop(self) -> None:
        """Makes the download stop: its next call of `check` raises Cancelled."""
        self.stopped_at = min(self.stopped_at, time.monotonic())
        self.stopped.set()

    def check(self) -> None:
        """Raises Cancelled if the download must stop."""
        if self.stopped.is_set():
            raise Cancelled
