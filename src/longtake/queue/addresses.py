"""The URLs of the server's four services and of single requests.

A service is reached under a path prefix of one host, or under fal's own host names.
"""

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
"""fal's host names, with the alternative names that its clients fall back to."""

MAIN_HOSTS: Mapping[Service, str] = {
    "run": "fal.run",
    "queue": "queue.fal.run",
    "rest": "rest.fal.ai",
    "cdn": "v3.fal.media",
}
"""The host name of each service in the URLs that are sent to a client of fal's host names."""

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")


@dataclass(frozen=True)
class Destination:
    """The service that a request addresses, None for the server's own pages, and the path within it."""

    service: Service | None
    path: str


def destination(host: str, path: str) -> Destination:
    """Returns where a request goes: by its Host header if that is one of fal's hosts, otherwise by its path prefix."""
    by_host = HOSTS.get(bare_host(host))
    if by_host is not None:
        return Destination(by_host, path)
    first, _, rest = path.removeprefix("/").partition("/")
    by_prefix = next((service for service in SERVICES if service == first), None)
    return Destination(by_prefix, path if by_prefix is None else f"/{rest}")


def base_url(service: Service, *, scheme: str, host: str, public_url: str | None = None) -> str:
    """Returns the URL of a service as the client that sent this Host header reaches it, without a trailing slash.

    `public_url` is the configured URL of the server, which replaces `scheme` and `host` unless the client called one of
    fal's hosts.
    """
    if bare_host(host) in HOSTS:
        return f"https://{MAIN_HOSTS[service]}"
    return f"{(public_url or f'{scheme}://{host}').rstrip('/')}/{service}"


def sibling_url(base: str, service: Service) -> str:
    """Returns the URL of `service` on the same server, from the URL `base` of any of its services."""
    if bare_host(urlsplit(base).netloc) in HOSTS:
        return f"https://{MAIN_HOSTS[service]}"
    return f"{base.rpartition('/')[0]}/{service}"


def is_valid_host(host: str) -> bool:
    """Returns True if a Host header is a well-formed host name or IP address with an optional port."""
    return _HOST.fullmatch(host) is not None


def bare_host(host: str) -> str:
    """Returns the host in lower case and without its port."""
    return re.sub(r":\d*$", "", host).lower()


NAMESPACES = ("workflows", "comfy")
"""fal's namespaces, which may precede the owner in an application's name."""

REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
"""The form of a request id."""

_REQUEST_PATH = re.compile(r"/(?P<name>.+?)/requests/(?P<id>[^/]+)(?P<rest>(?:/.*)?)", re.ASCII)


@dataclass(frozen=True)
class RequestPath:
    """The parts of the path `/<name>/requests/<request_id><rest>`; `rest` is empty or, for example, `/status`."""

    name: str
    request_id: str
    rest: str


def request_path(path: str) -> RequestPath | None:
    """Returns the parts of a request's path, or None if the path is not of this form."""
    found = _REQUEST_PATH.fullmatch(path)
    if found is None or not REQUEST_ID.fullmatch(found["id"]):
        return None
    return RequestPath(found["name"], found["id"], found["rest"])


def app_name(endpoint: str) -> str:
    """Returns the application's name of an endpoint: `owner/alias` of `owner/alias/sub/path`, after its namespace."""
    parts = endpoint.strip("/").split("/")
    return "/".join(parts[: 3 if parts[0] in NAMESPACES else 2])


def names_endpoint(name: str, endpoint: str) -> bool:
    """Returns True if a client may use this name for requests of the endpoint: its id, or its application's name."""
    return name in (endpoint, app_name(endpoint))
