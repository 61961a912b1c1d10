"""Uploads: a client creates an upload, then sends the bytes in one piece or in parts, with the upload's token."""

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from longtake import clock
from longtake.database.batches import CHANGED_BATCH
from longtake.database.connection import reading
from longtake.database.tables import files, upload_parts, uploads
from longtake.errors import FileTooLarge, InvalidRequest
from longtake.storage.deletion import delete_blob
from longtake.storage.files import PARTS, FileStore, NewFile, disk_full_errors
from longtake.storage.keys import new_key

MAX_PARTS = 10_000
"""The largest part number of an upload, as in S3."""

MAX_PARTS_OF_KEY = 20_000
"""Largest number of stored parts of all unfinished uploads of one API key."""

TOO_LARGE = "The file is larger than the {limit} bytes that one upload may have."

ETAG = re.compile(r"[0-9a-f]{32}")
"""The form of a part's etag: the MD5 of its bytes in lower-case hex."""


class AlreadyUploaded(InvalidRequest):
    """The upload was already finished with different bytes."""

    def __init__(self) -> None:
        super().__init__("This upload is finished, and its bytes cannot be replaced.")


class TooManyParts(InvalidRequest):
    """The API key already has the largest allowed number of stored parts of unfinished uploads (MAX_PARTS_OF_KEY)."""

    def __init__(self) -> None:
        super().__init__(
            f"This key has {MAX_PARTS_OF_KEY} parts of unfinished uploads; complete some, or let them expire."
        )


@dataclass(frozen=True)
class Upload:
    """An upload of one file.

    `token`: a secret text in the upload's URL. Whoever knows it may write the file once, without an API key.
    `file_key`: the key that the file gets in the store.
    `key_id`: the id of the API key of the file's owner.
    `name`: the file's name for downloads.
    `content_type`: the file's MIME type.
    `multipart`: True if the bytes are sent in parts.
    `lifecycle`: the file's lifetime and access rules (see `lifecycle.parse`), or None for the defaults.
    `expires_at`: the Unix time in seconds by which the upload must be finished.
    """

    token: str
    file_key: str
    key_id: str
    name: str
    content_type: str
    multipart: bool
    lifecycle: dict[str, Any] | None
    expires_at: float


def create(store: FileStore, file: NewFile, *, multipart: bool, within_s: float) -> Upload:
    """Creates an upload of the file that `file` describes, and returns the upload. It expires after `within_s` seconds.

    `multipart`: True if the client will send the bytes in parts. Raises DiskFull if a disk is full.
    """
    upload = Upload(
        token=secrets.token_urlsafe(32),
        file_key=new_key(file.name, file.content_type),
        key_id=file.owner,
        name=file.name[:255],
        content_type=file.content_type,
        multipart=multipart,
        lifecycle=None if file.lifecycle is None else dict(file.lifecycle),
        expires_at=clock.now() + within_s,
    )
    with disk_full_errors(), store.engine.begin() as connection:
        connection.execute(sa.insert(uploads).values(**vars(upload)))
    return upload


def find(store: FileStore, token: str) -> Upload | None:
    """Returns the upload with this token. Returns None if there is none or it has expired."""
    with reading(store.engine) as connection:
        row = connection.execute(sa.select(uploads).where(uploads.c.token == token)).first()
    return None if row is None or row.expires_at <= clock.now() else Upload(**row._mapping)


def finish(store: FileStore, upload: Upload, path: Path) -> str:
    """Moves the file at `path` into the store as the upload's file, and returns the file's key.

    If the upload was already finished with the same bytes, only returns the key, and the file remains at `path`. A file
    that is lost or has expired is replaced.

    Raises AlreadyUploaded if the upload was finished with different bytes, and DiskFull if a disk is full.
    """
    file, key = NewFile(upload.key_id, upload.name, upload.content_type, upload.lifecycle), upload.file_key
    if store.add(key, file, path):
        return key
    # The second `add` fails if another call has stored other bytes since the deletion.
    if not store.delete_unreadable(key) or not store.add(key, file, path):
        raise AlreadyUploaded
    return key


