"""Uploads: promised first, then written by whoever holds their token, in one piece or in parts."""

import re
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from longtake.database.connection import reading
from longtake.database.tables import uploads
from longtake.errors import InvalidRequest
from longtake.storage.files import FileStore, NewFile, discard, disk_full_errors, new_key

PARTS = 10_000
"""The most parts of an upload, as object stores have it."""

ETAG = re.compile(r"[0-9a-f]{32}")
"""The MD5 of a part, in hex."""


class AlreadyUploaded(InvalidRequest):
    """The promised file is there, with other bytes."""

    def __init__(self) -> None:
        super().__init__("This upload is finished, and its bytes cannot be replaced.")


@dataclass(frozen=True)
class Upload:
    """A promised upload. Its `token` is the capability to write it until `expires_at`, once."""

    token: str
    file_key: str
    key_id: str
    name: str
    content_type: str
    multipart: bool
    lifecycle: dict[str, Any] | None
    expires_at: float


def create(
    store: FileStore,
    key_id: str,
    name: str,
    content_type: str,
    *,
    multipart: bool,
    lifecycle: Mapping[str, Any] | None,
    within_s: float,
) -> Upload:
    """Makes room for an upload that is finished `within_s` from now."""
    upload = Upload(
        token=secrets.token_urlsafe(32),
        file_key=new_key(name, content_type),
        key_id=key_id,
        name=name[:255],
        content_type=content_type,
        multipart=multipart,
        lifecycle=None if lifecycle is None else dict(lifecycle),
        expires_at=time.time() + within_s,
    )
    with disk_full_errors(), store.engine.begin() as connection:
        connection.execute(sa.insert(uploads).values(**vars(upload)))
    return upload


def find(store: FileStore, token: str) -> Upload | None:
    """The upload that this token may write; None where there is none, or its time is over."""
    with reading(store.engine) as connection:
        row = connection.execute(sa.select(uploads).where(uploads.c.token == token)).first()
    return None if row is None or row.expires_at <= time.time() else Upload(**row._mapping)


def finish(store: FileStore, upload: Upload, path: Path) -> str:
    """Takes the file at `path` as what was promised, and tells its key. Raises AlreadyUploaded; the same bytes again
    are a client's second try, and fine."""
    file = NewFile(upload.key_id, upload.name, upload.content_type, upload.lifecycle)
    if not store.add(upload.file_key, file, path):
        raise AlreadyUploaded
    return upload.file_key


def parts_of(store: FileStore, upload: Upload) -> Path:
    """The folder of an upload's parts, each a file named `<number>.<etag>`."""
    folder = store.incoming(upload.token)
    folder.mkdir(exist_ok=True)
    return folder


def size_of_parts(store: FileStore, upload: Upload) -> int:
    """The bytes that have arrived."""
    return sum(path.stat().st_size for path in parts_of(store, upload).iterdir())


def assemble(store: FileStore, upload: Upload, parts: Iterable[tuple[int, str]]) -> str:
    """Makes one file of the parts, named by number and etag in any order, and tells its key. Raises InvalidRequest
    where one is not there."""
    if store.find(upload.file_key) is not None:
        return upload.file_key
    folder = parts_of(store, upload)
    paths = []
    for number, etag in sorted(parts):
        path = folder / f"{number}.{etag}" if ETAG.fullmatch(etag) else None
        if path is None or not path.is_file():
            raise InvalidRequest(f"Part {number} with the etag {etag[:80]!r} has not been uploaded.", loc=("parts",))
        paths.append(path)
    whole = store.incoming()
    try:
        with disk_full_errors(), whole.open("xb") as target:
            for path in paths:
                with path.open("rb") as part:
                    shutil.copyfileobj(part, target, 1024 * 1024)
        key = finish(store, upload, whole)
    finally:
        discard(whole)
    discard(folder)
    return key


def sweep(store: FileStore) -> None:
    """Forgets the uploads whose time is over, with what has arrived of them."""
    late = uploads.c.expires_at <= time.time()
    with reading(store.engine) as connection:
        tokens = [row.token for row in connection.execute(sa.select(uploads.c.token).where(late))]
    for token in tokens:
        discard(store.folder / ".incoming" / token)
    if tokens:
        with store.engine.begin() as connection:
            connection.execute(sa.delete(uploads).where(uploads.c.token.in_(tokens)))
