"""Files of the server: bytes in a folder under keys that nobody guesses, facts about them in the database.

    <folder>/<key>           a finished file; it appears whole or not at all
    <folder>/.access/<key>   who may fetch it, where not everybody may who knows its address
    <folder>/.incoming/...   bytes on their way, and the parts of uploads

Servers that share a database share this folder too.
"""

import errno
import filecmp
import hmac
import json
import mimetypes
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from longtake.database.connection import reading
from longtake.database.secret import secret
from longtake.database.tables import files
from longtake.errors import DiskFull
from longtake.storage import lifecycle

KEY = re.compile(r"[A-Za-z0-9_-]{32}(\.[a-z0-9]{1,8})?")
"""32 random characters, and the ending of the name that the file came with."""

STRAY_S = 24 * 3600.0
"""Files that no row knows are deleted when they are so old."""


@dataclass(frozen=True)
class NewFile:
    """Facts about a file to be stored: the id of its owner's API key, its name for downloads, its MIME type, and the
    lifecycle that its client asked for (see `lifecycle.parse`)."""

    owner: str
    name: str
    content_type: str
    lifecycle: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class StoredFile:
    """A finished file, of `size` bytes."""

    path: Path
    key_id: str
    name: str
    content_type: str
    size: int


def new_key(name: str, content_type: str) -> str:
    return secrets.token_urlsafe(24) + _ending(name, content_type)


def _ending(name: str, content_type: str) -> str:
    found = re.search(r"\.[A-Za-z0-9]{1,8}$", name)
    return found[0].lower() if found else mimetypes.guess_extension(content_type.partition(";")[0].strip()) or ""


def path_in(folder: Path, key: str) -> Path | None:
    """Where the file of this key lies; None where it does not, or where this is no key."""
    path = folder / key if KEY.fullmatch(key) else None
    return path if path is not None and path.is_file() else None


def own_file(url: str, folder: Path, key_id: str | None) -> Path | None:
    """The stored file that this URL names, which then needs no fetching; None where it names none.

    Any host will do, since a server may be known by several: the key alone tells, because nobody guesses it.
    A file whose access rules keep `key_id` from it is not found.
    """
    try:
        address = urlsplit(url)
    except ValueError:
        return None
    before, _, key = address.path.rpartition("/")
    if address.scheme not in ("http", "https") or not before.endswith("/files"):
        return None
    path = path_in(folder, key)
    return path if path is not None and decision(folder, key, key_id) == "allow" else None


def decision(folder: Path, key: str, key_id: str | None) -> lifecycle.Decision:
    """What becomes of the wish of `key_id` (None: nobody known) to fetch a file."""
    try:
        kept = json.loads((folder / ".access" / key).read_bytes())
    except FileNotFoundError:
        return "allow"
    return lifecycle.decision(kept["rules"], kept["owner"], key_id)


