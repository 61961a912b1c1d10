"""The proxy for browser programs, which answers requests that they would otherwise send to fal's hosts.

fal's JavaScript client sends each request to the proxy. The header `x-fal-target-url` contains the URL at fal for which
the request is meant. The server never connects to that URL. It answers the request itself, with the service that
belongs to the URL's host.
"""

import re
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from longtake.access.tokens import ANONYMOUS, Tokens
from longtake.queue.addresses import HOSTS, Service
from longtake.service.auth import caller_if_valid
from longtake.service.responses import json_response
from longtake.service.state import ServerState

PATH = "/api/fal/proxy"
TARGET_HEADER = "x-fal-target-url"
METHODS = ("GET", "POST", "PUT")

TOKEN_S = 60.0
"""Lifetime in seconds of the token that the proxy adds to a request without a valid key (setting `open_proxy`)."""

REST_PATHS = re.compile(r"/storage/upload/(initiate|initiate-multipart)|/tokens/?")
"""The paths of the service `rest` that may be requested through the proxy: those that create uploads and tokens. All
paths of the services `run` and `queue` may be requested through it, and none of `cdn`, because clients upload without
the proxy.
"""


def routes(state: ServerState) -> list[BaseRoute]:
    """Returns the route to which browser programs send requests that are meant for fal's hosts."""
    return [Route(PATH, _Proxy(state), methods=[*METHODS])]


class _Proxy:
    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._tokens = Tokens(state.engine)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        target = parse_target(Headers(scope=scope).get(TARGET_HEADER, ""))
        if target is None:
            await json_response("Invalid request", 400)(scope, receive, send)
            return
        inner = _redirected(scope, *target)
        if await caller_if_valid(Request(inner)) is None:
            if not self._state.settings.open_proxy:
                await json_response("Unauthorized", 401)(scope, receive, send)
                return
            token = await self._state.call_with_retries(self._tokens.issue, ANONYMOUS.key_id, "run", within_s=TOKEN_S)
            inner["headers"] = [
                *((name, value) for name, value in inner["headers"] if name != b"authorization"),
                (b"authorization", f"Bearer {token}".encode()),
            ]
        application: ASGIApp = scope["app"]
        await application(inner, receive, send)


def parse_target(url: str) -> tuple[Service, str, str] | None:
    """Returns (service, path, query) of `url`, the URL at fal for which a request is meant.

    The path and the query remain percent-encoded. Returns None if the proxy must refuse the request:
    - if `url` is not a valid HTTP or HTTPS URL
    - if its host is not that of one of the services `run`, `queue` and `rest`
    - if it is for `rest`, but neither creates an upload nor a token.
    """
    try:
        address = urlsplit(url)
        service = HOSTS.get(address.hostname or "")
    except ValueError:
        return None
    path = address.path or "/"
    if address.scheme not in ("http", "https") or not url.isascii() or not url.isprintable():
        return None
    if service in ("run", "queue") or (service == "rest" and REST_PATHS.fullmatch(path)):
        return service, path, address.query
    return None


def _redirected(scope: Scope, service: Service, path: str, query: str) -> Scope:
    """Returns the ASGI scope of a request as if the client had sent it to `path` of this server's `service`.

    `scope` is the scope of the actual request, which was sent to the proxy. It is not changed. `path` and `query` are
    percent-encoded. The headers `cookie` and `x-fal-target-url` are removed.
    """
    inner = {key: value for key, value in scope.items() if key not in ("path_params", "endpoint", "route", "router")}
    inner["path"] = f"/{service}{unquote(path)}"
    inner["raw_path"] = f"/{service}{path}".encode()
    inner["query_string"] = query.encode()
    inner["root_path"] = ""
    inner["headers"] = [
        (name, value) for name, value in scope["headers"] if name not in (TARGET_HEADER.encode(), b"cookie")
    ]
    return inner
