"""`/health`: the process answers. `/ready`: it takes requests. For whoever restarts it or sends it work; no key."""

import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from longtake.database.connection import reading
from longtake.service.errors import answer
from longtake.service.parts import Parts
from longtake.version import __version__


def routes(parts: Parts) -> list[BaseRoute]:
    async def health(_: Request) -> Response:
        return answer({"status": "ok", "version": __version__})

    async def ready(_: Request) -> Response:
        if parts.draining.is_set():
            return answer({"status": "draining"}, 503)
        if not await parts.call(_answers, parts.engine):
            return answer({"status": "the database does not answer"}, 503)
        return answer({"status": "ready"})

    return [Route("/health", health), Route("/ready", ready)]


def _answers(engine: sa.Engine) -> bool:
    try:
        with reading(engine) as connection:
            return connection.execute(sa.text("SELECT 1")).scalar() == 1
    except sa.exc.SQLAlchemyError:
        return False
