"""Web pages of other origins: which of them may call the server, and which may read its answers (CORS).

Without keys, a page that somebody opens could use the server on that machine: a page may send requests to any address,
and may give a host name of its own the address 127.0.0.1 (DNS rebinding). Therefore Host and Origin must then be local.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from longtake.queue.addresses import HOSTS, bare_host
from longtake.settings import Settings

RawHeaders = list[tuple[bytes, bytes]]

METHODS = b"GET, POST, PUT, DELETE, OPTIONS"
EXPOSED_HEADERS = b", ".join(
    (
        b"x-fal-request-id",
        b"x-fal-request-timeout-type",
        b"x-fal-error-type",
        b"x-fal-needs-retry",
        b"x-fal-retryable",
        b"x-fal-billable-units",
        b"x-longtake-price-usd",
        b"etag",
        b"content-length",
        b"content-range",
        b"accept-ranges",
    )
)
"""Response headers that a page may read."""
DEFAULT_HEADERS = b"authorization, content-type, accept, x-fal-target-url"
"""Request headers that a preflight answer allows if the browser names none."""
PREFLIGHT_MAX_AGE_S = b"7200"
"""Seconds for which a browser may cache a preflight answer."""


def refusal(host: str, origin: str | None, settings: Settings) -> str | None:
    """Returns the reason why a server without keys refuses a request with this Host and Origin, or None."""
    public = urlsplit(settings.public_url or "").hostname
    if not (_is_local(bare_host(host)) or bare_host(host) in HOSTS or bare_host(host) == public):
        return (
            f"Without keys this server is called by names of this machine alone, and not by {host[:200]!r}; "
            "LONGTAKE_PUBLIC_URL gives it another, `longtake keys create` opens it to who has a key."
        )
    if origin is None or origin in settings.cors_origins:
        return None
    name = _host_of(origin)
    if _is_local(name) or name == public:
        return None
    return (
        f"Without keys this server answers no web page of {origin[:200]!r}; LONGTAKE_CORS_ORIGINS may name it, "
        "`longtake keys create` opens the server to who has a key."
    )


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def _is_local(name: str) -> bool:
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


class Cors:
    """The CORS headers for a list of allowed origins; "*" allows all. Cookies are never allowed."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._allows_all = "*" in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, origin: bytes | None) -> RawHeaders:
        """Returns the CORS headers of an answer to this Origin."""
        if origin is None:
            return []
        if self._allows_all:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", EXPOSED_HEADERS)]
        if origin not in self._origins:
            return [(b"vary", b"origin")]
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", EXPOSED_HEADERS),
            (b"vary", b"origin"),
        ]

    def preflight_headers(self, headers: Mapping[bytes, bytes]) -> RawHeaders:
        """Returns the additional headers of the answer to an OPTIONS request with these headers."""
        return [
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", headers.get(b"access-control-request-headers", DEFAULT_HEADERS)),
            (b"access-control-max-age", PREFLIGHT_MAX_AGE_S),
        ]
