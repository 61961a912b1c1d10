"""The clients' connections: how many may be open, and how long a client may be slow.

A server's ports share one `Connections`. A connection is busy while the server has received a whole request of it and
has not answered it yet. At all other times the connection waits. Only waiting connections are closed to make room for
new ones.
"""

import asyncio
import ipaddress
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from longtake import system

RESERVED_FILES = 128
"""Open files that the server needs beside its connections: for the database, worker processes, webhooks, downloads."""

TURN_S = 0.001
"""Seconds for which the received bytes of one connection are parsed before other connections have their turn."""
MOST_FORWARDED = 20
"""Maximum number of addresses that are read from the header X-Forwarded-For, beginning at its end."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Bounds:
    """The limits for connections. All times are in seconds.

    in_all: the largest number of open connections.
    per_peer: the largest number of open connections of one client.
    head_bytes: the largest size of a request's head (its first line and its headers), and of the headers that may
        follow a body in chunks.
    headers: the largest number of headers of a request, with those that may follow a body in chunks.
    chunks, chunks_per_s, chunk_bytes: the limits for bodies that are sent in HTTP chunks. A connection may send
        `chunks` of them at once. Then it may send `chunks_per_s` more in each second, and one more for each
        `chunk_bytes` bytes of its bodies.
    handshake_s: the longest time for the TLS handshake.
    head_s: the longest time from the opening of a connection to its first byte. It is also the longest time from the
        first to the last byte of a request's head, and for the rest of a body whose request is already answered.
    idle_s: the longest time between two requests.
    bytes_per_s, period_s: in each period of `period_s`, a client has to send a body, or receive an answer, with at
        least `bytes_per_s` bytes per second on average. Time in which the server itself is not ready does not count.
    body_s: the longest time from the end of a request's head to the end of its body.
    linger_s, linger_bytes: after a refusal, the server receives and drops what the client still sends, for at most this
        time and at most this many bytes. Then it closes the connection. If it closed the connection at once, a client
        that still sends would not see the answer.
    check_s: the time between two checks of all connections.
    """

    in_all: int = 1000
    per_peer: int = 500
    head_bytes: int = 64 * 1024
    headers: int = 1000
    chunks: int = 2000
    chunks_per_s: float = 500.0
    chunk_bytes: int = 128
    handshake_s: float = 10.0
    head_s: float = 20.0
    idle_s: float = 75.0
    bytes_per_s: float = 1024.0
    period_s: float = 30.0
    body_s: float = 24 * 3600.0
    linger_s: float = 2.0
    linger_bytes: int = 1024 * 1024
    check_s: float = 1.0


def bounds(in_all: int, per_peer: int) -> Bounds:
    """Returns the limits for a server with up to `in_all` connections, and up to `per_peer` of them from one client.

    Each connection may need two open files, its socket and a stored file that it reads. If the operating system does
    not allow this process so many open files, the result has smaller numbers of connections.
    """
    files = system.allow_open_files(2 * in_all + RESERVED_FILES)
    possible = max(8, min(in_all, (files - RESERVED_FILES) // 2))
    return Bounds(in_all=possible, per_peer=min(per_peer, max(4, possible // 2)))


class Connection(Protocol):
    """One connection of a client."""

    def close_if_late(self, now: float) -> None:
        """Closes the connection if the client is too slow. `now` is the time of the event loop's clock."""

    def abort(self) -> None:
        """Closes the connection at once."""


class Parser(Protocol):
    """A connection that parses the bytes that it has received in short steps. `Connections.parse_in_turn` calls its
    `parse` until nothing is left, in turn with that of other connections."""

    def parse(self, seconds: float) -> bool:
        """Parses received bytes for about `seconds` seconds. Returns True if some bytes are not parsed yet."""


