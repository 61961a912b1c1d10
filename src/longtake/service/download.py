"""Answers a request for a stored file with the whole file, one range of its bytes, or only its headers."""

import re
from collections.abc import Mapping
from email.utils import formatdate
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from longtake.access.files import decide
from longtake.service.responses import NotFound
from longtake.service.state import ServerState
from longtake.storage.files import StoredFile

INLINE = re.compile(r"(video|audio)/[^+]+|image/(png|jpeg|gif|webp|avif|bmp)|text/plain(;.*)?")
"""MIME types of files that a browser may show. Files of other types are sent for saving, because HTML and SVG files
could run scripts with the rights of this server's own pages. So could every type that ends with `+xml`, also a type of
video, in browsers that show all of them as XML."""

CODE = re.compile(r"[^/]+/(.*script|css\b)")
"""Matches the beginning of the MIME types of scripts, also those with a version (`javascript1.5`), and of style sheets.
The server's own pages may load such files from it, so a stored file is never sent with such a type."""

RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.IGNORECASE | re.ASCII)


async def download(request: Request, state: ServerState, file: StoredFile) -> Response:
    """Returns the answer to a GET or HEAD request for a stored file. Raises NotFound if the file's bytes are gone.

    The HTTP status depends on the byte range that the client requests:
    - No range, several ranges or an invalid range: 200 with the whole file. RFC 9110 allows this.
    - One valid range: 206 with that part of the file.
    - One valid range outside the file: 416.
    """
    headers = _headers(file)
    status, start, stop = 200, 0, file.size
    if wanted := _range(request.headers, headers):
        start, stop = _bounds(wanted, file.size)
        if start >= stop:
            return Response(status_code=416, headers={"content-range": f"bytes */{file.size}"})
        status, headers["content-range"] = 206, f"bytes {start}-{stop - 1}/{file.size}"
    headers["content-length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=_sent_type(file))
    try:
        pieces = await state.call(state.store.blobs.open, file.blob, start, stop)
    except FileNotFoundError:
        raise NotFound from None
    return StreamingResponse(state.read_in_threads(pieces), status, headers, media_type=_sent_type(file))


def restricted(file: StoredFile) -> dict[str, str]:
    """Returns the header that forbids caches to store answers about a file, or {} if everybody may read the file."""
    # A cache could give the answer to another reader, whom the file's access rules do not allow.
    return {} if decide(file, None) == "allow" else {"cache-control": "private, no-store"}


def _sent_type(file: StoredFile) -> str:
    return "application/octet-stream" if CODE.match(file.content_type) else file.content_type


def _headers(file: StoredFile) -> dict[str, str]:
    disposition = "inline" if INLINE.fullmatch(file.content_type) else "attachment"
    name = quote(file.name)
    named = f'filename="{name}"' if name == file.name else f"filename*=utf-8''{name}"
    return {
        **restricted(file),
        "accept-ranges": "bytes",
        "content-disposition": f"{disposition}; {named}",
        "etag": f'"{file.blob}"',  # The bytes of a blob never change.
        "last-modified": formatdate(file.created_at, usegmt=True),
        "x-content-type-options": "nosniff",
    }


def _range(request: Mapping[str, str], answer: Mapping[str, str]) -> re.Match[str] | None:
    """Returns the byte range that a client requests, as a match of the pattern RANGE.

    Returns None if the client has to get the whole file:
    - if it does not request exactly one valid range
    - if its `If-Range` header names another version of the file.

    `request` are the client's headers, `answer` are the headers of the answer.
    """
    if request.get("if-range") not in (None, answer["etag"], answer["last-modified"]):
        return None
    found = RANGE.fullmatch(request.get("range", ""))
    first, last = found.groups() if found else ("", "")
    if (first, last) == ("", "") or (first and last and int(first) > int(last)):
        return None
    return found


def _bounds(wanted: re.Match[str], size: int) -> tuple[int, int]:
    """Returns (start, stop): the range selects the file's bytes from `start` up to but not including `stop`.

    If the range is outside the file, `start >= stop`. `wanted` is the range as a match of the pattern RANGE, `size` is
    the size of the file in bytes.
    """
    first, last = wanted.groups()
    if not first:
        return max(size - int(last), 0), size
    return int(first), min(int(last) + 1, size) if last else size
