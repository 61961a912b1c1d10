"""Imports: files that the server has fetched from elsewhere for a key, and stored as uploads of this key.

A request that names the same URL some minutes later gets the stored file, so that it is not fetched again.
"""

import hashlib

import sqlalchemy as sa

from longtake import clock
from longtake.database.connection import reading
from longtake.database.tables import imports
from longtake.storage.files import FileStore, StoredFile

FRESH_S = 600.0
"""Seconds for which the file of an import is used for its URL. After that the URL is fetched again."""


def find(store: FileStore, key_id: str, url: str) -> tuple[str, StoredFile] | None:
    """Returns the key of the stored file that was imported from a URL, and the facts about it.

    Returns None if this API key has not imported the URL within the last minutes (FRESH_S), or the file is not stored
    any more.

    `key_id`: the id of the API key.
    """
    is_fresh = imports.c.imported_at > clock.now() - FRESH_S
    with reading(store.engine) as connection:
        key = connection.scalar(sa.select(imports.c.file_key).where(*_is(key_id, url), is_fresh))
    file = None if key is None else store.find(key)
    return None if key is None or file is None else (key, file)


def add(store: FileStore, key_id: str, url: str, file_key: str) -> None:
    """Records that the stored file `file_key` was imported from a URL for an API key. It replaces an earlier record."""
    row = {"key_id": key_id, "url_hash": _hash(url), "file_key": file_key, "imported_at": clock.now()}
    try:
        with store.engine.begin() as connection:
            connection.execute(sa.delete(imports).where(*_is(key_id, url)))
            connection.execute(sa.insert(imports).values(row))
    except sa.exc.IntegrityError:
        pass  # another server has recorded the same in the same moment, or the file is deleted already


def _is(key_id: str, url: str) -> list[sa.ColumnElement[bool]]:
    return [imports.c.key_id == key_id, imports.c.url_hash == _hash(url)]


def _hash(url: str) -> str:
    return hashlib.sha256(url.strip().encode("utf-8", "surrogatepass")).hexdigest()
