"""Large inputs and results of requests: they are stored as blobs, and a request's row has only the keys of the blobs.

If they were in the row, the database would write them again at each change of the row.
"""

import base64
import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from longtake.database.connection import reading
from longtake.database.tables import requests
from longtake.errors import FileLost
from longtake.queue.requests import Outcome, Submission
from longtake.storage.blobs import Blobs
from longtake.storage.files import PAYLOADS, FileStore
from longtake.storage.lost import report_lost

INLINE_BYTES = 64 * 1024
"""Size in bytes above which an input or a result is stored as a blob. A larger invalid input is not stored at all."""

MAX_VIDEO_INSIDE = 64 * 1024**2
"""Size in bytes of the largest video that a result may contain as a data URI.

A client can send such a data URI back as the input of another request: it is below the default limit of a JSON body.
"""

DELETION_S = 1.0
"""Most seconds that a reader waits if the blob of a request's result is missing. If the result was deleted, its row in
the database says so within this time, because a deletion changes the row soon after the blob is gone."""

_ENCODED_AT_ONCE = 3 * 2**18
"""Number of bytes that are encoded as base64 at once: a multiple of 3, so that only the last piece needs padding."""


def move_out(store: FileStore, submission: Submission) -> Submission:
    """Stores the large payloads of a submission as blobs. Returns the submission with the keys of these blobs.

    A payload is large if it has more than 64 KiB (INLINE_BYTES). The payloads are the input and, if the input is
    invalid, the result, which is an error. A large invalid input is not stored; a note of a few bytes replaces it.
    """
    outcome = submission.outcome
    moved = replace(submission, outcome=None if outcome is None else move_result_out(store, submission.id, outcome))
    if len(submission.body) <= INLINE_BYTES:
        return moved
    if outcome is not None:
        # The number of invalid submissions is not limited, so they must not fill the disk.
        return replace(moved, body=_not_stored(submission.body))
    return replace(moved, body=b"", body_blob=_put(store, submission.id, [submission.body]))


def _not_stored(content: bytes) -> bytes:
    """Returns, as JSON, the note that is stored instead of a large invalid input. It has the input's size and SHA-256.

    With the SHA-256, a later submission with the same idempotency key can still be compared with this one.
    """
    note = f"This input is invalid and was not stored, because it has {len(content)} bytes (at most {INLINE_BYTES})."
    return json.dumps({"note": note, "sha256": hashlib.sha256(content).hexdigest()}).encode()


def move_result_out(store: FileStore, request_id: str, outcome: Outcome) -> Outcome:
    """Returns the outcome of a request. A body of more than 64 KiB (INLINE_BYTES) is moved from the outcome to a blob.

    `request_id`: becomes a part of the blob's key.

    Raises ValueError or TypeError if the body cannot be written as JSON.
    """
    if outcome.body_blob is not None:
        return outcome
    content = result_json(outcome)
    if len(content) <= INLINE_BYTES:
        return outcome
    return replace(outcome, body=None, body_blob=_put(store, request_id, [content]))


def move_video_inside(store: FileStore, request_id: str, outcome: Outcome, video: Path) -> Outcome:
    """Stores the JSON body of a request's outcome, with the video in it as a data URI, as a blob. Returns the outcome
    with the blob's key in place of the body.

    `outcome`: its body has an incomplete data URI in place of the video's URL: only the beginning, up to `;base64,`.
    `video`: the file whose bytes complete the data URI, as base64. It is read in pieces, so it need not fit into
        memory.
    """
    url = b'"url": ' + json.dumps(outcome.body["video"]["url"], ensure_ascii=False).encode()
    before, _, after = result_json(outcome).partition(url)
    pieces = chain([before, url[:-1]], _base64_pieces(video), [b'"', after])
    return replace(outcome, body=None, body_blob=_put(store, request_id, pieces))


def _base64_pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_ENCODED_AT_ONCE):
            yield base64.b64encode(piece)


def result_json(outcome: Outcome) -> bytes:
    """Returns the outcome's body as JSON in UTF-8. Raises ValueError or TypeError if that is impossible."""
    return json.dumps(outcome.body, ensure_ascii=False, allow_nan=False).encode()


def has_video_inside(result: bytes) -> bool:
    """Returns True if a result contains its video itself, as a data URI, and not the URL of a file.

    `result`: the JSON body of the result, as `result_json` writes it, or its first piece.
    """
    return b'"url": "data:' in result


def digest(key: str | None) -> str | None:
    """Returns the SHA-256 of a payload (a request's input or result) as hex, from the key of its blob. Returns None for
    None."""
    return None if key is None else key.rpartition(".")[2]


@dataclass(frozen=True)
class OpenResult:
    """The JSON body of a result, which is read in pieces of at most 256 KiB.

    `size`: its size in bytes.
    `first`: the first piece.
    `rest`: reads the pieces after it.
    """

    size: int
    first: bytes
    rest: Iterator[bytes]

    def read_all(self) -> bytes:
        """Returns the whole JSON body of the result. May be called only once, and not after `rest` was read."""
        return b"".join((self.first, *self.rest))


def read(blobs: Blobs, key: str) -> bytes:
    """Returns the payload (a request's input or result) in a blob. Raises FileLost if the blob is missing or
    damaged."""
    try:
        return b"".join(checked(blobs, key))
    except FileNotFoundError:
        raise _lost(key) from None


