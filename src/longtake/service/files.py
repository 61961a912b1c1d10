"""The routes that receive uploads, in all forms that fal's clients use, and that send stored files.

Files are streamed, so no file is in memory as a whole. Creating an upload needs a key or a token if the server has
keys. Writing the bytes of an upload needs only its URL, which contains a secret.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from longtake.access.files import decide
from longtake.access.keys import Caller
from longtake.access.tokens import Tokens
from longtake.endpoints import ENDPOINTS
from longtake.queue.addresses import file_url, sibling_url
from longtake.service.auth import caller_if_valid, caller_of, caller_with_key, is_revoked, owns
from longtake.service.bodies import SMALL_BYTES, read_json
from longtake.service.download import download
from longtake.service.queue import status_of
from longtake.service.responses import NotFound, RequestFailed, json_response
from longtake.service.state import ServerState
from longtake.service.uploads import (
    check_number,
    file_name,
    header_name,
    lifecycle,
    listed_parts,
    media_type,
    received,
    stored,
)
from longtake.storage import uploads
from longtake.storage.files import NewFile, StoredFile
from longtake.storage.keys import new_key
from longtake.storage.uploads import Part, Upload

PARTS_BYTES = 1024**2
"""Maximum size in bytes of the JSON body that lists the parts of an upload. With 10,000 parts it has about 0.7 MB."""
RUN_TOKEN_S = 120.0
"""Default lifetime in seconds of a token with which a client may send requests to endpoints."""


def rest_routes(state: ServerState) -> list[BaseRoute]:
    """Returns the routes that create uploads and issue tokens. They belong to the part of fal's API named `rest`."""
    tokens = Tokens(state.engine)

    async def upload_token(request: Request) -> Response:
        # A token cannot make another one, which could be valid for longer or allow more.
        caller = await caller_with_key(request)
        token = await state.call_with_retries(tokens.issue, caller.key_id, "upload", within_s=state.settings.upload_s)
        claims = await state.call_with_retries(tokens.verify, token)
        assert claims is not None
        return json_response(
            {
                "token": token,
                "token_type": "Bearer",
                "base_url": sibling_url(request.scope["longtake.base_url"], "cdn"),
                "expires_at": datetime.fromtimestamp(claims.expires_at, UTC).isoformat(),
            }
        )

    async def run_token(request: Request) -> Response:
        caller = await caller_with_key(request)
        body = await _json_object(request, state, caller.key_id)
        apps, within_s = body.get("allowed_apps"), body.get("token_expiration", RUN_TOKEN_S)
        if apps is None:
            apps = []  # all applications
        if not isinstance(apps, list) or not all(isinstance(app, str) for app in apps):
            raise RequestFailed(400, "allowed_apps must be a list of application names.", "bad_request")
        if isinstance(within_s, bool) or not isinstance(within_s, int | float) or not within_s > 0:
            raise RequestFailed(400, "token_expiration must be a number of seconds above 0.", "bad_request")
        return json_response(
            await state.call_with_retries(tokens.issue, caller.key_id, "run", within_s=within_s, apps=apps)
        )

    def initiate(*, multipart: bool) -> Callable[[Request], Awaitable[Response]]:
        async def create(request: Request) -> Response:
            caller = _allowed_to_upload(await caller_of(request))
            body = await _json_object(request, state, caller.key_id)
            name, kind = file_name(body.get("file_name")), media_type(body.get("content_type"))
            file = NewFile(caller.key_id, name, kind, lifecycle(request))
            upload = await _create_upload(state, file, multipart=multipart)
            base = request.scope["longtake.base_url"]
            upload_url = f"{sibling_url(base, 'cdn')}/uploads/{upload.token}"
            return json_response({"upload_url": upload_url, "file_url": file_url(base, upload.file_key)})

        return create

    return [
        Route("/storage/auth/token", upload_token, methods=["POST"]),
        Route("/storage/upload/initiate", initiate(multipart=False), methods=["POST"]),
        Route("/storage/upload/initiate-multipart", initiate(multipart=True), methods=["POST"]),
        Route("/tokens", run_token, methods=["POST"]),
    ]


