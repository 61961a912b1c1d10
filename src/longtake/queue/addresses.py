"""The URLs of the server's four services and of single requests.

The services are `run`, `queue`, `rest` and `cdn`. Each has a path prefix on the server's own host, such as `/queue`.
Each also answers under host names of fal (the hosted service whose API this server imitates), such as `queue.fal.run`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import SplitResult, urlsplit

from longtake.storage.keys import key_in_url

Service = Literal["run", "queue", "rest", "cdn"]
SERVICES: tuple[Service, ...] = get_args(Service)

HOSTS: Mapping[str, Service | None] = {
    "fal.run": "run",
    "falrun.com": "run",
    "queue.fal.run": "queue",
    "queue.falrun.com": "queue",
    "rest.fal.ai": "rest",
    "rest.alpha.fal.ai": "rest",
    "v3.fal.media": "cdn",
    "v3b.fal.media": "cdn",
    "fal.ai": None,
    "api.fal.ai": None,
}
"""fal's host name -> the service that answers under it, including the alternative names that clients try if the first
one fails. None: the hosts under which this server answers with paths of its own, such as the platform API
(`/v1/...`)."""

MAIN_HOSTS: Mapping[Service, str] = {
    "run": "fal.run",
    "queue": "queue.fal.run",
    "rest": "rest.fal.ai",
    "cdn": "v3.fal.media",
}
"""fal's main host name of each service. If a client reaches this server under any of fal's host names, the URLs in its
answers have these host names."""

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")


@dataclass(frozen=True)
class Destination:
    """The service (run, queue, rest or cdn) that a request addresses, and the path within the service.

    `service` is None for the server's own pages.
    """

    service: Service | None
    path: str


def destination(host: str, path: str) -> Destination:
    """Returns the service (run, queue, rest or cdn) that a request addresses, and the path within the service.

    `host` is the Host header.
    - If it is one of fal's host names, it selects the service. The path stays as it is.
    - Otherwise the first part of `path` selects the service and is removed: `/queue/a/b` is `/a/b` of the service
      `queue`.
    - If that part names no service, the service is None, and the path stays as it is.
    """
    if bare_host(host) in HOSTS:
        return Destination(HOSTS[bare_host(host)], path)
    first, _, rest = path.removeprefix("/").partition("/")
    by_prefix = next((service for service in SERVICES if service == first), None)
    return Destination(by_prefix, path if by_prefix is None else f"/{rest}")


def base_url(service: Service, *, scheme: str, host: str, public_url: str | None = None) -> str:
    """Returns the URL under which a client reaches a service (run, queue, rest or cdn), without a trailing slash.

    `scheme`, `host`: the scheme and the Host header of the client's request.
    `public_url`: the server's URL in the settings, or None.

    - If `host` is one of fal's host names, the URL is `https://` and fal's main host name of the service.
    - Otherwise it is `<public_url>/<service>`, or `<scheme>://<host>/<service>` if `public_url` is None.
    """
    if bare_host(host) in HOSTS:
        return f"https://{MAIN_HOSTS[service]}"
    return f"{(public_url or f'{scheme}://{host}').rstrip('/')}/{service}"


def sibling_url(base: str, service: Service) -> str:
    """Returns the URL of `service` (run, queue, rest or cdn), made from the URL `base` of any service of the same
    server.

    `base` is a URL that `base_url` returned.
    - If its host is one of fal's host names, the result is `https://` and fal's main host name of `service`.
    - Otherwise its last part is replaced: `http://host/queue` becomes `http://host/cdn` for the service `cdn`.
    """
    if bare_host(urlsplit(base).netloc) in HOSTS:
        return f"https://{MAIN_HOSTS[service]}"
    return f"{base.rpartition('/')[0]}/{service}"


def is_file_url(url: str, base: str) -> bool:
    """Returns True if `url` is the URL of a file of this server. The file need not exist.

    `base`: the URL of any service of this server, as returned by `base_url`.

    The hosts `localhost`, `127.0.0.1` and `::1` count as the same host. All host names under which fal serves files,
    such as `v3.fal.media`, count as one host, too.
    """
    try:
        given, own = urlsplit(url), urlsplit(f"{sibling_url(base, 'cdn')}/files")
        is_same_server = _server(given) == _server(own)
    except ValueError:
        return False
    key = key_in_url(url)
    return key is not None and is_same_server and given.path == f"{own.path}/{key}"


def file_url(base: str, key: str) -> str:
    """Returns the URL of a stored file on a server.

    `base`: the URL of any service of the server, such as `http://host/queue`, as the client reached it.
    `key`: the file's key in the store.
    """
    return f"{sibling_url(base, 'cdn')}/files/{key}"


def file_path(key: str) -> str:
    """Returns the address of a stored file, relative to the server's root, as the server's pages use it."""
    return f"cdn/files/{key}"


def _server(address: SplitResult) -> tuple[str, int | None]:
    """Returns (host, port) of a URL, so that the host names of one server have the same result:

    - The host `127.0.0.1` or `::1` becomes `localhost`.
    - Each of fal's host names for files becomes the main one of them.
    - Any other host is returned in lower case.

    The port is None if the URL does not state it.
    """
    host = (address.hostname or "").lower()
    if HOSTS.get(host) == "cdn":
        host = MAIN_HOSTS["cdn"]
    return "localhost" if host in ("127.0.0.1", "::1") else host, address.port


def is_valid_host(host: str) -> bool:
    """Returns True if a Host header is a host name or an IP address (IPv6 in brackets), with an optional port."""
    return _HOST.fullmatch(host) is not None


def bare_host(host: str) -> str:
    """Returns a Host header's value in lower case and without the port."""
    return re.sub(r":\d*$", "", host).lower()


NAMESPACES = ("workflows", "comfy")
"""fal's namespaces. The id of an endpoint may begin with one, as in `workflows/owner/alias`."""

REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
"""The regular expression of a request id."""


@dataclass(frozen=True)
class RequestPath:
    """The parts of the path `/<name>/requests/<request_id><rest>`.

    `name` is the id of an endpoint, or the name of its application, which is the beginning of the id. `rest` is empty
    or begins with a slash, such as `/status`.
    """

    name: str
    request_id: str
    rest: str


def request_path(path: str) -> RequestPath | None:
    """Returns the parts of a path `/<name>/requests/<request_id><rest>`, or None if `path` has another form."""
    name, _, tail = path.removeprefix("/").partition("/requests/")
    request_id, slash, rest = tail.partition("/")
    if not (path.startswith("/") and name and REQUEST_ID.fullmatch(request_id)):
        return None
    return RequestPath(name, request_id, slash + rest)


def app_name(endpoint: str) -> str:
    """Returns the name of the application that an endpoint belongs to, which is the beginning of the endpoint's id.

    It is the first two parts of the id, such as `owner/alias` for the id `owner/alias/sub/path`. If the first part is
    `workflows` or `comfy`, it is the first three parts, such as `workflows/owner/alias`.
    """
    parts = endpoint.strip("/").split("/")
    return "/".join(parts[: 3 if parts[0] in NAMESPACES else 2])


def names_endpoint(name: str, endpoint: str) -> bool:
    """Returns True if `name` is the endpoint's id, such as `fal-ai/some-app/extend`, or the name of its application,
    which is the beginning of the id, such as `fal-ai/some-app`.

    `name`: the name in the URL of a request, which may have either form.
    `endpoint`: the endpoint's id.
    """
    return name in (endpoint, app_name(endpoint))
