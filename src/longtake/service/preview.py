"""The route of the live preview: small pictures of the frames that a running request is making."""

from cachetools import TTLCache
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from longtake.queue import previews
from longtake.queue.requests import RequestRow
from longtake.service.auth import caller_with_key
from longtake.service.origins import refuse_other_pages
from longtake.service.queue import find_status
from longtake.service.reports import MOST_OPEN
from longtake.service.responses import FRESH, NotFound
from longtake.service.state import ServerState

ASK_EVERY_S = 1.0
"""Minimum seconds between two writes to the database which record that a client asks for previews of a request."""

MOST_WATCHED = 10_000
"""Largest number of requests for which the server remembers when it last wrote to the database that a client asks for
previews. It does not repeat such a write within a second (ASK_EVERY_S), except for requests beyond this number."""


def routes(state: ServerState) -> list[BaseRoute]:
    """Returns the route of the preview of a running request."""
    recent: TTLCache[str, bool] = TTLCache(MOST_WATCHED, ASK_EVERY_S)

    async def preview(request: Request) -> Response:
        refuse_other_pages(request)
        caller = await caller_with_key(request)
        row = (await find_status(state, request)).row
        if row.key_id != caller.key_id:
            raise NotFound
        headers = {**FRESH, "x-fal-request-id": row.id}
        if row.has_ended:
            return Response(status_code=204, headers=headers)
        is_new = row.id not in recent
        if is_new:
            recent[row.id] = True
        with state.reports.opened(caller.key_id, MOST_OPEN):
            async with state.report_threads.permit(caller.key_id):
                found = await state.call_long(_newest, state, row, is_new)
        if found is None:
            return Response(status_code=204, headers=headers)
        place = {
            "x-longtake-step": f"{found.step}/{found.steps}",
            "x-longtake-window": f"{found.window}/{found.windows}",
        }
        return Response(found.picture, headers=headers | place, media_type="image/webp")

    return [Route("/models/{name:path}/requests/{request_id}/preview", preview)]


def _newest(state: ServerState, row: RequestRow, is_new: bool) -> previews.StoredPreview | None:
    """Returns the newest preview of a request, or None if there is none yet.

    row: the request's row.
    is_new: True if a client begins to ask for previews. The database is then told, so that the worker makes more of
        them.
    """
    if is_new:
        previews.ask(state.engine, row.id)
    return previews.newest(state.engine, row) if row.state == "IN_PROGRESS" else None
