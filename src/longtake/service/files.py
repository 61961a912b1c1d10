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
from longtake.service.body import json_of
from longtake.service.errors import NotFound, RequestFailed, answer
from longtake.service.incoming import do, file_name, header_name, lifecycle, media_type, parts_listed, write
from longtake.service.parts import Parts
from longtake.storage import uploads
from longtake.storage.files import NewFile, discard, new_key
from longtake.storage.uploads import Upload

JSON_BYTES = 4 * 1024**2
"""Of what is asked about files; 10,000 parts need a tenth of it."""
RUN_TOKEN_S = 120.0
"""A token's life, where a client asks for none."""

SHOWN = re.compile(r"(video|audio)/.+|image/(png|jpeg|gif|webp|avif|bmp)|text/plain.*")
"""What a browser may show at our address; all else, HTML and SVG above all, is saved: it could act in our name."""


def rest_routes(parts: Parts) -> list[BaseRoute]:
    """What clients ask before they upload, and tokens for clients that hold no key."""
    tokens = Tokens(parts.engine)

    async def upload_token(request: Request) -> Response:
        caller = await _with_key(request, parts)
        within = parts.settings.upload_s
        token = await parts.ask(tokens.make, caller.key_id, "upload", within_s=within)
        claim = await parts.ask(tokens.verify, token)
        assert claim is not None
        return answer(
            {
                "token": token,
                "token_type": "Bearer",
                "base_url": sibling_url(request.scope["longtake.base"], "cdn"),
                "expires_at": datetime.fromtimestamp(claim.expires_at, UTC).isoformat(),
            }
        )

    async def run_token(request: Request) -> Response:
        caller = await _with_key(request, parts)
        asked = await _asked(request)
        apps, within = asked.get("allowed_apps") or [], asked.get("token_expiration", RUN_TOKEN_S)
        if not isinstance(apps, list) or not all(isinstance(app, str) for app in apps):
            raise RequestFailed(400, "allowed_apps must be a list of application names.", "bad_request")
        if isinstance(within, bool) or not isinstance(within, int | float) or not within > 0:
            raise RequestFailed(400, "token_expiration must be a number of seconds above 0.", "bad_request")
        return answer(await parts.ask(tokens.make, caller.key_id, "run", within_s=within, apps=apps))

    def initiate(*, multipart: bool) -> Callable[[Request], Awaitable[Response]]:
        async def begin(request: Request) -> Response:
            caller = await caller_of(request)
            asked = await _asked(request)
            upload = await _promise(
                request,
                parts,
                caller.key_id,
                file_name(asked.get("file_name")),
                asked.get("content_type"),
                multipart=multipart,
            )
            base = sibling_url(request.scope["longtake.base"], "cdn")
            return answer(
                {"upload_url": f"{base}/uploads/{upload.token}", "file_url": f"{base}/files/{upload.file_key}"}
            )

        return begin

    return [
        Route("/storage/auth/token", upload_token, methods=["POST"]),
        Route("/storage/upload/initiate", initiate(multipart=False), methods=["POST"]),
        Route("/storage/upload/initiate-multipart", initiate(multipart=True), methods=["POST"]),
        Route("/tokens", run_token, methods=["POST"]),
    ]


