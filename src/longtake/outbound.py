"""Fetching what strangers name, and calling them back, without being turned against our own network.

A host's name is resolved once, every address it has must be public, and the connection goes to exactly the address
that was checked; TLS verifies the name all the same. Redirects pass through here as requests of their own.
"""

import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import httpx

from longtake.errors import InvalidRequest

Resolve = Callable[[str, int], Sequence[str]]
"""Host and port -> the addresses, best first. Raises OSError."""

CONNECT_S = 10.0
"""So long resolving a name and connecting may take together."""
MOST_ADDRESSES = 8
"""So many of a name's addresses are tried."""
LONGEST_URL = 8000

_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\\]")

_INWARD = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # behind a carrier's NAT; one cloud's metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # one cloud's host agent, on an address that is public elsewhere
        "169.254.0.0/16",  # link-local; most clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved; broadcast
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarking
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which holds an IPv4 address
        "3fff::/20",  # documentation
    )
)
_UNICAST = ipaddress.ip_network("2000::/3")
"""All that is given out of IPv6. Outside are loopback, IPv4 mapped, compatible and translated (NAT64), unique local,
link-local, site-local, discard and multicast."""


class Refused(httpx.TransportError):
    """The address is not one to connect to."""


def check_url(url: str, trusted_hosts: Collection[str] = ()) -> httpx.URL:
    """The address, read as it will be used. Raises InvalidRequest for one that cannot be right whatever its name
    resolves to: no http(s), credentials, spellings that other programs read differently, an address of the inside."""
    try:
        return _read(url, {host.lower() for host in trusted_hosts})
    except ValueError as error:
        shown = url if len(url) <= 80 else url[:77] + "..."
        raise InvalidRequest(f"{shown!r} {error}.", value=shown) from None


def _read(text: str, trusted: Collection[str]) -> httpx.URL:
    """Raises ValueError with the reason."""
    if len(text) > LONGEST_URL:
        raise ValueError(f"is longer than {LONGEST_URL} characters")
    if _UNPRINTABLE.search(text):
        raise ValueError("has a backslash, a blank or a control character in it")
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError(f"is not an address: {str(error)[:200].rstrip('.')}") from None
    if url.scheme not in ("http", "https"):
        raise ValueError("is neither an http nor an https address")
    host = _host(url)
    if not host:
        raise ValueError("names no host")
    if "@" in re.split(r"[/?#]", text.partition("://")[2], maxsplit=1)[0]:
        raise ValueError("has credentials in it; give an address that needs none")
    if url.port is not None and not 0 < url.port < 2**16:
        raise ValueError("has a port that does not exist")
    literal = _literal(host)
    if literal is None and (not _HOST.fullmatch(host) or len(host) > 254):
        raise ValueError("has a host that is no name")
    if literal is None and _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        raise ValueError("writes an IPv4 address in an unusual way; write it as four decimal numbers")
    if literal is not None and not is_public(literal) and host not in trusted:
        raise ValueError("does not lead to the public internet")
    return url


def is_public(address: str) -> bool:
    """Whether an IP address is of the public internet and of one host: nothing inside, nothing that is turned into
    another address on its way."""
    try:
        read = ipaddress.ip_address(address)
    except ValueError:
        return False
    if read.version == 6 and (read not in _UNICAST or "%" in address):
        return False
    return read.is_global and not any(read.version == net.version and read in net for net in _INWARD)