@dataclass(frozen=True)
class Part:
    """A part of an upload: its number, the MD5 of its bytes in lower-case hex, and its size in bytes."""

    number: int
    etag: str
    size: int


def add_part(store: FileStore, upload: Upload, part: Part, path: Path, max_bytes: int) -> None:
    """Stores the file at `path` as a part of an upload. The file remains at `path`.

    `max_bytes`: the largest total size of the upload's stored parts. If a client has sent different bytes for the same
        part number, all of them count.

    All servers see the part, so that any of them can complete the upload. Raises FileTooLarge above `max_bytes`,
    TooManyParts if the API key has too many parts in unfinished uploads, InvalidRequest if the upload has expired, and
    DiskFull if a disk is full.
    """
    with disk_full_errors():
        _count_part(store, upload, part, max_bytes)
        store.blobs.put(_part_key(upload.token, part.number, part.etag), path)


def _count_part(store: FileStore, upload: Upload, part: Part, max_bytes: int) -> None:
    """Inserts the row of a part, so that the part counts towards the limits of its upload and of its key.

    Does nothing if the table has the row already.

    `max_bytes`: the largest total size of the upload's stored parts.

    Raises FileTooLarge above `max_bytes`, TooManyParts if the API key has too many parts in unfinished uploads, and
    InvalidRequest if the upload has expired.
    """
    of_upload, of_key = upload_parts.c.token == upload.token, upload_parts.c.key_id == upload.key_id
    same = sa.and_(of_upload, upload_parts.c.number == part.number, upload_parts.c.etag == part.etag)
    with store.engine.begin() as connection:
        # The lock makes parts of the same upload wait for each other, so that each of them counts the others.
        lock = sa.select(uploads.c.token).where(uploads.c.token == upload.token).with_for_update()
        if connection.execute(lock).first() is None:
            raise InvalidRequest("The time of this upload is over.")
        if connection.execute(sa.select(upload_parts.c.token).where(same)).first() is not None:
            return
        if _num_bytes(connection, upload) + part.size > max_bytes:
            raise FileTooLarge(TOO_LARGE.format(limit=max_bytes))
        count = connection.scalar(sa.select(sa.func.count()).select_from(upload_parts).where(of_key))
        if count is not None and count >= MAX_PARTS_OF_KEY:
            raise TooManyParts
        connection.execute(sa.insert(upload_parts).values(token=upload.token, key_id=upload.key_id, **vars(part)))


def _num_bytes(connection: sa.Connection, upload: Upload) -> int:
    """Returns the total size in bytes of the upload's stored parts."""
    total = sa.select(sa.func.sum(upload_parts.c.size)).where(upload_parts.c.token == upload.token)
    return int(connection.scalar(total) or 0)


def complete(store: FileStore, upload: Upload, parts: Iterable[tuple[int, str]]) -> str:
    """Joins the parts of an upload, stores the result as the upload's file, and returns the file's key.

    If the upload is already finished, or is finished meanwhile by another call, only returns the key. A file that is
    lost is made again if its parts are still stored.

    `parts`: a pair (number, etag) for each part. The parts are joined in the order of their numbers. The etag is the
        MD5 of the part's bytes in hex.

    If one of the parts is not stored, raises InvalidRequest, or FileLost if the file was stored before and is lost.
    Raises DiskFull if a disk is full.
    """
    if store.find_whole(upload.file_key) is not None:
        return upload.file_key
    whole = store.scratch_path()
    try:
        sizes = _sizes(store, upload)
        keys = [_key_of_whole(store, upload, number, etag, sizes) for number, etag in sorted(parts)]
        with disk_full_errors(), whole.open("xb") as target:
            for key in keys:
                target.writelines(store.blobs.open(key))
        finish(store, upload, whole)
    except (_NoPart, FileNotFoundError):
        # Another call that has finished meanwhile has deleted the parts.
        if store.find(upload.file_key) is None:
            raise
        return upload.file_key
    finally:
        whole.unlink(missing_ok=True)
    _delete_parts(store, upload.token)
    return upload.file_key


