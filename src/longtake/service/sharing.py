"""Shared results: what everybody who knows the address of a result's file may see of the request that made it."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from longtake.derived.place import joint_place
from longtake.families import plan_from_json
from longtake.queue import recent
from longtake.queue.engine import stored_plan
from longtake.service.auth import EVERYBODY
from longtake.service.history import COLUMNS, Entries
from longtake.service.origins import refuse_other_pages
from longtake.service.reports import report
from longtake.service.responses import FRESH, NotFound, to_json

_SHARED = ("endpoint", "completed_at", "model", "prompt", "seed", "video")
"""The facts about a request that everybody may see if its result is shared. The server's own pages also show others."""


def routes(entries: Entries) -> list[BaseRoute]:
    """Returns the route that sends what everybody may see of a shared result. It needs no key."""

    async def shared(request: Request) -> Response:
        refuse_other_pages(request)
        key = request.path_params["key"]
        return await report(entries.state, request, EVERYBODY, lambda: to_json(shared_result(entries, key)), FRESH)

    return [Route("/page/shared/{key}", shared)]


def shared_result(entries: Entries, key: str) -> dict[str, Any]:
    """Returns what everybody may see of the request that made a file.

    The result has the members {endpoint, completed_at, model, prompt, seed, video}, as the server's own pages have them
    (see `Entries.of`), and these:

    stand_in: True if the model replaces the one that the endpoint names. The server's own pages have a sentence here,
        which advises the operator.
    joint: where source and new frames meet (see `joint_place`); None if the request's plan was deleted.

    key: the key of the file, which is the result of the request.

    Raises NotFound in these cases:
    - The server does not share results.
    - There is no such file, or it is not the result of a request.
    - The file's access rules do not let everybody read it.
    - The client did not let the server store the request's input.
    """
    state = entries.state
    file = state.store.find_whole(key) if state.shares_results() else None
    if file is None or file.request_id is None:
        raise NotFound
    row = recent.one(state.engine, COLUMNS, file.request_id, None)
    entry = None if row is None or not row.store_io else entries.of([row])[0]
    if entry is None or entry["shared"] != f"shared/{key}":
        raise NotFound
    stored = stored_plan(state.engine, file.request_id)
    plan = None if stored is None else plan_from_json(stored)
    return {
        **{name: entry[name] for name in _SHARED},
        "stand_in": entry["stand_in"] is not None,
        "joint": None if plan is None else joint_place(plan),
    }
