"""Files that are made from stored ones for the server's pages, such as a strip of a video's frames.

Each lives as long as the stored file from which it was made, and is deleted with it.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from longtake import clock
from longtake.database.connection import reading
from longtake.database.tables import derived_files
from longtake.storage.deletion import delete_blob
from longtake.storage.files import DERIVED, FileStore, disk_full_errors

MOST_FORMS = 8
"""Largest number of derived files of one kind, such as strips of frames, that are stored for one video. If there is one
more, the oldest is deleted."""


@dataclass(frozen=True)
class Derivation:
    """The identity of a derived file (such as a strip of a video's frames): the stored file from which it is made, its
    kind and its form.

    `file_key`: the key of the stored file.
    `kind`: the kind of derived file, such as "strip".
    `form`: the variant of this kind, such as "24x72"; empty if there is only one.
    """

    file_key: str
    kind: str
    form: str = ""


@dataclass(frozen=True)
class DerivedFile:
    """A derived file, such as a strip of a video's frames.

    `facts`: facts about it, a JSON object.
    `blob`: the key of the blob with its bytes; None if it has facts alone.
    `size`: the size of the blob in bytes; 0 without one.
    """

    facts: Mapping[str, Any]
    blob: str | None
    size: int


def find(store: FileStore, wanted: Derivation) -> DerivedFile | None:
    """Returns a derived file (a file made from a stored one, such as a strip of frames), or None if it was not made yet
    or its blob is missing or damaged."""
    with reading(store.engine) as connection:
        row = connection.execute(sa.select(derived_files).where(*_is(wanted))).first()
    if row is None or (row.blob is not None and store.blobs.size(row.blob) != row.size):
        return None
    return DerivedFile(row.facts, row.blob, row.size)


def add(store: FileStore, made: Derivation, facts: Mapping[str, Any], path: Path | None) -> DerivedFile | None:
    """Stores a derived file (such as a strip of a video's frames) and returns it. It replaces the one that was stored
    under the same `made`.

    Returns None if the file from which it was made is no longer stored. Raises DiskFull if a disk is full.

    `made`: the stored file from which it was made, its kind and its variant, which identify it.
    `facts`: facts about it, a JSON object.
    `path`: a local file with its bytes, which remains; None if it has facts alone.
    """
    with disk_full_errors():
        blob = _put(store, path) if path is not None else None
        stored = DerivedFile(facts, blob, path.stat().st_size if path is not None else 0)
        row = {**vars(made), **vars(stored), "made_at": clock.now()}
        try:
            with store.engine.begin() as connection:
                unused = [*_delete(connection, *_is(made)), *_delete_oldest(connection, made)]
                connection.execute(sa.insert(derived_files).values(row))
        except sa.exc.IntegrityError:  # there is no such file any more, or another server has stored the same
            if blob is not None:
                store.blobs.delete(blob)
            return find(store, made)
    for key in unused:
        delete_blob(store.blobs, key)
    return stored


def _put(store: FileStore, path: Path) -> str:
    """Stores the bytes of a local file as a new blob, and returns the blob's key."""
    blob = f"{DERIVED}/{secrets.token_hex(16)}"
    store.blobs.put(blob, path)
    return blob


def _is(wanted: Derivation) -> list[sa.ColumnElement[bool]]:
    return [derived_files.c[name] == value for name, value in vars(wanted).items()]


def _delete_oldest(connection: sa.Connection, made: Derivation) -> list[str]:
    """Deletes old derived files (such as strips of a video's frames), so that there is room for `made`: at most 7
    (MOST_FORMS - 1) remain, the newest ones.

    Only derived files of the same kind and of the same stored file as `made` count. Returns the keys of the blobs of
    the deleted ones, which the caller must delete.
    """
    of_kind = [derived_files.c.file_key == made.file_key, derived_files.c.kind == made.kind]
    newest = sa.select(derived_files.c.form).where(*of_kind).order_by(derived_files.c.made_at.desc())
    forms = connection.scalars(newest).all()[MOST_FORMS - 1 :]
    return _delete(connection, *of_kind, derived_files.c.form.in_(forms)) if forms else []


def _delete(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[str]:
    """Deletes the rows that meet all conditions. Returns the keys of their blobs, which the caller must delete."""
    deleted = connection.scalars(sa.delete(derived_files).where(*conditions).returning(derived_files.c.blob))
    return [blob for blob in deleted if blob is not None]
