"""Reads upload requests: the body with the file's bytes, the headers, and the JSON list of the uploaded parts."""

import hashlib
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from starlette.requests import Request

from longtake.errors import FileTooLarge, InvalidRequest
from longtake.printable import UNPRINTABLE
from longtake.service.bodies import declared_bytes
from longtake.service.responses import CLOSE, RequestFailed, limit_reached
from longtake.service.state import ServerState
from longtake.storage.files import disk_full_errors
from longtake.storage.lifecycle import parse
from longtake.storage.uploads import MAX_PARTS, TOO_LARGE, TooManyParts

P = ParamSpec("P")
T = TypeVar("T")

WRITE_BYTES = 1024 * 1024
"""Number of bytes of a body that are collected in memory before each write to disk."""
MAX_NAME = 200
"""Maximum length in characters of a file's name, and of its MIME type."""

MIME_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(; ?charset=[\w-]+)?", re.ASCII)


@dataclass(frozen=True)
class Body:
    """The body of a request: the path of a file that contains its bytes, their MD5 in hex, and their number."""

    path: Path
    md5: str
    size: int


@asynccontextmanager
async def received(request: Request, state: ServerState, key_id: str, max_bytes: int) -> AsyncIterator[Body]:
    """A context manager: writes the body of a request to a scratch file, and yields the file's path, MD5 and size.

    At the end of the `with` block the file is deleted, unless the block has moved it. `key_id` is the key that sends
    the body.

    Raises RequestFailed with one of these HTTP statuses:
    - 413: the body has more than `max_bytes` bytes, or more than the key may send in an hour.
    - 429: the key has sent too many bytes within the last hour.
    - 507: the disk is full.
    """
    too_large = RequestFailed(
        413,
        TOO_LARGE.format(limit=state.settings.max_upload_bytes),
        "bad_request",
        CLOSE,
    )
    if declared_bytes(request) > max_bytes:
        raise too_large
    state.budgets.check_bytes(key_id, declared_bytes(request))
    path = await state.call(state.store.scratch_path)
    digest, size, waiting = hashlib.md5(usedforsecurity=False), 0, bytearray()

    def write(piece: bytes | bytearray) -> None:
        with disk_full_errors(), path.open("ab") as file:
            file.write(piece)
        digest.update(piece)

    try:
        async for chunk in request.stream():
            waiting += chunk
            size += len(chunk)
            state.budgets.use_bytes(key_id, len(chunk))
            if size > max_bytes:
                raise too_large
            if len(waiting) >= WRITE_BYTES:
                await state.call_for(key_id, write, waiting)
                waiting = bytearray()
        await state.call_for(key_id, write, waiting)
        yield Body(path, digest.hexdigest(), size)
    finally:
        await state.call(partial(path.unlink, missing_ok=True))


async def stored(state: ServerState, key_id: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Returns the result of `work(*args, **kwargs)`, a function that stores a file or a part of one.

    It is called in a thread (see `ServerState.call_for`). `key_id` is the API key that sends the file.

    Raises RequestFailed if `work` raises InvalidRequest: with status 413 for a file that is too large, 429 for too many
    parts, and otherwise 400.
    """
    try:
        return await state.call_for(key_id, work, *args, **kwargs)
    except FileTooLarge as error:
        raise RequestFailed(413, error.message, "bad_request") from error
    except TooManyParts as error:
        raise limit_reached(error.message) from error
    except InvalidRequest as error:
        raise RequestFailed(400, error.message, "bad_request") from error


def listed_parts(value: Any) -> list[tuple[int, str]]:
    """Returns the (number, etag) of each part of an upload, from the list that a client sends.

    `value` is that list: [{"partNumber": 1, "etag": "..."}, ...]. The etags are returned without quotes. Raises
    RequestFailed with status 400 if `value` is not such a list, is empty, has more than 10,000 entries (MAX_PARTS),
    lists a number twice, or has a number that is not from 1 to 10,000.
    """
    invalid = RequestFailed(400, "parts must be a list of {partNumber, etag}, each number once.", "bad_request")
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_PARTS:
        raise invalid
    found: dict[int, str] = {}
    for part in value:
        number, etag = (part.get("partNumber"), part.get("etag")) if isinstance(part, dict) else (None, None)
        if type(number) is not int or not isinstance(etag, str) or number in found:
            raise invalid
        check_number(number)
        found[number] = etag.strip('"')
    return list(found.items())


def check_number(number: int) -> None:
    """Raises RequestFailed with status 400 if a part of an upload cannot have this number (see MAX_PARTS)."""
    if not 1 <= number <= MAX_PARTS:
        raise RequestFailed(400, f"Parts are numbered 1 to {MAX_PARTS}; this is {str(number)[:20]}.", "bad_request")


def lifecycle(request: Request) -> Mapping[str, Any] | None:
    """Returns the lifetime and the access rules that a client sets for the file that it uploads.

    They are in a header of the upload request, for which fal's clients use two names. The result has the form that
    `storage.lifecycle.parse` describes. It is None if there is no such header, or if nothing in it is valid.
    """
    headers = request.headers
    return parse(headers.get("x-fal-object-lifecycle") or headers.get("x-fal-object-lifecycle-preference"))


def header_name(request: Request) -> str:
    """Returns a safe form of the file name in a request's header `x-fal-file-name`, without folders (see `file_name`).

    The header is read as UTF-8. Without the header the result is `upload.bin`.
    """
    value = request.headers.get("x-fal-file-name", "")
    return file_name(value.encode("latin-1").decode("utf-8", "replace"))


def file_name(value: Any) -> str:
    """Returns a safe form of the file name that a client sends, or `upload.bin` if nothing of the name is left.

    - Folders and unprintable characters are removed.
    - Spaces and dots at the ends of the name are removed.
    - If the name has more than 200 characters (MAX_NAME), its beginning is removed.
    """
    last = re.split(r"[/\\]", value)[-1] if isinstance(value, str) else ""
    return UNPRINTABLE.sub("", last).strip(" .")[-MAX_NAME:] or "upload.bin"


def media_type(value: Any) -> str:
    """Returns `value` in lower case if it is a valid MIME type, otherwise `application/octet-stream`."""
    kind = value.strip().lower() if isinstance(value, str) else ""
    return kind if len(kind) <= MAX_NAME and MIME_TYPE.fullmatch(kind) else "application/octet-stream"
