"""The proxy that browsers' programs talk to: what they meant for fal's hosts is done here, in this process.

A request names its target in `x-fal-target-url`; nothing is ever fetched from there. It goes to our own application as
if it had come to the service of that host, with its body and the answer's passing through piece by piece.
"""

import re
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from longtake.access.tokens import ANONYMOUS, Tokens
from longtake.queue.addresses import HOSTS, Service
from longtake.service.auth import caller_of
from longtake.service.errors import RequestFailed, answer
from longtake.service.parts import Parts

PATH = "/api/fal/proxy"
TARGET = "x-fal-target-url"
METHODS = ("GET", "POST", "PUT")

TOKEN_S = 60.0
"""The life of the token that a caller without a key gets where the settings open the proxy: one request's way."""

REST = re.compile(r"/storage/upload/(initiate|initiate-multipart)|/tokens/?")
"""What may be asked of the service rest; all may be asked of run and queue, and nothing of the files', which clients
reach without the proxy."""


def routes(parts: Parts) -> list[BaseRoute]:
    """The proxy in front of the application that it is a route of."""
    return [Route(PATH, _Proxy(parts), methods=[*METHODS])]


class _Proxy:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._tokens = Tokens(parts.engine)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        target = aim(Headers(scope=scope).get(TARGET, ""))
        if target is None:
            await answer("Invalid request", 400)(scope, receive, send)
            return
        inner = redirected(scope, *target)
        try:
            await caller_of(Request(inner))
        except RequestFailed:
            if not self._parts.settings.open_proxy:
                await answer("Unauthorized", 401)(scope, receive, send)
                return
            token = await self._parts.ask(self._tokens.make, ANONYMOUS.key_id, "run", within_s=TOKEN_S)
            inner["headers"] = [
                *((name, value) for name, value in inner["headers"] if name != b"authorization"),
                (b"authorization", f"Bearer {token}".encode()),
            ]
        application: ASGIApp = scope["app"]
        await application(inner, receive, send)


def aim(url: str) -> tuple[Service, str, str] | None:
    """The service, path and query that a target means, path and query as they are written; None where it may not."""
    try:
        address = urlsplit(url)
        service = HOSTS.get(address.hostname or "")
    except ValueError:
        return None
    path = address.path or "/"
    if address.scheme not in ("http", "https") or not url.isascii() or not url.isprintable():
        return None
    if service in ("run", "queue") or (service == "rest" and REST.fullmatch(path)):
        return service, path, address.query
    return None


def redirected(scope: Scope, service: Service, path: str, query: str) -> Scope:
    """The request as one to a service of this server."""
    inner = {key: value for key, value in scope.items() if key not in ("path_params", "endpoint", "route", "router")}
    inner["path"] = f"/{service}{unquote(path)}"
    inner["raw_path"] = f"/{service}{path}".encode()
    inner["query_string"] = query.encode()
    inner["root_path"] = ""
    inner["headers"] = [(name, value) for name, value in scope["headers"] if name not in (TARGET.encode(), b"cookie")]
    return inner
