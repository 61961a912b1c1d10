"""The routes for monitoring: `/health` and `/ready` for supervisors and load balancers, `/metrics` for Prometheus."""

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from longtake.service.auth import caller_of, require_admin
from longtake.service.readiness import WORKS, Readiness
from longtake.service.responses import json_response
from longtake.service.state import ServerState
from longtake.version import __version__


def routes(state: ServerState) -> list[BaseRoute]:
    """Returns the routes `/health`, `/ready` and `/metrics`.

    On a server with keys, `/metrics` needs a key of the scope `admin`. The other two need no key.
    """

    readiness = Readiness(state)

    async def health(_: Request) -> Response:
        return json_response({"status": "ok", "version": __version__})

    async def ready(_: Request) -> Response:
        if state.draining.is_set():
            return json_response({"status": "draining"}, 503)
        report = await readiness.report()
        works = all(text == WORKS for text in report.values())
        return json_response({"status": "ready" if works else "not ready", **report}, 200 if works else 503)

    async def metrics(request: Request) -> Response:
        require_admin(await caller_of(request))
        return Response(await state.call(state.metrics.text, state.engine), media_type=CONTENT_TYPE_LATEST)

    return [Route("/health", health), Route("/ready", ready), Route("/metrics", metrics)]