def cdn_routes(state: ServerState) -> list[BaseRoute]:
    """Returns the routes of the service `cdn`, which write and read files."""
    tokens = Tokens(state.engine)

    async def upload_whole(request: Request) -> Response:
        file = await _new_file(request, state, tokens)
        key = new_key(file.name, file.content_type)
        async with received(request, state, file.owner, state.settings.max_upload_bytes) as body:
            await stored(state, file.owner, state.store.add, key, file, body.path)
        return _uploaded(request, key)

    async def begin_multipart(request: Request) -> Response:
        upload = await _create_upload(state, await _new_file(request, state, tokens), multipart=True)
        access_url = file_url(request.scope["longtake.base_url"], upload.file_key)
        return json_response({"access_url": access_url, "uploadId": upload.token})

    async def put(request: Request) -> Response:
        upload = await _find_upload(request, state, multipart=False)
        async with received(request, state, upload.key_id, state.settings.max_upload_bytes) as body:
            key = await stored(state, upload.key_id, uploads.finish, state.store, upload, body.path)
        return _uploaded(request, key)

    async def put_part(request: Request) -> Response:
        upload = await _find_upload(request, state, multipart=True)
        number: int = request.path_params["number"]
        check_number(number)
        if await state.call_with_retries(state.store.find, upload.file_key) is not None:
            raise RequestFailed(400, "This upload is finished.", "bad_request")
        max_bytes = state.settings.max_upload_bytes
        async with received(request, state, upload.key_id, max_bytes) as body:
            part = Part(number, body.md5, body.size)
            await stored(state, upload.key_id, uploads.add_part, state.store, upload, part, body.path, max_bytes)
        return json_response({"partNumber": number, "etag": f'"{body.md5}"'}, headers={"etag": f'"{body.md5}"'})

    async def complete(request: Request) -> Response:
        upload = await _find_upload(request, state, multipart=True)
        listed = listed_parts((await _json_object(request, state, upload.key_id, PARTS_BYTES)).get("parts"))
        return _uploaded(request, await stored(state, upload.key_id, uploads.complete, state.store, upload, listed))

    async def read(request: Request) -> Response:
        return await download(request, state, await readable_file(request, state, request.path_params["key"]))

    return [
        Route("/files/upload", upload_whole, methods=["POST"]),
        Route("/files/upload/multipart", begin_multipart, methods=["POST"]),
        Route("/files/{key}/multipart/{token}/complete", complete, methods=["POST"]),
        Route("/files/{key}/multipart/{token}/{number:int}", put_part, methods=["PUT"]),
        Route("/uploads/{token}/complete", complete, methods=["POST"]),
        Route("/uploads/{token}/{number:int}", put_part, methods=["PUT"]),
        Route("/uploads/{token}", put, methods=["PUT"]),
        Route("/files/{key}", read, methods=["GET"]),
    ]


def _uploaded(request: Request, key: str) -> Response:
    return json_response({"access_url": file_url(request.scope["longtake.base_url"], key)})


async def _json_object(request: Request, state: ServerState, key_id: str, limit: int = SMALL_BYTES) -> dict[str, Any]:
    body = await read_json(request, state, key_id, limit)
    if not isinstance(body, dict):
        raise RequestFailed(400, "The body must be a JSON object.", "bad_request")
    return body


async def _uploader(request: Request, state: ServerState, tokens: Tokens) -> Caller:
    """Returns the caller of an upload.

    On a server without keys, this is the one caller that all requests have. On a server with keys, the caller must
    send one of these:
    - an API key
    - an upload token, as fal's Python client does
    - a run token, with which a client may also run endpoints.

    Raises RequestFailed with status 401 if none of them is valid, and with status 403 for a run token that runs no
    endpoint of this server. `tokens` checks the upload token.
    """
    scheme, _, token = request.headers.get("authorization", "").strip().partition(" ")
    holder = None
    if scheme.lower() == "bearer" and ":" not in token:
        holder = await state.call_with_retries(tokens.caller, token.strip(), "upload", state.keys)
    return holder or _allowed_to_upload(await caller_of(request))


