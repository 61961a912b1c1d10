"""The routes for API keys, with which an admin lists, creates and revokes keys from the server's pages."""

from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from longtake.access.keys import Caller, Key, Scope
from longtake.service.auth import admin_of_page
from longtake.service.bodies import read_json
from longtake.service.reports import report
from longtake.service.responses import FRESH, NotFound, invalid, json_response, to_json
from longtake.service.state import ServerState


def routes(state: ServerState) -> list[BaseRoute]:
    """Returns the routes for API keys. All of them need a key of the scope admin, unless the server has no keys."""

    async def listed(request: Request) -> Response:
        caller = await admin_of_page(request)
        return await report(state, request, caller.key_id, lambda: to_json({"keys": _entries(state, caller)}), FRESH)

    async def create(request: Request) -> Response:
        caller = await admin_of_page(request)
        alias, scope, most = _new_key(await read_json(request, state, caller.key_id))
        key = await state.call(state.keys.create, alias, scope, most)
        found = next(one for one in await state.call(state.keys.list) if one.id == key.partition(":")[0])
        return json_response({**_entry(found, caller), "key": key}, 201, FRESH)

    async def revoke(request: Request) -> Response:
        await admin_of_page(request)
        if not await state.call_with_retries(state.keys.revoke, request.path_params["key_id"]):
            raise NotFound
        return json_response({"id": request.path_params["key_id"], "revoked": True}, headers=FRESH)

    return [
        Route("/page/keys", listed, methods=["GET"]),
        Route("/page/keys", create, methods=["POST"]),
        Route("/page/keys/{key_id}", revoke, methods=["DELETE"]),
    ]


def _entries(state: ServerState, caller: Caller) -> list[dict[str, Any]]:
    return [_entry(key, caller) for key in state.keys.list()]


def _entry(key: Key, caller: Caller) -> dict[str, Any]:
    """Returns the facts about an API key (see `Key`) without its secret, and `own`: True if it is the caller's key."""
    return {**asdict(key), "own": key.id == caller.key_id}


def _new_key(body: Any) -> tuple[str, Scope, int | None]:
    """Returns (alias, scope, max_in_flight) of the key that a JSON body asks for (see `Keys.create`).

    Raises ModelFailed (HTTP status 422) if one of them is wrong.
    """
    values = body if isinstance(body, dict) else {}
    alias, scope, most = (values.get(name) for name in ("alias", "scope", "max_in_flight"))
    if not isinstance(alias, str) or not 0 < len(alias) <= 200 or not alias.isprintable():
        raise invalid("alias", "Input should be a name of 1 to 200 characters in one line", alias)
    if scope not in ("run", "admin"):
        raise invalid("scope", "Input should be run or admin", scope)
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or not 1 <= most < 2**31):
        raise invalid("max_in_flight", "Input should be a whole number from 1 on, or null", most)
    return alias, "admin" if scope == "admin" else "run", most
