"""The routes for what the server's pages show of a stored video: its facts, a strip of frames, its waveform, a copy
that browsers play, and the joint of a result (where source and new frames meet).

Everybody who may read a file may also read these. They are made by `service.derivations`.
"""

from dataclasses import replace
from pathlib import PurePath
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from longtake.derived.place import joint_place
from longtake.endpoints import ENDPOINTS
from longtake.families import plan_from_json
from longtake.plans import Plan
from longtake.queue.addresses import file_path
from longtake.queue.engine import stored_plan
from longtake.service.auth import EVERYBODY, caller_if_valid, caller_of, caller_of_page
from longtake.service.derivations import COPY, Wanted
from longtake.service.download import download, restricted
from longtake.service.files import readable_file
from longtake.service.origins import refuse_other_pages
from longtake.service.queue import visible_status
from longtake.service.reports import report
from longtake.service.responses import FRESH, Headers, NotFound, json_response, to_json, whole_number
from longtake.service.state import ServerState
from longtake.storage.derived import Derivation, DerivedFile
from longtake.storage.files import StoredFile
from longtake.storage.uploads import recent_uploads

FRAMES, HEIGHT, POINTS, FIGURES = (1, 24, 64), (16, 72, 240), (1, 800, 4000), (0, 1, 1)
"""(smallest value, default, largest value) of four query parameters: the number of frames of a strip, their height in
pixels, the number of points of a waveform, and whether a joint (where source and new frames meet) is measured (0 or
1)."""
SHOWN_UPLOADS = 24
"""Maximum number of uploads in one answer with the list of uploads."""
CACHED: Headers = {"cache-control": "private, max-age=3600", "x-content-type-options": "nosniff"}
"""Headers that let browsers cache an answer about a stored file, whose bytes never change. For a file that not
everybody may read, the headers of `restricted` replace them."""


def routes(state: ServerState) -> list[BaseRoute]:
    """Returns the routes under `/media/<key of a file>`, the route of the caller's newest uploads, and the routes for
    the joint of a result (where source and new frames meet)."""

    async def wanted(request: Request, kind: str, form: str = "", **arguments: int) -> Wanted:
        refuse_other_pages(request)
        key = request.path_params["key"]
        file = await readable_file(request, state, key)
        caller = await caller_if_valid(request)
        key_id = EVERYBODY if caller is None else caller.key_id
        return Wanted(Derivation(key, kind, form), file, key_id, arguments)

    async def facts(request: Request) -> Response:
        what = await wanted(request, "facts")
        made, file = await state.derivations.made(request, what), what.file
        stored = {"name": file.name, "content_type": file.content_type, "size": file.size}
        return json_response({**made.facts, **stored}, headers={**CACHED, **restricted(file)})

    async def strip(request: Request) -> Response:
        frames, height = _number(request, "frames", FRAMES), _number(request, "height", HEIGHT)
        what = await wanted(request, "strip", f"{frames}x{height}", frames=frames, height=height)
        made = await state.derivations.made(request, what)
        size = ",".join(str(made.facts[name]) for name in ("count", "width", "height"))
        return await _bytes(state, made, "image/jpeg", {"x-longtake-strip": size, **restricted(what.file)})

    async def wave(request: Request) -> Response:
        points = _number(request, "points", POINTS)
        what = await wanted(request, "wave", str(points), points=points)
        made = await state.derivations.made(request, what)
        return json_response(made.facts, headers={**CACHED, **restricted(what.file)})

    async def copy(request: Request) -> Response:
        what = await wanted(request, COPY)
        made = await state.derivations.copied(what)
        if isinstance(made, float):
            return json_response({"share": made}, 202, FRESH)
        return await download(request, state, _copy_of(what.file, made))

    async def uploads(request: Request) -> Response:
        caller = await caller_of_page(request)
        return await report(state, request, caller.key_id, lambda: to_json(_uploads(state, caller.key_id)), FRESH)

    return [
        Route("/page/uploads", uploads),
        Route("/media/{key}/facts", facts),
        Route("/media/{key}/strip", strip),
        Route("/media/{key}/wave", wave),
        Route("/media/{key}/copy", copy),
        *(route for id in ENDPOINTS for route in _joint_routes(state, id)),
    ]