def _allowed_to_upload(caller: Caller) -> Caller:
    """Returns `caller` itself. Raises RequestFailed with status 403 if it may not run any endpoint of this server."""
    if not any(caller.may_run(endpoint) for endpoint in ENDPOINTS):
        raise RequestFailed(403, "This token is for no application of this server, so it uploads nothing.", "forbidden")
    return caller


async def _new_file(request: Request, state: ServerState, tokens: Tokens) -> NewFile:
    """Returns the owner, name, MIME type, lifetime and access rules of a file, from the headers of the upload request.

    `tokens` checks an upload token. Raises RequestFailed if the caller may not upload: with status 401 without a valid
    API key or token, and with status 403 for a run token whose holder may run no endpoint of this server.
    """
    owner = (await _uploader(request, state, tokens)).key_id
    kind = media_type(request.headers.get("content-type"))
    return NewFile(owner, header_name(request), kind, lifecycle(request))


async def _create_upload(state: ServerState, file: NewFile, *, multipart: bool) -> Upload:
    within_s = state.settings.upload_s
    return await stored(state, file.owner, uploads.create, state.store, file, multipart=multipart, within_s=within_s)


async def _find_upload(request: Request, state: ServerState, *, multipart: bool) -> Upload:
    upload = await state.call_with_retries(uploads.find, state.store, request.path_params["token"])
    key = request.path_params.get("key")
    is_found = upload is not None and upload.multipart == multipart and key in (None, upload.file_key)
    if upload is None or not is_found or await is_revoked(state, upload.key_id):
        raise RequestFailed(404, "There is no such upload, or its time is over.", "not_found")
    return upload


async def readable_file(request: Request, state: ServerState, key: str) -> StoredFile:
    """Returns the facts about the stored file with this key.

    Raises NotFound if there is none, and FileLost if its bytes are missing or damaged. If the sender of the request may
    not read the file, raises NotFound if its access rules hide it, and RequestFailed if they forbid to read it.
    """
    file = await state.call_with_retries(state.store.facts, key)
    if file is None:
        raise NotFound
    await _check_access(request, state, file)
    if not await state.call_with_retries(state.store.is_whole, key, file):
        raise NotFound
    return file


async def _check_access(request: Request, state: ServerState, file: StoredFile) -> None:
    """Raises an error if the sender of a request may not read a stored file.

    The file's access rules say what each API key, and a sender without a key, may do. A file that a sender without a
    key may read may be read by all. Otherwise:
    - A sender with a key has the rights of the key. The file's owner, and a key of the scope `admin`, may always read
      it.
    - A sender with a token has the rights of the token's key if the file belongs to a request that the token may see.
    - All others have the rights of a sender without a key.

    Raises NotFound if the rules hide the file from the sender. Raises RequestFailed with status 403 if the rules forbid
    the sender to read the file, and with status 429 if the sender's key was not checked, because too many keys from its
    address were refused.
    """
    if decide(file, None) == "allow":
        return
    caller = await caller_if_valid(request)
    if caller is not None and caller.is_admin:
        return
    match decide(file, None if caller is None else await _reading_key(state, caller, file)):
        case "hide":
            raise NotFound
        case "forbid":
            raise RequestFailed(403, "The access rules of this file do not let you fetch it.", "forbidden")


async def _reading_key(state: ServerState, caller: Caller, file: StoredFile) -> str | None:
    """Returns the id of the API key whose rights count when a caller reads a file. None means the rights without a key.

    - A caller with a key: this key.
    - A caller with a token: the token's key if the file belongs to a request that the token may see, otherwise None.
    """
    if caller.scope != "token":
        return caller.key_id
    status = None if file.request_id is None else await status_of(state, file.request_id)
    return caller.key_id if status is not None and owns(caller, status.row) else None
