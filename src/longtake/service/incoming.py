"""What comes with an upload: its bytes, put on the disk piece by piece, and what the client says of them."""

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from starlette.requests import Request

from longtake.errors import DiskFull, InvalidRequest
from longtake.service.responses import RequestFailed
from longtake.service.state import ServerState
from longtake.storage.files import disk_full_errors
from longtake.storage.lifecycle import parse
from longtake.storage.uploads import PARTS

P = ParamSpec("P")
T = TypeVar("T")

PIECE = 1024 * 1024
"""So much is written to the disk at a time."""
NAME_LENGTH = 200

TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(; ?charset=[\w-]+)?", re.ASCII)
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters, those that turn the direction of writing among them."""


def parts_listed(given: Any) -> list[tuple[int, str]]:
    """[{partNumber, etag}], in any order, with the quotes of the etag or without."""
    refusal = RequestFailed(400, "parts must be a list of {partNumber, etag}, each number once.", "bad_request")
    if not isinstance(given, list) or not 1 <= len(given) <= PARTS:
        raise refusal
    found: dict[int, str] = {}
    for part in given:
        number, etag = (part.get("partNumber"), part.get("etag")) if isinstance(part, dict) else (None, None)
        if not isinstance(number, int) or isinstance(number, bool) or not isinstance(etag, str) or number in found:
            raise refusal
        found[number] = etag.strip('"')
    return list(found.items())


async def do(state: ServerState, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Does it beside the event loop. What it refuses, or has no room for, is an error of the request family."""
    try:
        return await state.call(work, *args, **kwargs)
    except DiskFull as full:
        raise RequestFailed(full.status, full.message, "internal_error") from full
    except InvalidRequest as refused:
        raise RequestFailed(400, refused.message, "bad_request") from refused


async def write(request: Request, state: ServerState, path: Path, limit: int) -> str:
    """Writes the body to a new file, and tells its MD5 in hex. Raises RequestFailed with 413 above `limit` bytes."""
    refusal = RequestFailed(
        413,
        f"The file is larger than the {state.settings.max_upload_bytes} bytes that one upload may have.",
        "bad_request",
        {"connection": "close"},
    )
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
        raise refusal
    digest, held, size = hashlib.md5(usedforsecurity=False), bytearray(), 0

    def put(piece: bytes | bytearray) -> None:
        with disk_full_errors(), path.open("ab") as file:
            file.write(piece)
        digest.update(piece)

    async for chunk in request.stream():
        held += chunk
        size += len(chunk)
        if size > limit:
            raise refusal
        if len(held) >= PIECE:
            await do(state, put, held)
            held = bytearray()
    await do(state, put, held)
    return digest.hexdigest()


def lifecycle(request: Request) -> Mapping[str, Any] | None:
    """The lifecycle that the client asks for, under either of its header's names."""
    headers = request.headers
    return parse(headers.get("x-fal-object-lifecycle") or headers.get("x-fal-object-lifecycle-preference"))


def header_name(request: Request) -> str:
    """The file name in the header, whose bytes are UTF-8 from those who send more than ASCII."""
    given = request.headers.get("x-fal-file-name", "")
    return file_name(given.encode("latin-1").decode("utf-8", "replace"))


def file_name(given: Any) -> str:
    """A name without folders, and without characters that are not to be seen."""
    last = re.split(r"[/\\]", given)[-1] if isinstance(given, str) else ""
    name = UNSEEN.sub("", last).encode("utf-8", "ignore").decode()
    return name.strip(" .")[-NAME_LENGTH:] or "upload.bin"


def media_type(given: Any) -> str:
    """The type that a client names, where it is one."""
    kind = given.strip().lower() if isinstance(given, str) else ""
    return kind if len(kind) <= NAME_LENGTH and TYPE.fullmatch(kind) else "application/octet-stream"
