"""Uploads in every form that fal's clients know, and the files themselves.

Bytes go from the socket to the disk and back piece by piece. Who may write a promised upload is who holds its address.
"""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from longtake.access.keys import Caller
from longtake.access.tokens import Tokens
from longtake.queue.addresses import sibling_url
from longtake.service.auth import authorization_of, caller_of
from longtake.service.incoming import do, file_name, header_name, lifecycle, media_type, parts_listed, write
from longtake.service.responses import NotFound, RequestFailed, json_response
from longtake.service.state import ServerState
from longtake.service.submit import read_json
from longtake.storage import uploads
from longtake.storage.files import NewFile, discard, new_key
from longtake.storage.uploads import Upload

JSON_BYTES = 4 * 1024**2
"""Of what is asked about files; 10,000 parts need a tenth of it."""
RUN_TOKEN_S = 120.0
"""A token's life, where a client asks for none."""

SHOWN = re.compile(r"(video|audio)/.+|image/(png|jpeg|gif|webp|avif|bmp)|text/plain.*")
"""What a browser may show at our address; all else, HTML and SVG above all, is saved: it could act in our name."""


def rest_routes(state: ServerState) -> list[BaseRoute]:
    """What clients ask before they upload, and tokens for clients that hold no key."""
    tokens = Tokens(state.engine)

    async def upload_token(request: Request) -> Response:
        caller = await _with_key(request, state)
        within = state.settings.upload_s
        token = await state.call_with_retries(tokens.make, caller.key_id, "upload", within_s=within)
        claim = await state.call_with_retries(tokens.verify, token)
        assert claim is not None
        return json_response(
            {
                "token": token,
                "token_type": "Bearer",
                "base_url": sibling_url(request.scope["longtake.base_url"], "cdn"),
                "expires_at": datetime.fromtimestamp(claim.expires_at, UTC).isoformat(),
            }
        )

    async def run_token(request: Request) -> Response:
        caller = await _with_key(request, state)
        asked = await _asked(request)
        apps, within = asked.get("allowed_apps") or [], asked.get("token_expiration", RUN_TOKEN_S)
        if not isinstance(apps, list) or not all(isinstance(app, str) for app in apps):
            raise RequestFailed(400, "allowed_apps must be a list of application names.", "bad_request")
        if isinstance(within, bool) or not isinstance(within, int | float) or not within > 0:
            raise RequestFailed(400, "token_expiration must be a number of seconds above 0.", "bad_request")
        return json_response(
            await state.call_with_retries(tokens.make, caller.key_id, "run", within_s=within, apps=apps)
        )

    def initiate(*, multipart: bool) -> Callable[[Request], Awaitable[Response]]:
        async def begin(request: Request) -> Response:
            caller = await caller_of(request)
            asked = await _asked(request)
            upload = await _promise(
                request,
                state,
                caller.key_id,
                file_name(asked.get("file_name")),
                asked.get("content_type"),
                multipart=multipart,
            )
            base = sibling_url(request.scope["longtake.base_url"], "cdn")
            return json_response(
                {"upload_url": f"{base}/uploads/{upload.token}", "file_url": f"{base}/files/{upload.file_key}"}
            )

        return begin

    return [
        Route("/storage/auth/token", upload_token, methods=["POST"]),
        Route("/storage/upload/initiate", initiate(multipart=False), methods=["POST"]),
        Route("/storage/upload/initiate-multipart", initiate(multipart=True), methods=["POST"]),
        Route("/tokens", run_token, methods=["POST"]),
    ]


