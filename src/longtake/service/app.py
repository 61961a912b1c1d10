"""The ASGI application: passes each request to the service that it addresses, and adds headers to every answer.

The services are those that fal has on hosts of its own: `run` (a client waits for its result), `queue` (a client asks
for its result later), `rest` (creates uploads and tokens) and `cdn` (stores files). The host or the path of a request
selects one of them. All other requests are for the server's own pages.
"""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence

import structlog
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Router
from starlette.types import Message, Receive, Scope, Send

from longtake.queue.addresses import Destination, Service, base_url, destination, is_valid_host
from longtake.service import (
    files,
    health,
    history,
    keys,
    media,
    models,
    openapi,
    origins,
    pages,
    plans,
    platform,
    preview,
    proxy,
    queue,
    run,
    sharing,
)
from longtake.service.auth import Authenticator, authorization_in
from longtake.service.origins import Cors, RawHeaders
from longtake.service.responses import NotFound, RequestFailed, error_response, internal_error
from longtake.service.state import ServerState
from longtake.storage.keys import KEY


def _routes_of_requests(state: ServerState) -> list[BaseRoute]:
    entries = history.Entries(state)
    return [*history.routes(entries), *sharing.routes(entries)]


ROUTES: Mapping[Service | None, Sequence[Callable[[ServerState], list[BaseRoute]]]] = {
    "run": (run.routes,),
    "queue": (queue.routes,),
    "rest": (files.rest_routes, platform.rest_routes),
    "cdn": (files.cdn_routes,),
    None: (
        openapi.routes,
        platform.routes,
        proxy.routes,
        pages.routes,
        media.routes,
        _routes_of_requests,
        models.routes,
        keys.routes,
        preview.routes,
        plans.routes,
        health.routes,
    ),
}
"""Service -> the functions that return its routes. The key None has the routes that belong to no service of fal."""

MAX_PATH = 1000
"""Maximum length in characters of the path in a URL. The longest useful one has about 150."""
MOST_PARAMETERS = 1000
"""Maximum number of parameters in a URL's query string. Parsing so many takes about 3 ms."""

_log = structlog.get_logger("longtake.http")


