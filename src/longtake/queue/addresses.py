"""The addresses under which a client sees the server's four services: by prefix of one host, or by fal's own hosts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import urlsplit

Service = Literal["run", "queue", "rest", "cdn"]
SERVICES: tuple[Service, ...] = get_args(Service)

HOSTS: Mapping[str, Service] = {
    "fal.run": "run",
    "falrun.com": "run",
    "queue.fal.run": "queue",
    "queue.falrun.com": "queue",
    "rest.fal.ai": "rest",
    "rest.alpha.fal.ai": "rest",
    "v3.fal.media": "cdn",
    "v3b.fal.media": "cdn",
}
"""fal's hosts, and those that its clients fall back to."""

HOME: Mapping[Service, str] = {"run": "fal.run", "queue": "queue.fal.run", "rest": "rest.fal.ai", "cdn": "v3.fal.media"}

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")


@dataclass(frozen=True)
class Place:
    """Where a request goes: the service (None: the server's own pages), and the path within it."""

    service: Service | None
    path: str


def place(host: str, path: str) -> Place:
    """The service of a request's Host header, else of the first part of its path."""
    by_host = HOSTS.get(bare_host(host))
    if by_host is not None:
        return Place(by_host, path)
    first, _, rest = path.removeprefix("/").partition("/")
    by_prefix = next((service for service in SERVICES if service == first), None)
    return Place(by_prefix, path if by_prefix is None else f"/{rest}")


def base_of(service: Service, *, scheme: str, host: str, public_url: str | None = None) -> str:
    """The base of a service as the client that sent this Host header reaches it; `public_url` is the server's, where
    it is not the one that the client called."""
    if bare_host(host) in HOSTS:
        return f"https://{HOME[service]}"
    return f"{(public_url or f'{scheme}://{host}').rstrip('/')}/{service}"


def sibling(base: str, service: Service) -> str:
    """The base of another service of the same server, beside a base of any one of them."""
    if bare_host(urlsplit(base).netloc) in HOSTS:
        return f"https://{HOME[service]}"
    return f"{base.rpartition('/')[0]}/{service}"


def is_host(host: str) -> bool:
    """Whether this can be a Host header, and no more than that."""
    return _HOST.fullmatch(host) is not None


def bare_host(host: str) -> str:
    """The host without its port, in lower case."""
    return re.sub(r":\d*$", "", host).lower()