def cdn_routes(parts: Parts) -> list[BaseRoute]:
    """Writing and reading files."""
    tokens = Tokens(parts.engine)

    async def whole(request: Request) -> Response:
        caller = await _uploader(request, parts, tokens)
        name, kind = header_name(request), media_type(request.headers.get("content-type"))
        key = new_key(name, kind)
        path = await parts.call(parts.store.incoming)
        try:
            await write(request, parts, path, parts.settings.max_upload_bytes)
            await do(parts, parts.store.add, key, NewFile(caller.key_id, name, kind, lifecycle(request)), path)
        finally:
            await parts.call(discard, path)
        return _finished(request, key)

    async def begin(request: Request) -> Response:
        caller = await _uploader(request, parts, tokens)
        upload = await _promise(
            request, parts, caller.key_id, header_name(request), request.headers.get("content-type"), multipart=True
        )
        access_url = f"{sibling_url(request.scope['longtake.base'], 'cdn')}/files/{upload.file_key}"
        return answer({"access_url": access_url, "uploadId": upload.token})

    async def put(request: Request) -> Response:
        upload = await _promised(request, parts, multipart=False)
        path = await parts.call(parts.store.incoming)
        try:
            await write(request, parts, path, parts.settings.max_upload_bytes)
            key = await do(parts, uploads.finish, parts.store, upload, path)
        finally:
            await parts.call(discard, path)
        return _finished(request, key)

    async def put_part(request: Request) -> Response:
        upload = await _promised(request, parts, multipart=True)
        number: int = request.path_params["number"]
        if not 1 <= number <= uploads.PARTS:
            raise RequestFailed(400, f"Parts are numbered 1 to {uploads.PARTS}; this is {number}.", "bad_request")
        if await parts.ask(parts.store.find, upload.file_key) is not None:
            raise RequestFailed(400, "This upload is finished.", "bad_request")
        folder = await parts.ask(uploads.parts_of, parts.store, upload)
        left = parts.settings.max_upload_bytes - await parts.ask(uploads.size_of_parts, parts.store, upload)
        path = await parts.call(parts.store.incoming)
        try:
            etag = await write(request, parts, path, left)
            await parts.call(path.replace, folder / f"{number}.{etag}")
        finally:
            await parts.call(discard, path)
        return answer({"partNumber": number, "etag": f'"{etag}"'}, headers={"etag": f'"{etag}"'})

    async def complete(request: Request) -> Response:
        upload = await _promised(request, parts, multipart=True)
        listed = parts_listed((await _asked(request)).get("parts"))
        return _finished(request, await do(parts, uploads.assemble, parts.store, upload, listed))

    async def fetch(request: Request) -> Response:
        key: str = request.path_params["key"]
        stored = await parts.ask(parts.store.find, key)
        if stored is None:
            raise NotFound
        await _check_access(request, parts, key)
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
    return answer({"access_url": f"{sibling_url(request.scope['longtake.base'], 'cdn')}/files/{key}"})


async def _asked(request: Request) -> dict[str, Any]:
    asked = await json_of(request, JSON_BYTES)
    if not isinstance(asked, dict):
        raise RequestFailed(400, "The body must be a JSON object.", "bad_request")
    return asked


async def _with_key(request: Request, parts: Parts) -> Caller:
    """Who calls with a key. Tokens make no tokens: those would last longer, and allow more, than they do."""
    caller = await caller_of(request)
    if ":" not in authorization_of(request) and await parts.ask(parts.keys.any_exist):
        raise RequestFailed(403, "Tokens are made with a key, not with another token.", "forbidden")
    return caller


async def _uploader(request: Request, parts: Parts, tokens: Tokens) -> Caller:
    """Who uploads: by a token of ours, as Python's client, or by a key."""
    scheme, _, token = request.headers.get("authorization", "").strip().partition(" ")
    holder = None
    if scheme.lower() == "bearer" and ":" not in token:
        holder = await parts.ask(tokens.caller, token.strip(), "upload", parts.keys)
    return holder or await caller_of(request)


async def _promise(request: Request, parts: Parts, key_id: str, name: str, kind: Any, *, multipart: bool) -> Upload:
    return await do(
        parts,
        uploads.create,
        parts.store,
        key_id,
        name,
        media_type(kind),
        multipart=multipart,
        lifecycle=lifecycle(request),
        within_s=parts.settings.upload_s,
    )


async def _promised(request: Request, parts: Parts, *, multipart: bool) -> Upload:
    upload = await parts.ask(uploads.find, parts.store, request.path_params["token"])
    key = request.path_params.get("key")
    if upload is None or upload.multipart != multipart or key not in (None, upload.file_key):
        raise RequestFailed(404, "There is no such upload, or its time is over.", "not_found")
    return upload


async def _check_access(request: Request, parts: Parts, key: str) -> None:
    if await parts.ask(parts.store.decision, key, None) == "allow":
        return
    try:
        caller = await caller_of(request)
    except RequestFailed:
        caller = None
    if caller is not None and caller.scope == "admin":
        return
    match await parts.ask(parts.store.decision, key, None if caller is None else caller.key_id):
        case "hide":
            raise NotFound
        case "forbid":
            raise RequestFailed(403, "The access rules of this file do not let you fetch it.", "forbidden")