class _NoPart(InvalidRequest):
    """A part of an upload is not stored."""

    def __init__(self, number: int, etag: str) -> None:
        super().__init__(f"Part {number} with the etag {etag[:80]!r} has not been uploaded.", loc=("parts",))


def _sizes(store: FileStore, upload: Upload) -> Mapping[tuple[int, str], int]:
    """Returns (number, etag) -> the size in bytes, for each part of an upload that was received."""
    columns = upload_parts.c.number, upload_parts.c.etag, upload_parts.c.size
    with reading(store.engine) as connection:
        rows = connection.execute(sa.select(*columns).where(upload_parts.c.token == upload.token))
        return {(row.number, row.etag): row.size for row in rows}


def _key_of_whole(
    store: FileStore, upload: Upload, number: int, etag: str, sizes: Mapping[tuple[int, str], int]
) -> str:
    """Returns the key of the blob of an upload's part, after checking that the blob is whole.

    sizes: (number, etag) -> the size in bytes, for each part of the upload that was received.

    Raises _NoPart if the part was not received, or its blob is missing or damaged. The client can then send it again.
    """
    key = _part_key(upload.token, number, etag)
    size = store.blobs.size(key) if ETAG.fullmatch(etag) else None
    if size is None or size != sizes.get((number, etag), size):  # versions before 0.2 did not store the size
        raise _NoPart(number, etag)
    return key


def sweep(store: FileStore, limit: int = CHANGED_BATCH) -> int:
    """Deletes expired uploads and their parts, at most `limit` uploads, and returns their number."""
    late = sa.select(uploads.c.token).where(uploads.c.expires_at <= clock.now())
    with reading(store.engine) as connection:
        tokens = connection.scalars(late.limit(limit)).all()
    for token in tokens:
        _delete_parts(store, token)
    if tokens:
        with store.engine.begin() as connection:
            for table in (upload_parts, uploads):
                connection.execute(sa.delete(table).where(table.c.token.in_(tokens)))
    return len(tokens)


def _part_key(token: str, number: int, etag: str) -> str:
    return f"{PARTS}/{token}.{number}.{etag}"


def _delete_parts(store: FileStore, token: str) -> None:
    """Deletes the blobs of an upload's parts, and then their rows."""
    mine = upload_parts.c.token == token
    with reading(store.engine) as connection:
        parts = connection.execute(sa.select(upload_parts.c.number, upload_parts.c.etag).where(mine)).all()
    for part in parts:
        delete_blob(store.blobs, _part_key(token, part.number, part.etag))
    if parts:
        with store.engine.begin() as connection:
            connection.execute(sa.delete(upload_parts).where(mine))


SEARCHED = 10_000
"""Number of the newest files, of all API keys, among which `recent_uploads` searches."""


def recent_uploads(engine: sa.Engine, key_id: str, limit: int, searched: int = SEARCHED) -> Sequence[Any]:
    """Returns the newest uploaded videos and images of an API key, newest first, at most `limit` of them.

    Files that the server imported for the key are among them; results of requests and expired files are not. Each row
    has the columns `key`, `name`, `content_type` and `size` of the table `files`. Only the newest `searched` files are
    read.
    """
    newest_first = files.c.created_at.desc()
    is_shown = sa.or_(files.c.content_type.startswith("video/"), files.c.content_type.startswith("image/"))
    is_stored = sa.or_(files.c.expires_at.is_(None), files.c.expires_at > clock.now())
    # Written so that SQLite does not use the index of `request_id`, which would make it read all uploads.
    is_upload = sa.func.coalesce(files.c.request_id, "") == ""
    columns = files.c.key, files.c.name, files.c.content_type, files.c.size
    query = sa.select(*columns).order_by(newest_first, files.c.key).limit(limit)
    with reading(engine) as connection:
        last = connection.scalar(sa.select(files.c.created_at).order_by(newest_first).offset(searched - 1).limit(1))
        among = [] if last is None else [files.c.created_at >= last]
        return connection.execute(query.where(files.c.key_id == key_id, is_upload, is_shown, is_stored, *among)).all()
