"""Decides which webhooks may be sent now. API keys and hosts get fair shares of the sending threads.

Webhooks to a host that does not answer in time are paused.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from cachetools import LRUCache

FIRST_PAUSE_S = 6.0
"""Seconds for which no webhook is sent to a host that did not answer one in time. Each further pause is twice as
long."""
LONGEST_PAUSE_S = 300.0
"""Longest time in seconds for which no webhook is sent to a host that did not answer one in time."""
REMEMBERED = 4096
"""Maximum number of receivers of webhooks (API key and host) for which the server remembers that they did not answer a
webhook in time. It pauses the webhooks to such a receiver."""


@dataclass(frozen=True)
class Receiver:
    """The webhooks of one API key to one host. All of them are paused if the host does not answer one in time.

    `key_id`: the id of the API key.
    `host`: the host name in the URLs, in lower case.
    """

    key_id: str
    host: str


def host_of(url: str) -> str:
    """Returns the host of a webhook's URL in ASCII (IDNA) and lower case. Returns "" for a text that is no URL."""
    try:
        return httpx.URL(url).raw_host.decode("ascii").lower()
    except (httpx.InvalidURL, ValueError):
        return ""


@dataclass(frozen=True)
class Busy:
    """Says to whom no further webhook may be sent now. A receiver is an API key and a host; a sender is a thread that
    sends one webhook at a time.

    `keys`: the ids of the API keys that keep at least as many senders busy as are free.
    `hosts`: the hosts that keep at least half as many senders busy as are free.
    `receivers`: the receivers that did not answer the last webhook in time, and to which another webhook is being sent
        now.
    """

    keys: frozenset[str]
    hosts: frozenset[str]
    receivers: frozenset[Receiver]

    def includes(self, receiver: Receiver) -> bool:
        return receiver.key_id in self.keys or receiver.host in self.hosts or receiver in self.receivers


@dataclass
class _Hangs:
    """How long no webhook is sent to a receiver (API key and host) that did not answer in time.

    `count`: how often in a row the receiver did not answer in time. Attempts that fail at the same time count once.
    `paused_until`: the time (`time.monotonic`) at which the pause ends.
    """

    count: int
    paused_until: float


class SenderShares:
    """Decides which webhooks may be sent now. Thread-safe.

    `senders`: the number of senders: threads that each send one webhook at a time.
    `clock`: returns the time in seconds, like `time.monotonic`.

    - An API key gets a further sender only if it uses fewer senders than are free.
    - A host gets a further sender only if it uses fewer than half as many senders as are free.
    - So one key has at most half of the senders, and a second key finds free ones.
    - A receiver (the webhooks of one API key to one host) that did not answer in time is paused. After the pause one
      webhook at a time is sent to it, until it answers with any HTTP status.
    """

    def __init__(self, senders: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._senders = senders
        self._clock = clock
        self._lock = threading.Lock()
        self._sending: Counter[Receiver] = Counter()
        self._hangs: LRUCache[Receiver, _Hangs] = LRUCache(REMEMBERED)

    def reserve(self, receiver: Receiver) -> bool:
        """Reserves a sender (a thread that sends webhooks) for one webhook to this receiver (API key and host). Returns
        True if it did.

        The caller must then call `release` when the webhook was sent or its sending has failed.

        Returns False, and reserves nothing, if the receiver is paused, or if it may have no further sender now.
        """
        with self._lock:
            if self._pause_s(receiver) > 0 or self._free() == 0 or self._busy().includes(receiver):
                return False
            self._sending[receiver] += 1
            return True

    def release(self, receiver: Receiver) -> None:
        """Ends one reservation that `reserve` has made for this receiver (API key and host), so that one more sending
        thread is free."""
        with self._lock:
            self._sending[receiver] -= 1
            self._sending += Counter()  # removes the receivers to which nothing is sent

    def report(self, receiver: Receiver, *, hung: bool) -> None:
        """Records the result of an attempt to send a webhook to this receiver (API key and host).

        `hung`: True if the receiver did not answer in time. It is then paused, each time for longer. False if it
            answered. Its pause then ends, and its next pause is as short as the first.
        """
        with self._lock:
            if not hung:
                self._hangs.pop(receiver, None)
            elif self._pause_s(receiver) == 0:  # Attempts that hang at the same time count once.
                count = self._count(receiver) + 1
                pause_s = min(FIRST_PAUSE_S * 2.0 ** min(count - 1, 10), LONGEST_PAUSE_S)
                self._hangs[receiver] = _Hangs(count, self._clock() + pause_s)

    def pause_s(self, receiver: Receiver) -> float:
        """Returns the seconds for which no webhook is sent to this receiver (API key and host) because it did not
        answer in time, or 0."""
        with self._lock:
            return self._pause_s(receiver)

    def free(self) -> int:
        """Returns the number of senders (threads that send webhooks) that send none now."""
        with self._lock:
            return self._free()

    def busy(self) -> Busy:
        """Returns the API keys, hosts and receivers (an API key and a host) to which no further webhook may be sent
        now, because they keep as many senders (threads that send webhooks) busy as they may.

        A paused receiver (one that did not answer in time) is included only while a webhook is being sent to it.
        """
        with self._lock:
            return self._busy()

    def _busy(self) -> Busy:
        keys: Counter[str] = Counter()
        hosts: Counter[str] = Counter()
        for receiver, count in self._sending.items():
            keys[receiver.key_id] += count
            hosts[receiver.host] += count
        free = self._free()
        return Busy(
            frozenset(key for key, count in keys.items() if count >= free),
            frozenset(host for host, count in hosts.items() if 2 * count >= free),
            frozenset(receiver for receiver in self._sending if self._count(receiver) > 0),
        )

    def _free(self) -> int:
        return self._senders - self._sending.total()

    def _count(self, receiver: Receiver) -> int:
        hangs = self._hangs.get(receiver)
        return 0 if hangs is None else hangs.count

    def _pause_s(self, receiver: Receiver) -> float:
        hangs = self._hangs.get(receiver)
        return 0.0 if hangs is None else max(hangs.paused_until - self._clock(), 0.0)