def _uploads(state: ServerState, key_id: str) -> dict[str, Any]:
    """Returns the newest videos and images that an API key has uploaded or imported, at most 24 (SHOWN_UPLOADS).

    Of files with the same name and size, which were probably uploaded twice, only the newest is returned. The JSON
    object has the member `files`, newest first: the relative address `url`, `name` and `content_type` of each.
    """
    rows = recent_uploads(state.engine, key_id, SHOWN_UPLOADS)
    newest = {(row.name, row.size): row for row in reversed(rows)}
    kept = [row for row in rows if newest[row.name, row.size] is row]
    return {"files": [{"url": file_path(row.key), "name": row.name, "content_type": row.content_type} for row in kept]}


def _joint_routes(state: ServerState, endpoint: str) -> list[BaseRoute]:
    """Returns two routes for the joint of a result (where source and new frames meet). One returns its place in the
    video and its measured figures as JSON, the other a picture of it."""

    async def joint(request: Request) -> Response:
        wanted = await _joint(state, request, endpoint)
        headers = {**CACHED, **restricted(wanted.file)}
        if not _number(request, "figures", FIGURES):
            return json_response(joint_place(_plan(wanted)), headers=headers)
        made = await state.derivations.made(request, wanted)
        return json_response(made.facts, headers=headers)

    async def picture(request: Request) -> Response:
        wanted = await _joint(state, request, endpoint)
        made = await state.derivations.made(request, wanted)
        if made.blob is None:
            raise NotFound
        return await _bytes(state, made, "image/png", restricted(wanted.file))

    address = f"/models/{endpoint}/requests/{{request_id}}/joint"
    return [Route(address, joint), Route(f"{address}.png", picture)]


async def _joint(state: ServerState, request: Request, endpoint: str) -> Wanted:
    """Returns what is needed to measure and draw the joint of a request's result, where source and new frames meet.

    The request is the one in the path of the HTTP request.

    Raises NotFound if there is no such request of the endpoint, the caller may not see it, it has no stored result, or
    its plan was deleted.
    """
    refuse_other_pages(request)
    caller, request_id = await caller_of(request), request.path_params["request_id"]
    await visible_status(state, caller, endpoint, request_id)
    plan = await state.call_with_retries(stored_plan, state.engine, request_id)
    found = await state.call_with_retries(state.store.result_of, request_id)
    if plan is None or found is None:
        raise NotFound
    key, file = found
    arguments = {"plan": plan, "caption": f"request {request_id}"}
    return Wanted(Derivation(key, "joint"), file, caller.key_id, arguments)


def _plan(wanted: Wanted) -> Plan:
    """Returns the plan by which a result was made, which says where its joint is (where source and new frames meet).
    Raises NotFound if the plan cannot be read.

    wanted: the client's request for a picture or figures of the joint.
    """
    plan = plan_from_json(wanted.arguments["plan"])
    if plan is None:
        raise NotFound
    return plan


def _copy_of(file: StoredFile, made: DerivedFile) -> StoredFile:
    """Returns facts about the copy of a stored video in the form of a stored file, so that `download` can send it.

    `file` is the stored video, `made` its copy.
    """
    assert made.blob is not None
    name = f"{PurePath(file.name).stem}.mp4"
    return replace(file, blob=made.blob, size=made.size, name=name, content_type="video/mp4")


async def _bytes(state: ServerState, made: DerivedFile, media_type: str, headers: Headers) -> Response:
    """Returns the response with the bytes of a small derived file, such as a strip of frames.

    media_type: the file's MIME type.
    headers: additional headers. They replace those of CACHED.

    Raises NotFound if the file has just been deleted.
    """
    assert made.blob is not None
    try:
        content = await state.call(lambda blob: b"".join(state.store.blobs.open(blob)), made.blob)
    except FileNotFoundError:
        raise NotFound from None
    return Response(content, headers={**CACHED, **headers}, media_type=media_type)


def _number(request: Request, name: str, range: tuple[int, int, int]) -> int:
    """Returns the query parameter `name` of a request as a whole number. `range`: (smallest value, default, largest
    value).

    Returns the default if the query does not have the parameter. Raises ModelFailed (HTTP status 422) for any other
    value.
    """
    least, default, most = range
    value = whole_number(request.query_params, name, least, most)
    return default if value is None else value
