"""`/metrics`, for Prometheus: where there are keys, with one of the scope admin."""

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from longtake.service.auth import caller_of, require_admin
from longtake.service.parts import Parts


def routes(parts: Parts) -> list[BaseRoute]:
    async def metrics(request: Request) -> Response:
        require_admin(await caller_of(request))
        return Response(await parts.call(parts.metrics.text, parts.engine), media_type=CONTENT_TYPE_LATEST)

    return [Route("/metrics", metrics)]