def checked(blobs: Blobs, key: str) -> Iterator[bytes]:
    """Yields the payload (a request's input or result) in a blob in pieces of at most 256 KiB, and checks its SHA-256.

    Raises FileLost after the last piece if the blob is damaged, and FileNotFoundError if there is no such blob.
    """
    hashed = hashlib.sha256()
    for piece in blobs.open(key):
        hashed.update(piece)
        yield piece
    if hashed.hexdigest() != digest(key):
        raise _lost(key)


def _lost(key: str) -> FileLost:
    """Returns the error for a blob with a payload that is missing or damaged, and reports it in the log."""
    report_lost(f"The stored file {key} is missing or damaged. Restore it from a backup, if there is one.")
    return FileLost("The server has lost the stored input or result of this request. Send the request again.")


def open_result(engine: sa.Engine, blobs: Blobs, request_id: str) -> OpenResult | None:
    """Opens the JSON body of the request's result, to be read in pieces.

    Returns None if there is no such request, if it has no result yet, or if the result is deleted. Raises FileLost if
    the result's blob is missing or damaged.
    """
    found = _output(engine, request_id)
    if found is None or (found.output is None and found.output_blob is None):
        return None
    if found.output_blob is None:
        return OpenResult(len(found.output), found.output, iter(()))
    size = blobs.size(found.output_blob)
    try:
        for _ in checked(blobs, found.output_blob):  # before a client gets the first piece and the status of success
            pass
        pieces = blobs.open(found.output_blob)
        return None if size is None else OpenResult(size, next(pieces), pieces)
    except FileNotFoundError:
        if _is_deleted(engine, request_id, found.output_blob):
            return None
        raise _lost(found.output_blob) from None


def _is_deleted(engine: sa.Engine, request_id: str, key: str) -> bool:
    """Returns True if the missing blob `key` of a request's result was deleted. Returns False if it is lost.

    The row still names a lost blob. When a payload is deleted, its blob goes first and the row changes soon after, so
    this function looks again for one second (DELETION_S).
    """
    until = time.monotonic() + DELETION_S
    while (found := _output(engine, request_id)) is not None and found.output_blob == key:
        if time.monotonic() >= until:
            return False
        time.sleep(0.05)
    return True


def result(engine: sa.Engine, blobs: Blobs, request_id: str) -> bytes | None:
    """Returns the JSON body of the request's result.

    Returns None if there is no such request, if it has no result yet, or if the result is deleted, missing or damaged.
    """
    found = _output(engine, request_id)
    return None if found is None else _content(blobs, found.output, found.output_blob)


def _output(engine: sa.Engine, request_id: str) -> Any | None:
    """Returns the columns `output` and `output_blob` of a request's row, or None if there is no such request."""
    query = sa.select(requests.c.output, requests.c.output_blob).where(requests.c.id == request_id)
    with reading(engine) as connection:
        return connection.execute(query).first()


def input_and_result(
    engine: sa.Engine, blobs: Blobs, request_id: str, max_bytes: int | None = None
) -> tuple[bytes | None, bytes | None]:
    """Returns the request's input and the JSON body of its result.

    Each is None if there is none, if it has more than `max_bytes` bytes, or if it is missing or damaged.
    """
    inline = [_limited(column, max_bytes).label(column.name) for column in (requests.c.body, requests.c.output)]
    query = sa.select(*inline, requests.c.body_blob, requests.c.output_blob).where(requests.c.id == request_id)
    with reading(engine) as connection:
        found = connection.execute(query).first()
    if found is None:
        return None, None
    body = _content(blobs, found.body, found.body_blob, max_bytes)
    return body, _content(blobs, found.output, found.output_blob, max_bytes)


def _limited(column: sa.Column[bytes], max_bytes: int | None) -> sa.ColumnElement[bytes]:
    """Returns an SQL expression for a column's value. It gives NULL if the value has more than `max_bytes` bytes."""
    return column if max_bytes is None else sa.case((sa.func.length(column) <= max_bytes, column))


def _content(blobs: Blobs, inline: bytes | None, key: str | None, max_bytes: int | None = None) -> bytes | None:
    if key is None:
        return inline
    if max_bytes is not None and (blobs.size(key) or 0) > max_bytes:
        return None
    try:
        return b"".join(checked(blobs, key))
    except (FileNotFoundError, FileLost):  # Without the blob, the payload is just being deleted.
        return None


def keys(moved: Submission) -> list[str]:
    """Returns the keys of the blobs that hold a submission's large input or result. `moved` is a submission that
    `move_out` has returned, which stores these blobs."""
    found = (moved.body_blob, None if moved.outcome is None else moved.outcome.body_blob)
    return [key for key in found if key is not None]


def _put(store: FileStore, request_id: str, pieces: Iterable[bytes]) -> str:
    """Stores a payload, given in pieces, as a blob. Returns the blob's key.

    The key contains the id of the request, and the SHA-256 of the payload as hex.
    """
    hashed, path = hashlib.sha256(), store.scratch_path()
    try:
        with path.open("xb") as file:
            for piece in pieces:
                hashed.update(piece)
                file.write(piece)
        key = f"{PAYLOADS}/{request_id}.{hashed.hexdigest()}"
        store.blobs.put(key, path)
    finally:
        path.unlink(missing_ok=True)
    return key
