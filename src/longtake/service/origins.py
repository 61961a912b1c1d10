"""Decides which web pages may call the server, and which pages may read its answers (CORS).

A server without keys serves every program on its machine. That includes the browser, and therefore every web page
that is open in it: a page may send requests to any address, and the owner of the page may let its host name point to
127.0.0.1 (DNS rebinding). A server without keys therefore checks the headers Host and Origin of each request.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from starlette.requests import Request

from longtake.queue.addresses import HOSTS, bare_host
from longtake.service.responses import RequestFailed
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
        b"x-longtake-model",
        b"x-longtake-stand-in",
        b"x-longtake-step",
        b"x-longtake-window",
        b"etag",
        b"content-length",
        b"content-range",
        b"accept-ranges",
    )
)
"""Response headers that the scripts of a page may read."""
DEFAULT_HEADERS = b"authorization, content-type, accept, x-fal-target-url"
"""Request headers that the answer to a preflight request allows if the browser does not ask for particular ones."""
PREFLIGHT_MAX_AGE_S = b"7200"
"""Seconds for which a browser may cache the answer to a preflight request."""


def refusal(host: str, origin: str | None, settings: Settings) -> str | None:
    """Returns why a server without keys must refuse a request, as a sentence for the user, or None if it may answer.

    host: the Host header. It must name this machine, the host of `public_url`, or one of fal's hosts.
    origin: the Origin header. It must name this machine, the host of `public_url`, or an origin that `cors_origins`
        lists (`*` in that setting has no effect here). None means that there is no Origin header. Such a request
        may be answered: browsers send the header with all requests by which a page of another site could change or
        read something.
    """
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


def refuse_other_pages(request: Request) -> None:
    """Raises RequestFailed with status 403 if a browser says that a page of another origin sends the request.

    Without keys, every page that a person opens could otherwise call the server on that person's machine.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise RequestFailed(403, "Pages of other origins may not use this address.", "forbidden")


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
    """Makes the headers of answers that let web pages of other origins read them (CORS).

    `origins` are the origins whose pages may read answers, such as "https://example.com". "*" among them allows all
    pages. Cookies are never allowed.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        # Starlette's CORSMiddleware answers preflights with 200 or 400 where fal answers 204, adds `Vary` to every
        # answer, and makes a status poll slower by half (40 instead of 25 microseconds).
        self._allows_all = "*" in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, origin: bytes | None) -> RawHeaders:
        """Returns the CORS headers of the answer to a request.

        `origin` is the Origin header of the request. It is None if there is no such header; then the result is empty.
        For an origin that may not read answers, the result has only the header `vary`.
        """
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
        """Returns the CORS headers that the answer to a preflight (OPTIONS) request has beside those of `headers()`.

        The argument `headers` has the headers of the preflight request by their names in lower case.
        """
        return [
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", headers.get(b"access-control-request-headers", DEFAULT_HEADERS)),
            (b"access-control-max-age", PREFLIGHT_MAX_AGE_S),
        ]