class Connections:
    """The open connections of the server's clients. Limits their number, and closes those that are too slow.

    Its methods may be called only in the thread of the event loop.

    bounds: the limits.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._waiting: dict[Connection, str] = {}  # to the peer; the one that has waited longest is the first
        self._busy: dict[Connection, str] = {}
        self._per_peer: Counter[str] = Counter()
        self._check: asyncio.TimerHandle | None = None
        self._parsing: deque[Parser] = deque()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._busy)

    def admit(self, connection: Connection, peer: str) -> bool:
        """Adds a new connection, which waits for a request now. Returns False, and adds nothing, if there is no room.

        If there is no room, the caller must close the new connection.

        If a limit is reached, a connection that waits for a request is closed to make room:
        - If this client has as many connections as allowed: of its waiting ones, the one that has waited longest.
        - If all clients together have as many connections as allowed: of the client with the most waiting ones, the one
          that has waited longest.
        There is no room if no connection waits that could be closed in this way, because all are busy with requests.

        peer: the name of the client: its IPv4 address, or its network of 64 bits for IPv6 (see `peer_of`).
        """
        has_room = (self._per_peer[peer] < self.bounds.per_peer or self._abort_oldest(peer)) and (
            len(self) < self.bounds.in_all or self._abort_oldest()
        )
        if has_room:
            self._waiting[connection] = peer
            self._per_peer[peer] += 1
            self._check = self._check or asyncio.get_running_loop().call_later(self.bounds.check_s, self._close_late)
        return has_room

    def move(self, connection: Connection, peer: str) -> bool:
        """Counts a connection that waits for a request as one of the client `peer` from now on. Returns False if `peer`
        has too many.

        - If `peer` has as many connections as allowed, its connection that has waited longest is closed to make room.
          If all of them are busy with a request, nothing is changed, and the result is False.
        - If `connection` is busy with a request, or is counted for `peer` already, nothing is changed, and the result
          is True.

        peer: the name of a client: its IPv4 address, or its network of 64 bits for IPv6 (see `peer_of`).
        """
        old = self._waiting.get(connection)
        if old is None or old == peer:
            return True
        if self._per_peer[peer] >= self.bounds.per_peer and not self._abort_oldest(peer):
            return False
        self._waiting[connection] = peer
        self._count_one_less(old)
        self._per_peer[peer] += 1
        return True

    def parse_in_turn(self, connection: Parser) -> None:
        """Calls `connection.parse` in the next rounds of the event loop, until nothing is left to parse.

        In each round one connection parses for at most about 1 ms (TURN_S), so that many connections that send much do
        not delay the others.
        """
        self._parsing.append(connection)
        if len(self._parsing) == 1:
            asyncio.get_running_loop().call_soon(self._parse_next)

    def _parse_next(self) -> None:
        connection = self._parsing.popleft()
        if self._parsing:
            asyncio.get_running_loop().call_soon(self._parse_next)
        if connection.parse(TURN_S):
            self.parse_in_turn(connection)

    def begin(self, connection: Connection) -> None:
        """Marks a waiting connection as busy. Must be called when a whole request of it has been received.

        Does nothing if the connection is busy already, or was removed.
        """
        peer = self._waiting.pop(connection, None)
        if peer is not None:
            self._busy[connection] = peer

    def wait(self, connection: Connection, peer: str) -> None:
        """Marks a connection as waiting for a request. Must be called when the answer to the last one is complete.

        Does nothing if the connection was removed.

        peer: the name of the client for which the connection counts from now on.
        """
        old = self._busy.pop(connection, None) or self._waiting.pop(connection, None)
        if old is not None:
            self._waiting[connection] = peer
            if old != peer:
                self._count_one_less(old)
                self._per_peer[peer] += 1

    def remove(self, connection: Connection) -> None:
        """Removes a closed connection. Does nothing if it was removed before, or not admitted."""
        peer = self._waiting.pop(connection, None) or self._busy.pop(connection, None)
        if peer is not None:
            self._count_one_less(peer)

    def _abort_oldest(self, peer: str | None = None) -> bool:
        """Closes the connection of a client that has waited longest for its next request. Returns False if none waits.

        peer: the name of the client. None means the client with the most waiting connections.
        """
        # So a client with many idle connections cannot end the uploads of others.
        if peer is None and self._waiting:
            peer = Counter(self._waiting.values()).most_common(1)[0][0]
        oldest = next((one for one, its_peer in self._waiting.items() if its_peer == peer), None)
        if oldest is None:
            return False
        self.remove(oldest)
        oldest.abort()
        return True

    def _count_one_less(self, peer: str) -> None:
        self._per_peer[peer] -= 1
        if not self._per_peer[peer]:
            del self._per_peer[peer]

    def _close_late(self) -> None:
        loop = asyncio.get_running_loop()
        for connection in (*self._waiting, *self._busy):
            connection.close_if_late(loop.time())
        self._check = loop.call_later(self.bounds.check_s, self._close_late) if len(self) else None


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Returns the IP address in a text, or None if the text is not an IP address.

    The zone of an IPv6 address is removed. The IPv6 form of an IPv4 address (`::ffff:1.2.3.4`) becomes the IPv4
    address.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, ipaddress.IPv6Address) else found


def peer_of(address: str) -> str:
    """Returns the name under which all connections of one client are counted. `address` is the client's IP address.

    - IPv4: the address itself, also if it is written as an IPv6 address such as `::ffff:1.2.3.4`.
    - IPv6: the address's network of 64 bits, because one client can use all addresses of it.
    - Text that is no IP address: `unknown`.
    """
    found = _parsed(address)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, 64), strict=False))
    return "unknown" if found is None else str(found)


def is_in(address: str, networks: tuple[Network, ...]) -> bool:
    """Returns True if `address` is an IP address in one of these networks."""
    found = _parsed(address)
    return found is not None and any(found in network for network in networks)


def forwarded_address(headers: Iterable[tuple[bytes, bytes]], proxies: tuple[Network, ...]) -> str | None:
    """Returns the IP address of the client for which trusted proxies have forwarded a request.

    Each proxy appends the address of its own client to the header X-Forwarded-For. The result is the last address there
    that does not belong to a trusted proxy. Earlier addresses are ignored, because the client may have invented them.
    Returns None if the last 20 entries (MOST_FORWARDED) have no such address, or if an entry after it is not an IP
    address.

    headers: the names, in lower case, and the values of the request's headers.
    proxies: the networks of the trusted proxies.
    """
    entries = b",".join(value for name, value in headers if name == b"x-forwarded-for").rsplit(b",", MOST_FORWARDED)
    for entry in reversed(entries[-MOST_FORWARDED:]):
        address = _without_port(entry.decode("latin-1").strip())
        if address and not is_in(address, proxies):
            found = _parsed(address)
            return None if found is None else str(found)
    return None


def forwarded_scheme(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Returns the scheme in the last header X-Forwarded-Proto, `http` or `https`. Returns None for any other value."""
    values = [value.strip() for name, value in headers if name == b"x-forwarded-proto"]
    return values[-1].decode() if values and values[-1] in (b"http", b"https") else None


def _without_port(address: str) -> str:
    """Returns an address without the port that a proxy may have added, as in `1.2.3.4:80` or `[2001:db8::1]:80`."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address
