"""HTTP requests to URLs that users name (source files, webhooks), without giving them access to the internal network.

A host name is resolved once. All its addresses must be public, and the connection is opened to one of these checked
addresses. TLS still verifies the host name. httpx sends each redirect as a new request, so redirects are checked, too.
"""

import errno
import functools
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

from longtake.errors import InvalidRequest, machine_error
from longtake.network_streams import CheckedStream
from longtake.threads import in_thread
from longtake.video import Check, no_check

Resolve = Callable[[str, int], Sequence[str]]
"""Function that returns the IP addresses of (host, port), the best one first. It raises OSError or ValueError."""

CHECK = "longtake.check"
"""Name of an extension of an httpx request: a function `Check`, which PublicTransport calls while it waits for the
response's headers and for the pieces of its body. An exception that it raises ends the request."""

CONNECT_S = 10.0
"""Largest number of seconds for resolving a host name and connecting, both together."""

MAX_ADDRESSES = 8
"""Largest number of addresses of one host name to which a connection is tried."""

MAX_HEAD_BYTES = 64 * 1024
"""Largest number of bytes of an answer's head: its first line, its headers and all informational answers (1xx) before
it."""

MAX_URL_LENGTH = 8000
"""Largest number of characters of a URL to which a request is sent."""

NO_HOST = "there is no host {host} on the public internet"
"""Reason for which a request fails if its host's name leads nowhere, or into the internal network.

It is the same for both, so that nobody can find out which names the internal network has.
"""

_TURN = threading.Lock()
"""The lock that lets one connection of the process at a time process the bytes that it has received, so that other
threads can run (see `CheckedStream`)."""

_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\\]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")

_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # behind a carrier's NAT; the metadata service of one cloud
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # the host agent of one cloud, at an address that is formally public
        "169.254.0.0/16",  # link-local; the metadata services of most clouds
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
"""The IPv6 range of public host addresses. Loopback, IPv4-mapped, IPv4-compatible, IPv4-translated (NAT64), unique
local, link-local, site-local, discard and multicast addresses are outside it."""


class AddressRefused(httpx.TransportError):
    """PublicTransport refused a request: its URL is not allowed, or its host is neither public nor trusted."""


def check_url(url: str, trusted_hosts: Collection[str] = ()) -> httpx.URL:
    """Returns the parsed URL. Its host name is not resolved; PublicTransport checks the addresses of the name later.

    Raises InvalidRequest for a URL that can never be used: not http(s), no valid host or port, more than 8000
    characters (MAX_URL_LENGTH), with credentials, in a spelling that programs interpret differently (such as
    backslashes), or with an IP address that is neither public nor in `trusted_hosts`.
    """
    try:
        return _parsed(url, {host.lower() for host in trusted_hosts})
    except ValueError as error:
        shown = url if len(url) <= 80 else url[:77] + "..."
        raise InvalidRequest(f"{shown!r} {error}.", value=shown) from None


def is_http(text: str) -> bool:
    """Returns True if a text without blanks around it is meant as an http or https URL. It may be malformed."""
    return text[:8].lower().startswith(("http://", "https://"))


def http_url(text: str) -> httpx.URL:
    """Returns the parsed URL. Does not check whether its host may be used.

    Raises ValueError unless `text` is a well-formed http or https URL. The message is a sentence without its subject,
    which is the URL: "names no host".
    """
    if _SURROGATE.search(text):
        raise ValueError("has half a character in it (a lone surrogate)")
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError(f"is not an address: {str(error)[:200].rstrip('.')}") from None
    if url.scheme not in ("http", "https"):
        raise ValueError("is neither an http nor an https address")
    _host(url)
    return url


