"""Web pages from elsewhere, where there are no keys: whoever opens one must not lend it the server on their machine.

A page may send requests to any address, and may give a name of its own the address of this machine. So while nobody
needs a key, the server must have been called by a name of its own, and a page that calls must be of this machine too.
"""

import ipaddress
from urllib.parse import urlsplit

from longtake.queue.addresses import HOSTS, bare_host
from longtake.settings import Settings


def turned_away(host: str, origin: str | None, settings: Settings) -> str | None:
    """Why a request with this Host and Origin is not served without keys; None where it is."""
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
