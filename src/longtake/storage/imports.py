"""Imports: files that the server has downloaded from a URL for an API key, and stored as uploads of this key.

If the key's next request for the same URL follows within ten minutes, it gets the stored file, without a new download.
"""

import hashlib

import sqlalchemy as sa

from longtake import clock
from longtake.database.connection import reading
from longtake.database.tables import imports
from longtake.storage.files import FileStore, StoredFile

FRESH_S = 600.0
"""Seconds after an import during which requests for the URL get the stored file. Later the URL is fetched again."""


def find(store: FileStore, key_id: str, url: str) -> tuple[str, StoredFile] | None:
    """Returns the key of the stored file that was imported from a URL, and the facts about it.

    Returns None if this API key has not imported the URL within the last ten minutes (FRESH_S), or if the file is not
    stored any more.

    `key_id`: the id of the API key.
    """
    is_fresh = imports.c.imported_at > clock.now() - FRESH_S
    with reading(store.engine) as connection:
        key = connection.scalar(sa.select(imports.c.file_key).where(*_is(key_id, url), is_fresh))
    file = None if key is None else store.find_whole(key)
    return None if key is None or file is None else (key, file)


def add(store: FileStore, key_id: str, url: str, file_key: str) -> None:
    """Records that the stored file `file_key` was imported from a URL for an API key. It replaces an earlier record."""
    row = {"key_id": key_id, "url_hash": url_hash(url), "file_key": file_key, "imported_at": clock.now()}
    try:
        with store.engine.begin() as connection:
            connection.execute(sa.delete(imports).where(*_is(key_id, url)))
            connection.execute(sa.insert(imports).values(row))
    except sa.exc.IntegrityError:
        pass  # another server has recorded the same in the same moment, or the file is deleted already


def url_hash(url: str) -> str:
    """Returns the SHA-256 of a URL in hex, under which its import is remembered. Blanks around the URL do not count.

    A URL can be a data URI of several megabytes, too large to be remembered itself.
    """
    return hashlib.sha256(url.strip().encode("utf-8", "surrogatepass")).hexdigest()


def _is(key_id: str, url: str) -> list[sa.ColumnElement[bool]]:
    return [imports.c.key_id == key_id, imports.c.url_hash == url_hash(url)]
