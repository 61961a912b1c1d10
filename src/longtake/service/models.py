"""The routes for the models on this server's machine, with which an admin lists and downloads them from the pages, and
the route of the names of its LoRAs. A server without devices of its own (the setting `slots` is `none`) has no models,
and answers 404 to the routes for models.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from longtake.models import download
from longtake.models.download import ModelStatus
from longtake.models.lora_files import installed_names
from longtake.models.registry import CARDS, ModelCard
from longtake.service.auth import admin_of_page, caller_of_page
from longtake.service.pulls import MOST_PULLS, PullState, TooManyPulls
from longtake.service.reports import report
from longtake.service.responses import FRESH, NotFound, RequestFailed, json_response, limit_reached, to_json
from longtake.service.state import ServerState
from longtake.worker.machine import free_bytes


def routes(state: ServerState) -> list[BaseRoute]:
    """Returns the routes for models, and the route of the names of the LoRAs in this machine's folder.

    Those for models need a key of the scope admin, unless the server has no keys.
    """

    async def listed(request: Request) -> Response:
        caller = await admin_of_page(request)
        _check_slots(state)
        return await report(state, request, caller.key_id, lambda: to_json(models_page(state)), FRESH)

    def changing(
        change: Callable[[ModelCard], Awaitable[None]], status: int
    ) -> Callable[[Request], Awaitable[Response]]:
        async def route(request: Request) -> Response:
            await admin_of_page(request)
            _check_slots(state)
            card = CARDS.get(request.path_params["name"])
            if card is None:
                raise NotFound
            await change(card)
            return json_response(await state.call(_entry, state, download.status(card, state.settings)), status, FRESH)

        return route

    async def begin(card: ModelCard) -> None:
        if card.embedded:
            raise RequestFailed(400, f"{card.name} ships inside the package; there is nothing to fetch.", "bad_request")
        try:
            await state.call(state.pulls.begin, card.name)
        except TooManyPulls:
            raise limit_reached(
                f"{MOST_PULLS} models are being downloaded, as many as may be. Ask again when one is here."
            ) from None

    async def cancel(card: ModelCard) -> None:
        if not await state.call(state.pulls.cancel, card.name):
            raise NotFound

    async def loras(request: Request) -> Response:
        await caller_of_page(request)
        names = await state.call(installed_names, state.settings) if state.settings.slots else []
        return json_response({"loras": names}, headers=FRESH)

    return [
        Route("/page/loras", loras),
        Route("/page/models", listed),
        Route("/page/models/{name}/pull", changing(begin, 202), methods=["POST"]),
        Route("/page/models/{name}/pull", changing(cancel, 200), methods=["DELETE"]),
    ]


def _check_slots(state: ServerState) -> None:
    if not state.settings.slots:
        raise NotFound


def models_page(state: ServerState) -> dict[str, Any]:
    """Returns the models that this version knows, as a JSON object: {models, free_bytes}.

    models: an object for each model: its name, whether it is installed, its bytes, what is missing, and its download.
    free_bytes: the free bytes of the disk to which models are downloaded; None if that is not known.
    """
    models = [_entry(state, one) for one in download.list_models(state.settings)]
    return {"models": models, "free_bytes": free_bytes(state.settings.models_dir)}


def _entry(state: ServerState, status: ModelStatus) -> dict[str, Any]:
    """Returns what the server's page of models shows of one model:

    name: the model's name in settings and commands.
    title, licence: the model, and the licence of its weights, in one line each.
    embedded: True if it is in the package.
    installed: True if it can be loaded.
    bytes: the bytes on the disk of its parts and adapters that are on this machine.
    missing: the names of the parts that are not on this machine and without which it cannot be loaded.
    missing_bytes: about how many bytes a download of all absent parts and adapters has.
    pull: the download of the model by this server (see `_pull_entry`); None if no download runs or has failed.
    """
    card, pull = status.card, state.pulls.get(status.card.name)
    return {
        "name": card.name,
        "title": card.title,
        "licence": card.licence,
        "embedded": card.embedded,
        "installed": status.installed,
        "bytes": status.num_bytes,
        "missing": list(status.missing),
        "missing_bytes": status.absent_bytes,
        "pull": None if pull is None else _pull_entry(pull),
    }


def _pull_entry(pull: PullState) -> dict[str, Any]:
    """Returns what the server's page of models shows of the download of a model that runs or has failed:

    running: False if it has failed.
    share: the share of its bytes that have arrived, 0..1; None if it is not known yet.
    message: a text for people: which file is being downloaded.
    error: a sentence that says why it has failed; None while it runs.
    bytes, all_bytes: the bytes that have arrived, and those of the whole download.
    """
    return {
        "running": pull.error is None,
        "share": pull.bytes / pull.all_bytes if pull.all_bytes else None,
        "message": pull.file or "Asking the hub",
        "error": pull.error,
        "bytes": pull.bytes,
        "all_bytes": pull.all_bytes,
    }
