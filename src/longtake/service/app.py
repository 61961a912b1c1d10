"""The application: which service a request is for, who may read its answer, and what every answer carries."""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import parse_qs

import structlog
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longtake.queue.addresses import Destination, Service, base_url, destination, is_valid_host
from longtake.service import files, health, metrics, openapi, page, platform, proxy, queue, run
from longtake.service.auth import Door
from longtake.service.cors import Cors, RawHeaders
from longtake.service.errors import NotFound, RequestFailed, failure, unforeseen
from longtake.service.parts import Parts
from longtake.service.status import code, prepared, read_status, wants_logs
from longtake.service.strangers import turned_away

ROUTES: Mapping[Service | None, Sequence[Callable[[Parts], list[BaseRoute]]]] = {
    "run": (run.routes,),
    "queue": (queue.routes,),
    "rest": (files.rest_routes, platform.rest_routes),
    "cdn": (files.cdn_routes,),
    None: (openapi.routes, platform.routes, proxy.routes, page.routes, health.routes, metrics.routes),
}
"""The routes of each service; None: of the server itself."""

_log = structlog.get_logger("longtake.http")


def application(parts: Parts) -> ASGIApp:
    """The server's ASGI application. It serves itself as `scope["app"]`, so that a route may hand a request on to
    another service, by its path prefix."""
    return Application(parts)


class Application:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._door = Door(parts)
        self._cors = Cors(parts.settings.cors_origins)
        self._routers = {
            service: Router([route for routes in several for route in routes(parts)], redirect_slashes=False)
            for service, several in ROUTES.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": "there are no websockets here"})
            case "lifespan":
                await _lifespan(receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        host = headers[b"host"].decode("latin-1") if b"host" in headers else _own_host(scope)
        here = destination(host, scope["path"].rstrip("/") or "/")
        told = _Answer(send, self._cors.headers(headers.get(b"origin")))
        began = time.perf_counter()
        try:
            if not is_valid_host(host):
                raise RequestFailed(400, "The Host header is not a host.", "bad_request")
            if "\0" in here.path:
                raise NotFound  # no name has one, and PostgreSQL does not let one through
            await self._keep_out(host, headers.get(b"origin"))
            if scope["method"] == "OPTIONS":
                await told.whole(204, self._cors.preflight(headers))
                return
            if here.service == "queue" and here.path.endswith("/status") and scope["method"] in ("GET", "HEAD"):
                await self._status(here, headers, scope, told)
                return  # without a line in the log: clients poll ten times a second
            await self._route(here, host, scope, receive, told)
        except ClientDisconnect:
            return
        except Exception as error:
            response = failure(error)
            if response is None:
                _log.exception("failed", method=scope["method"], path=_shown(here), request_id=told.request_id)
            if told.status:
                raise
            await (response or unforeseen())(scope, receive, told)
        _note(here, scope, told, began)

    async def _keep_out(self, host: str, origin: bytes | None) -> None:
        """Raises RequestFailed for what a stranger's web page sends, where there are no keys."""
        reason = turned_away(host, None if origin is None else origin.decode("latin-1"), self._parts.settings)
        if reason is not None and not await self._parts.call(self._parts.keys.any_exist):
            raise RequestFailed(403, reason, "forbidden")

    async def _status(self, here: Destination, headers: Mapping[bytes, bytes], scope: Scope, told: "_Answer") -> None:
        query = scope["query_string"].decode("latin-1")
        authorization = headers.get(b"authorization", b"").decode("latin-1") or _token(query)
        view = await read_status(self._parts, self._door, here.path, authorization)
        body = prepared(view, logs=wants_logs(query))
        told.request_id = view.row.id
        await told.whole(code(view), [(b"content-type", b"application/json")], body)

    async def _route(self, here: Destination, host: str, scope: Scope, receive: Receive, told: "_Answer") -> None:
        base = base_url(
            here.service or "queue", scheme=scope["scheme"], host=host, public_url=self._parts.settings.public_url
        )
        inner = {
            **scope,
            "app": self,
            "path": here.path,
            "raw_path": here.path.encode(),
            "longtake.base": base,
            "longtake.door": self._door,
        }
        await self._routers[here.service](inner, receive, told)


class _Answer:
    """The way to the client: gives each answer its request id, and the headers of CORS."""

    def __init__(self, send: Send, extra: RawHeaders) -> None:
        self._send = send
        self._extra = extra
        self.request_id = ""
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: RawHeaders = [*message.get("headers", ())]
            given = dict(headers)
            if b"x-fal-request-id" in given:
                self.request_id = given[b"x-fal-request-id"].decode("latin-1")
            else:
                self.request_id = self.request_id or str(uuid.uuid4())
                headers.append((b"x-fal-request-id", self.request_id.encode("latin-1")))
            if b"access-control-allow-origin" not in given:
                headers += self._extra
            self.status = message["status"]
            message = {**message, "headers": headers}
        await self._send(message)

    async def whole(self, status: int, headers: RawHeaders, body: bytes = b"") -> None:
        """Sends an answer in one piece."""
        length = [] if status == 204 else [(b"content-length", b"%d" % len(body))]
        await self({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
        await self._send({"type": "http.response.body", "body": body})


def _own_host(scope: Scope) -> str:
    """The server's own address, for clients too old to say what they called."""
    name, port = scope.get("server") or ("localhost", None)
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


async def _lifespan(receive: Receive, send: Send) -> None:
    while (message := await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    if message["type"] == "lifespan.shutdown":
        await send({"type": "lifespan.shutdown.complete"})


def _token(query: str) -> str:
    """What stands for the Authorization header in the address, where a browser could send none."""
    tokens = parse_qs(query).get("fal_jwt_token") if "fal_jwt_token" in query else None
    return f"Bearer {tokens[0]}" if tokens else ""


def _shown(here: Destination) -> str:
    """The path as the log may have it: those of files and uploads are secrets."""
    return here.path if here.service not in ("cdn", "rest") else "/" + here.path.split("/")[1]


def _note(here: Destination, scope: Scope, told: _Answer, began: float) -> None:
    """One line per request, of reading ones only where they failed."""
    write = _log.debug if scope["method"] in ("GET", "HEAD", "OPTIONS") and told.status < 500 else _log.info
    write(
        "answered",
        method=scope["method"],
        service=here.service or "server",
        path=_shown(here),
        status=told.status,
        ms=round((time.perf_counter() - began) * 1000, 1),
        request_id=told.request_id,
    )