class Application:
    """The server's ASGI application.

    The routes receive an ASGI scope whose path has no slashes at its end, with four additional entries:

    app: this application. The proxy's route passes requests back to it with another path (see `service.proxy`).
    longtake.base_url: the URL of the called service as the client sees it, such as `http://host/run`, without a
        trailing slash. The services are run, queue, rest and cdn; each has routes of its own. For the server's own
        pages it is the URL of the service queue.
    longtake.authenticator: the server's `Authenticator`.
    longtake.end_slashes: the number of slashes at the end of the path that the client asked for; 0 for the path `/`.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._authenticator = Authenticator(state)
        self._cors = Cors(state.settings.cors_origins)
        self._routers = {
            service: Router([route for routes in functions for route in routes(state)], redirect_slashes=False)
            for service, functions in ROUTES.items()
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
        has_many_hosts = sum(name == b"host" for name, _ in scope["headers"]) > 1
        host = headers[b"host"].decode("latin-1") if b"host" in headers else _own_host(scope)
        target = destination(host, scope["path"].rstrip("/") or "/")
        answer = _Answer(send, self._cors.headers(headers.get(b"origin")))
        started = time.perf_counter()
        try:
            if has_many_hosts or not is_valid_host(host):
                raise RequestFailed(400, "A request has one Host header, which names a host.", "bad_request")
            if scope["query_string"].count(b"&") >= MOST_PARAMETERS:
                raise RequestFailed(400, f"The query string has more than {MOST_PARAMETERS} parameters.", "bad_request")
            if len(target.path) > MAX_PATH or not target.path.isprintable():
                raise NotFound  # No endpoint, request or file has such a name, and PostgreSQL refuses NUL.
            await self._check_origin(host, headers.get(b"origin"))
            if scope["method"] == "OPTIONS":
                await answer.send_whole(204, self._cors.preflight_headers(headers))
                return
            if target.service == "queue" and target.path.endswith("/status") and scope["method"] in ("GET", "HEAD"):
                await self._send_status(target, headers, scope, answer)
                return  # Status requests are not logged, because each waiting client sends ten per second.
            await self._route(target, host, scope, receive, answer)
        except ClientDisconnect:
            return
        except Exception as error:
            response = error_response(error)
            if response is None:
                _log.exception(
                    "A request failed with an unexpected error",
                    method=scope["method"],
                    path=_loggable_path(target),
                    request_id=answer.request_id,
                )
            if answer.status:
                raise
            await (response or internal_error())(scope, receive, answer)
        _log_request(target, scope, answer, started)

    async def _check_origin(self, host: str, origin: bytes | None) -> None:
        """Raises RequestFailed with status 403 if the server has no keys and one of these headers is not allowed.

        This keeps web pages of other sites from using the server. `origins.refusal` decides what is allowed.

        host: the request's header Host.
        origin: the request's header Origin; None if it has none.
        """
        reason = origins.refusal(host, None if origin is None else origin.decode("latin-1"), self._state.settings)
        if reason is not None and not await self._state.call(self._state.keys.any_exist):
            raise RequestFailed(403, reason, "forbidden")

    async def _send_status(
        self, target: Destination, headers: Mapping[bytes, bytes], scope: Scope, answer: "_Answer"
    ) -> None:
        """Sends the status of the queued request that `target.path` names.

        Does this without a router, because that saves time, and status requests are by far the most frequent ones.

        target: the service (run, queue, rest or cdn) and the path that the HTTP request addresses.
        headers: the headers of the HTTP request by their names in lower case.
        scope: the ASGI scope of the HTTP request.
        answer: sends the answer.

        Raises RequestFailed with status 401 if the caller is unknown. Raises NotFound if there is no such queued
        request, or the caller may not see it.
        """
        query = scope["query_string"].decode("latin-1")
        authorization = headers.get(b"authorization", b"").decode("latin-1") or authorization_in(query)
        caller = await self._authenticator.caller(authorization, scope)
        status = await queue.read_status(self._state, caller, target.path)
        body = queue.status_json(status, logs=queue.wants_logs(query))
        answer.request_id = status.row.id
        await answer.send_whole(queue.status_code(status), [(b"content-type", b"application/json")], body)

    async def _route(self, target: Destination, host: str, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        base = base_url(
            target.service or "queue", scheme=scope["scheme"], host=host, public_url=self._state.settings.public_url
        )
        inner = {
            **scope,
            "app": self,
            "path": target.path,
            "raw_path": target.path.encode(),
            "longtake.base_url": base,
            "longtake.authenticator": self._authenticator,
            "longtake.end_slashes": len(scope["path"]) - len(scope["path"].rstrip("/") or "/"),
        }
        await self._routers[target.service](inner, receive, answer)


class _Answer:
    """The ASGI callable `send` for one answer. It adds the request id and the CORS headers to the answer's headers.

    send: the server's own callable, to which everything is passed on.
    cors_headers: the CORS headers.
    status: the HTTP status of the answer; 0 until its headers have been sent.
    request_id: the value of the answer's header `x-fal-request-id`; empty until it is known.
    """

    def __init__(self, send: Send, cors_headers: RawHeaders) -> None:
        self._send = send
        self._cors_headers = cors_headers
        self.request_id = ""
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: RawHeaders = [*message.get("headers", ())]
            by_name = dict(headers)
            if b"x-fal-request-id" in by_name:
                self.request_id = by_name[b"x-fal-request-id"].decode("latin-1")
            else:
                self.request_id = self.request_id or str(uuid.uuid4())
                headers.append((b"x-fal-request-id", self.request_id.encode("latin-1")))
            if b"access-control-allow-origin" not in by_name:
                # The proxy's route calls the application again, so its answer has the CORS headers already.
                headers += self._cors_headers
            self.status = message["status"]
            message = {**message, "headers": headers}
        try:
            await self._send(message)
        except RuntimeError as error:
            if "handler is closed" not in str(error):
                raise
            raise ClientDisconnect from error  # uvloop noticed it only when it had to write

    async def send_whole(self, status: int, headers: RawHeaders, body: bytes = b"") -> None:
        """Sends a whole answer: the HTTP status, the headers and the body.

        The header `content-length` is added to `headers`, except for status 204.
        """
        length = [] if status == 204 else [(b"content-length", b"%d" % len(body))]
        await self({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
        await self._send({"type": "http.response.body", "body": body})


def _own_host(scope: Scope) -> str:
    """Returns the server's own address as `host:port`.

    It is used as the Host header of a request without this header, which HTTP/1.0 allows.
    """
    name, port = scope.get("server") or ("localhost", None)
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


async def _lifespan(receive: Receive, send: Send) -> None:
    while (message := await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    if message["type"] == "lifespan.shutdown":
        await send({"type": "lifespan.shutdown.complete"})


def _loggable_path(target: Destination) -> str:
    """Returns the part of a request's path that may be logged.

    - For the services `cdn` and `rest`: only the first part, because the others may contain a secret key or token.
    - For all others: the whole path, with `...` in place of keys of files, because everybody who knows one may read the
      file.

    `target` is the service and the path that the request addresses.
    """
    parts = target.path.split("/")
    if target.service in ("cdn", "rest"):
        return "/" + parts[1]
    return "/".join("..." if KEY.fullmatch(part) else part for part in parts)


def _log_request(target: Destination, scope: Scope, answer: _Answer, started: float) -> None:
    """Logs an answered request at level info. GET, HEAD and OPTIONS with a status below 500 are logged at level debug.

    target: the service (run, queue, rest or cdn) and the path that the request addresses.
    scope: the ASGI scope of the request.
    answer: the answer that has been sent.
    started: the value of `time.perf_counter()` when the request arrived.
    """
    write = _log.debug if scope["method"] in ("GET", "HEAD", "OPTIONS") and answer.status < 500 else _log.info
    write(
        "Answered a request",
        method=scope["method"],
        service=target.service or "server",
        path=_loggable_path(target),
        status=answer.status,
        ms=round((time.perf_counter() - started) * 1000, 1),
        request_id=answer.request_id,
    )