def resolve(host: str, port: int) -> list[str]:
    """The addresses that the system knows a host by."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Guarded(httpx.BaseTransport):
    """Sends requests to public addresses and to `trusted_hosts`, raising Refused (an httpx.TransportError) for others.

    Trusted hosts go by their exact name, whatever it resolves to. Connections are not kept: TLS verifies a host's name
    when it connects, and another host may have the same address. No proxy is used. The read timeout bounds everything
    up to the answer's headers, however slowly they trickle in. Safe to use from several threads.
    """

    def __init__(
        self, trusted_hosts: Collection[str] = (), *, resolve: Resolve = resolve, verify: ssl.SSLContext | bool = True
    ) -> None:
        self._trusted = frozenset(host.lower() for host in trusted_hosts)
        self._resolve = resolve
        self._wire = httpx.HTTPTransport(verify=verify, limits=httpx.Limits(max_keepalive_connections=0))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        try:
            url = _read(str(request.url), self._trusted)
        except ValueError as error:
            raise Refused(f"the address {error}", request=request) from None
        timeout: dict[str, float | None] = request.extensions.get("timeout", {})
        connect_s = min(timeout.get("connect") or CONNECT_S, CONNECT_S)
        connected_by = time.monotonic() + connect_s
        with _Limit(timeout.get("read")) as limit:
            if _host(url) in self._trusted:
                return self._send(request, url, None, connect_s, limit)
            *addresses, last = self._addresses(url, connected_by, request)
            for number, address in enumerate(addresses):
                share = 1 / (len(addresses) + 1 - number)
                with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                    return self._send(request, url, address, (connected_by - time.monotonic()) * share, limit)
            return self._send(request, url, last, connected_by - time.monotonic(), limit)

    def _send(
        self, request: httpx.Request, url: httpx.URL, address: str | None, connect_s: float, limit: "_Limit"
    ) -> httpx.Response:
        """The request as it is, to this address; TLS asks for the name that the URL has."""
        timeout: dict[str, Any] = request.extensions.get("timeout", {}) | {"connect": max(connect_s, 0.001)}
        pinned = httpx.Request(
            request.method,
            url if address is None else url.copy_with(host=address),
            headers=request.headers,
            stream=request.stream,
            extensions=request.extensions | {"timeout": timeout, "sni_hostname": _host(url), "trace": limit.trace},
        )
        return self._wire.handle_request(pinned)

    def close(self) -> None:
        """Nothing is kept that would have to be closed, and a transport serves one client after the other."""

    def _addresses(self, url: httpx.URL, deadline: float, request: httpx.Request) -> list[str]:
        """Where the host is: at least one address, all of them public."""
        host = _host(url)
        literal = _literal(host)
        if literal is not None:
            return [literal]
        port = url.port or (443 if url.scheme == "https" else 80)
        found = _within(deadline - time.monotonic(), lambda: self._resolve(host, port))
        if found is None:
            raise httpx.ConnectTimeout(f"the name {host} was not resolved in time", request=request)
        if isinstance(found, Exception) or not found:
            raise httpx.ConnectError(f"there is no host {host}", request=request)
        if not all(map(is_public, found)):
            raise Refused(f"the host {host} is not of the public internet", request=request)
        return list(found[:MOST_ADDRESSES])


class _Limit:
    """Ends, after so many seconds, the connection that is made in the block."""

    def __init__(self, seconds: float | None) -> None:
        self._timer = None if seconds is None else threading.Timer(seconds, self._end)
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._over = False

    def __enter__(self) -> "_Limit":
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._over and self._connection is not None and isinstance(error, httpx.TransportError):
            raise httpx.ReadTimeout("no answer in time") from error

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """What httpcore tells while it works."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            with self._lock:
                self._connection = info["return_value"].get_extra_info("socket")
                if self._over:
                    self._shut()

    def _end(self) -> None:
        with self._lock:
            self._over = True
            self._shut()

    def _shut(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                # Not the method of a TLS socket, which would take its TLS away from under the thread that reads.
                socket.socket.shutdown(self._connection, socket.SHUT_RDWR)


def transport(trusted_hosts: Collection[str] = ()) -> Guarded:
    """A transport for httpx clients that fetch what strangers name."""
    return Guarded(trusted_hosts)


def _host(url: httpx.URL) -> str:
    """The host as it is resolved and asked for: ASCII, lower case."""
    return url.raw_host.decode("ascii").lower()


def _literal(host: str) -> str | None:
    """The host where it is an IP address in its usual spelling."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    return host


def _within(seconds: float, work: Callable[[], Sequence[str]]) -> Sequence[str] | Exception | None:
    """What the work gives or raises; None where it takes longer (it is left behind: the system's resolver cannot be
    interrupted, and gives up by itself)."""
    done: SimpleQueue[Sequence[str] | Exception] = SimpleQueue()

    def run() -> None:
        try:
            done.put(work())
        except Exception as error:
            done.put(error)

    threading.Thread(target=run, daemon=True, name="resolve").start()
    try:
        return done.get(timeout=max(seconds, 0))
    except Empty:
        return None