def _parsed(text: str, trusted: Collection[str]) -> httpx.URL:
    """Returns the parsed URL. Its host name is not resolved.

    trusted: hosts that are allowed although they are not public: names or IP addresses, in lower case.

    Raises ValueError for a URL that is not allowed. The message is a sentence without its subject, which is the URL:
    "names no host".
    """
    if len(text) > MAX_URL_LENGTH:
        raise ValueError(f"is longer than {MAX_URL_LENGTH} characters")
    if _UNPRINTABLE.search(text):
        raise ValueError("has a backslash, a blank or a control character in it")
    url = http_url(text)
    host = _host(url)
    if "@" in re.split(r"[/?#]", text.partition("://")[2], maxsplit=1)[0]:
        raise ValueError("has credentials in it; give an address that needs none")
    if url.port is not None and not 0 < url.port < 2**16:
        raise ValueError("has a port that does not exist")
    is_ip = _is_ip(host)
    if not is_ip and _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        raise ValueError("writes an IPv4 address in an unusual way; write it as four decimal numbers")
    if is_ip and not is_public(host) and host not in trusted:
        raise ValueError("does not lead to the public internet")
    return url


def is_public(address: str) -> bool:
    """True if `address` is the IP address of one host on the public internet.

    False for private and reserved ranges, for ranges that embed or translate to another address (6to4, Teredo, NAT64),
    and for text that is not an IP address.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if ip.version == 6 and (ip not in _UNICAST or "%" in address):
        return False
    return ip.is_global and not any(ip.version == net.version and ip in net for net in _NOT_PUBLIC)


def resolve(host: str, port: int) -> list[str]:
    """Returns the IP addresses of `host` for a connection to `port`, in the system resolver's order.

    Raises OSError if the host name cannot be resolved, or if this machine failed (see `errors.machine_error`).
    """
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        # Without a free descriptor the resolver says that there is no such name. A new socket raises the true error.
        socket.socket().close()
        raise
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


@functools.cache
def _authorities() -> ssl.SSLContext:
    """Returns TLS settings with the certificate authorities that httpx trusts.

    All transports share them, because reading the authorities takes 25 ms.
    """
    return httpx.create_ssl_context()


class PublicTransport(httpx.BaseTransport):
    """An httpx transport that connects only to public addresses and to trusted hosts. Thread-safe.

    A request to any other host raises AddressRefused. Each request gets its own connection and uses no proxy. httpx's
    read timeout limits the whole time until the response's headers are complete, and then each single read of the body.
    A request can carry a function as the extension "longtake.check" (CHECK). It is called again and again while the
    request waits, and can end it by raising an exception. All requests take turns to process the bytes that they have
    received (see `CheckedStream`), so that they leave time for other threads. An answer whose head has more than 64 KiB
    (MAX_HEAD_BYTES) raises httpx.RemoteProtocolError. Raises OSError if this machine cannot resolve a host (see
    `errors.machine_error`), for example because too many files are open.

    trusted_hosts: hosts that are allowed although they are not public: names or IP addresses, in upper or lower case.
    resolve: function that returns the addresses of a host.
    verify: settings by which TLS certificates are verified. None means the certificate authorities that httpx trusts.
    """

    def __init__(
        self, trusted_hosts: Collection[str] = (), *, resolve: Resolve = resolve, verify: ssl.SSLContext | None = None
    ) -> None:
        self._trusted = frozenset(host.lower() for host in trusted_hosts)
        self._resolve = resolve
        self._tls = verify or _authorities()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        try:
            parsed = _parsed(str(request.url), self._trusted)
        except ValueError as error:
            raise AddressRefused(f"the address {error}") from None
        assert isinstance(request.stream, httpx.SyncByteStream)
        timeout: dict[str, float | None] = request.extensions.get("timeout", {})
        timeout = timeout | {"connect": min(timeout.get("connect") or CONNECT_S, CONNECT_S)}
        read_s = timeout.get("read")
        deadline = None if read_s is None else time.monotonic() + read_s
        check: Check = request.extensions.get(CHECK, no_check)
        network = _PublicNetwork(self._trusted, self._resolve, deadline, check)
        url = httpcore.URL(scheme=parsed.raw_scheme, host=_host(parsed), port=parsed.port, target=parsed.raw_path)
        connection = httpcore.HTTPConnection(url.origin, self._tls, network_backend=network)
        extensions = request.extensions | {"timeout": timeout}
        with _httpx_errors():
            response = connection.handle_request(
                httpcore.Request(
                    request.method, url, headers=request.headers.raw, content=request.stream, extensions=extensions
                )
            )
        stream = response.extensions["network_stream"]
        stream.deadline = stream.bytes_left = None
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Body(response, connection),
            extensions=response.extensions,
        )


@dataclass(frozen=True)
class _PublicNetwork(httpcore.NetworkBackend):
    """Opens the connection of one request, only to public addresses and to trusted hosts.

    trusted: hosts that are allowed although they are not public: names or IP addresses, in lower case.
    resolve: function that returns the addresses of a host.
    deadline: time (`time.monotonic`) by which the response's headers must be complete; None means no deadline.
    check: function that is called while the connection waits for the other side.
    """

    trusted: Collection[str]
    resolve: Resolve
    deadline: float | None
    check: Check

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        *args: Any,
        **options: Any,
    ) -> httpcore.NetworkStream:
        connect_by = time.monotonic() + (timeout or CONNECT_S)
        addresses = [host] if host in self.trusted else self._addresses(host, port, connect_by)
        error: Exception | None = None
        for number, address in enumerate(addresses):
            share_s = (connect_by - time.monotonic()) / (len(addresses) - number)
            try:
                stream = httpcore.SyncBackend().connect_tcp(address, port, max(share_s, 0.001), *args, **options)
                return CheckedStream(stream, self.deadline, self.check, _TURN, MAX_HEAD_BYTES)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failure:
                ours = machine_error(failure)
                if ":" in address and ours is not None and ours.errno == errno.EADDRNOTAVAIL:
                    failure = httpcore.ConnectError(str(failure))  # without IPv6; no port of this machine is lacking
                error = error or failure  # the system prefers the first address, so its failure says the most
        raise error or httpcore.ConnectError(NO_HOST.format(host=host))

    def _addresses(self, host: str, port: int, deadline: float) -> Sequence[str]:
        """Returns at most 8 (MAX_ADDRESSES) IP addresses of the host; an empty list if the name cannot be resolved.

        `host` is not a trusted host. If it is an IP address itself, it is returned unchecked, because it was checked
        before.

        Raises AddressRefused if any address of a host name is not public, and httpcore.ConnectTimeout if the name is
        not resolved by `deadline` (`time.monotonic`). Raises OSError if this machine failed (see `errors.TEMPORARY`).
        """
        if _is_ip(host):
            return [host]
        try:
            # After a timeout the thread continues to run, because the system's resolver cannot be interrupted.
            resolved = in_thread(lambda: self.resolve(host, port), "resolve")
            addresses = resolved.result(max(deadline - time.monotonic(), 0))
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"the name {host} was not resolved in time") from None
        except (OSError, ValueError) as failure:
            if machine_error(failure) is not None:
                raise
            addresses = []
        if not all(map(is_public, addresses)):
            raise AddressRefused(NO_HOST.format(host=host))
        return addresses[:MAX_ADDRESSES]


@dataclass(frozen=True)
class _Body(httpx.SyncByteStream):
    """The body of a response. Closing the body closes the connection."""

    response: httpcore.Response
    connection: httpcore.HTTPConnection

    def __iter__(self) -> Iterator[bytes]:
        with _httpx_errors():
            yield from self.response.iter_stream()

    def close(self) -> None:
        self.response.close()
        self.connection.close()


@contextmanager
def _httpx_errors() -> Iterator[None]:
    """Context manager. If its block raises an error of httpcore, httpx's error of the same name is raised instead."""
    try:
        yield
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error


def _host(url: httpx.URL) -> str:
    """Returns the URL's host in ASCII (IDNA) and lower case.

    Raises ValueError if there is none, or if it is neither a name nor an IP address.
    """
    try:
        decoded, host = url.host, url.raw_host.decode("ascii").lower()  # decoding shows whether `xn--` names are sound
    except UnicodeError:
        decoded, host = "", "?"
    if not host:
        raise ValueError("names no host")
    if not decoded or not (_is_ip(host) or (_HOST.fullmatch(host) and len(host) <= 254)):
        raise ValueError("has a host that is no name")
    return host


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