def cdn_routes(state: ServerState) -> list[BaseRoute]:
    """Writing and reading files."""
    tokens = Tokens(state.engine)

    async def whole(request: Request) -> Response:
        caller = await _uploader(request, state, tokens)
        name, kind = header_name(request), media_type(request.headers.get("content-type"))
        key = new_key(name, kind)
        path = await state.call(state.store.incoming)
        try:
            await write(request, state, path, state.settings.max_upload_bytes)
            await do(state, state.store.add, key, NewFile(caller.key_id, name, kind, lifecycle(request)), path)
        finally:
            await state.call(discard, path)
        return _finished(request, key)

    async def begin(request: Request) -> Response:
        caller = await _uploader(request, state, tokens)
        upload = await _promise(
            request, state, caller.key_id, header_name(request), request.headers.get("content-type"), multipart=True
        )
        access_url = f"{sibling_url(request.scope['longtake.base_url'], 'cdn')}/files/{upload.file_key}"
        return json_response({"access_url": access_url, "uploadId": upload.token})

    async def put(request: Request) -> Response:
        upload = await _promised(request, state, multipart=False)
        path = await state.call(state.store.incoming)
        try:
            await write(request, state, path, state.settings.max_upload_bytes)
            key = await do(state, uploads.finish, state.store, upload, path)
        finally:
            await state.call(discard, path)
        return _finished(request, key)

    async def put_part(request: Request) -> Response:
        upload = await _promised(request, state, multipart=True)
        number: int = request.path_params["number"]
        if not 1 <= number <= uploads.PARTS:
            raise RequestFailed(400, f"ServerState are numbered 1 to {uploads.PARTS}; this is {number}.", "bad_request")
        if await state.call_with_retries(state.store.find, upload.file_key) is not None:
            raise RequestFailed(400, "This upload is finished.", "bad_request")
        folder = await state.call_with_retries(uploads.parts_of, state.store, upload)
        left = state.settings.max_upload_bytes - await state.call_with_retries(
            uploads.size_of_parts, state.store, upload
        )
        path = await state.call(state.store.incoming)
        try:
            etag = await write(request, state, path, left)
            await state.call(path.replace, folder / f"{number}.{etag}")
        finally:
            await state.call(discard, path)
        return json_response({"partNumber": number, "etag": f'"{etag}"'}, headers={"etag": f'"{etag}"'})

    async def complete(request: Request) -> Response:
        upload = await _promised(request, state, multipart=True)
        listed = parts_listed((await _asked(request)).get("parts"))
        return _finished(request, await do(state, uploads.assemble, state.store, upload, listed))

    async def fetch(request: Request) -> Response:
        key: str = request.path_params["key"]
        stored = await state.call_with_retries(state.store.find, key)
        if stored is None:
            raise NotFound
        await _check_access(request, state, key)
        return FileResponse(
            stored.path,
            media_type=stored.content_type,
            filename=stored.name,
            content_disposition_type="inline" if SHOWN.fullmatch(stored.content_type) else "attachment",
            headers={"x-content-type-options": "nosniff"},
        )

    return [
        Route("/files/upload", whole, methods=["POST"]),
        Route("/files/upload/multipart", begin, methods=["POST"]),
        Route("/files/{key}/multipart/{token}/complete", complete, methods=["POST"]),
        Route("/files/{key}/multipart/{token}/{number:int}", put_part, methods=["PUT"]),
        Route("/uploads/{token}/complete", complete, methods=["POST"]),
        Route("/uploads/{token}/{number:int}", put_part, methods=["PUT"]),
        Route("/uploads/{token}", put, methods=["PUT"]),
        Route("/files/{key}", fetch, methods=["GET"]),
    ]


def _finished(request: Request, key: str) -> Response:
    return json_response({"access_url": f"{sibling_url(request.scope['longtake.base_url'], 'cdn')}/files/{key}"})


async def _asked(request: Request) -> dict[str, Any]:
    asked = await read_json(request, JSON_BYTES)
    if not isinstance(asked, dict):
        raise RequestFailed(400, "The body must be a JSON object.", "bad_request")
    return asked


async def _with_key(request: Request, state: ServerState) -> Caller:
    """Who calls with a key. Tokens make no tokens: those would last longer, and allow more, than they do."""
    caller = await caller_of(request)
    if ":" not in authorization_of(request) and await state.call_with_retries(state.keys.any_exist):
        raise RequestFailed(403, "Tokens are made with a key, not with another token.", "forbidden")
    return caller


async def _uploader(request: Request, state: ServerState, tokens: Tokens) -> Caller:
    """Who uploads: by a token of ours, as Python's client, or by a key."""
    scheme, _, token = request.headers.get("authorization", "").strip().partition(" ")
    holder = None
    if scheme.lower() == "bearer" and ":" not in token:
        holder = await state.call_with_retries(tokens.caller, token.strip(), "upload", state.keys)
    return holder or await caller_of(request)


async def _promise(
    request: Request, state: ServerState, key_id: str, name: str, kind: Any, *, multipart: bool
) -> Upload:
    return await do(
        state,
        uploads.create,
        state.store,
        key_id,
        name,
        media_type(kind),
        multipart=multipart,
        lifecycle=lifecycle(request),
        within_s=state.settings.upload_s,
    )


async def _promised(request: Request, state: ServerState, *, multipart: bool) -> Upload:
    upload = await state.call_with_retries(uploads.find, state.store, request.path_params["token"])
    key = request.path_params.get("key")
    if upload is None or upload.multipart != multipart or key not in (None, upload.file_key):
        raise RequestFailed(404, "There is no such upload, or its time is over.", "not_found")
    return upload


async def _check_access(request: Request, state: ServerState, key: str) -> None:
    if await state.call_with_retries(state.store.decision, key, None) == "allow":
        return
    try:
        caller = await caller_of(request)
    except RequestFailed:
        caller = None
    if caller is not None and caller.scope == "admin":
        return
    match await state.call_with_retries(state.store.decision, key, None if caller is None else caller.key_id):
        case "hide":
            raise NotFound
        case "forbid":
            raise RequestFailed(403, "The access rules of this file do not let you fetch it.", "forbidden")