@dataclass(frozen=True)
class FileStore:
    """The files in a folder. `keep_s`: so long they are kept where a client asks for nothing else.

    What writes raises DiskFull where there is no room, and leaves nothing half done that would be seen.
    """

    engine: sa.Engine
    folder: Path
    keep_s: float = 7 * 24 * 3600.0

    def find(self, key: str) -> StoredFile | None:
        """A file that has not expired."""
        path = self.path_of(key)
        if path is None:
            return None
        with reading(self.engine) as connection:
            row = connection.execute(sa.select(files).where(files.c.key == key)).first()
        if row is None or (row.expires_at is not None and row.expires_at <= time.time()):
            return None
        return StoredFile(path, row.key_id, row.name, row.content_type, row.size)

    def path_of(self, key: str) -> Path | None:
        """See `path_in`."""
        return path_in(self.folder, key)

    def own_file(self, url: str, key_id: str | None) -> Path | None:
        """See `own_file`."""
        return own_file(url, self.folder, key_id)

    def decision(self, key: str, key_id: str | None) -> lifecycle.Decision:
        """See `decision`."""
        return decision(self.folder, key, key_id)

    def incoming(self, name: str | None = None) -> Path:
        """A path for bytes on their way."""
        folder = self.folder / ".incoming"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / (name or secrets.token_urlsafe(16))

    def add_result(self, request_id: str, file: NewFile, path: Path) -> str:
        """Moves the file at `path` into the store as a result of a request and returns its key.

        The key depends on the request and the file's name only. If the result is already stored, the stored file stays.
        """
        signed = hmac.digest(self._secret, f"{request_id}/{file.name}".encode(), "sha256")
        key = signed.hex()[:32] + _ending(file.name, file.content_type)
        if self.find(key) is None:
            self.delete(key)
            self.add(key, file, path, request_id=request_id)
        return key

    def add(self, key: str, file: NewFile, path: Path, *, request_id: str | None = None) -> bool:
        """Moves the file at `path` into the store under this key and returns True.

        If the key is in use, nothing is changed, and the result is True only if the stored bytes are the same, as in a
        client's second try.
        """
        now = time.time()
        values = {
            "key": key,
            "key_id": file.owner,
            "request_id": request_id,
            "name": file.name[:255],
            "content_type": file.content_type[:200],
            "size": path.stat().st_size,
            "created_at": now,
            "expires_at": lifecycle.expires_at(file.lifecycle, now, self.keep_s),
        }
        target = self.folder / key
        _sync(path)  # before the transaction, for it keeps other writers waiting
        moved = False
        try:
            # The row decides between two who keep under the same key; nobody sees it before the file is there.
            with disk_full_errors(), self.engine.begin() as connection:
                connection.execute(sa.insert(files).values(values))
                self._restrict(key, file)
                _move(path, target)
                moved = True
        except sa.exc.IntegrityError:
            return target.is_file() and filecmp.cmp(path, target, shallow=False)
        except Exception:
            if moved and not path.exists():
                target.replace(path)  # the row was not stored after all: whoever asks again finds its file
            raise
        return True

    def delete_of_request(self, request_id: str) -> list[str]:
        """Deletes the files of a request, and tells their keys."""
        return self._delete_where(files.c.request_id == request_id)

    def delete(self, key: str) -> None:
        """Deletes a file, if it is there."""
        if not KEY.fullmatch(key):
            return
        with self.engine.begin() as connection:
            connection.execute(sa.delete(files).where(files.c.key == key))
        (self.folder / key).unlink(missing_ok=True)
        (self.folder / ".access" / key).unlink(missing_ok=True)

    def sweep(self) -> list[str]:
        """Deletes the files that have expired, and tells their keys."""
        return self._delete_where(files.c.expires_at <= time.time())

    def sweep_strays(self) -> None:
        """Deletes what crashes left behind: old bytes that were on their way, and old files without a row."""
        before = time.time() - STRAY_S
        for path in _older(self.folder / ".incoming", before):
            discard(path)
        old = [path.name for path in _older(self.folder, before) if KEY.fullmatch(path.name)]
        with reading(self.engine) as connection:
            known = {row.key for row in connection.execute(sa.select(files.c.key))} if old else set()
        for key in set(old) - known:
            self.delete(key)

    def _delete_where(self, where: sa.ColumnElement[bool]) -> list[str]:
        with reading(self.engine) as connection:
            keys = [row.key for row in connection.execute(sa.select(files.c.key).where(where))]
        for key in keys:
            self.delete(key)
        return keys

    @cached_property
    def _secret(self) -> bytes:
        return secret(self.engine, "results")

    def _restrict(self, key: str, file: NewFile) -> None:
        rules = (file.lifecycle or {}).get("initial_acl")
        if not rules:
            return
        path = self.folder / ".access" / key
        whole = self.incoming()
        whole.write_text(json.dumps({"owner": file.owner, "rules": rules}))
        _move(whole, path)


@contextmanager
def disk_full_errors() -> Iterator[None]:
    """Raises DiskFull, with a sentence for users, for an error in the block that a full disk caused."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull("The file could not be stored: the server's disk is full.") from error
    except sa.exc.OperationalError as error:
        if "disk is full" not in str(error):
            raise
        raise DiskFull("The file could not be stored: the disk of the server's database is full.") from error


def discard(path: Path) -> None:
    """Deletes a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _older(folder: Path, before: float) -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries if entry.stat(follow_symlinks=False).st_mtime < before]


def _move(source: Path, target: Path) -> None:
    """Renames, durably; copies where the two are on different file systems."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _sync(source)
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        shutil.copyfile(source, beside)
        _sync(beside)
        beside.replace(target)
        source.unlink()
    _sync(target.parent)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
