"""The file store: uploads and results under keys that cannot be guessed.

A file is a row of the table `files` and a blob with its bytes. The blob is stored before the row, so a row always has
its bytes. A crash between the two leaves a blob without a row, which `sweep_strays` deletes later.
"""

import errno
import hmac
import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from longtake import clock
from longtake.atomic import make_lasting_folder
from longtake.database import times
from longtake.database.batches import CHANGED_BATCH, batches
from longtake.database.connection import FULL, error_code, reading
from longtake.database.secret import secret
from longtake.database.tables import derived_files, fetches, files, requests, uploads
from longtake.errors import DiskFull, FileLost
from longtake.settings import Settings
from longtake.storage import legacy, lifecycle, open_blobs
from longtake.storage.blobs import Blobs
from longtake.storage.deletion import delete_blob
from longtake.storage.keys import KEY, suffix
from longtake.storage.local import SCRATCH
from longtake.storage.lost import report_lost
from longtake.temporary import delete_unchanged

PAYLOADS = "payloads"
"""The folder of blobs that are large inputs and results of requests. Their keys are `payloads/<id>.<sha256>`."""

PARTS = "parts"
"""The folder of blobs that are parts of unfinished uploads. Their keys are `parts/<token>.<number>.<etag>`."""

FETCHED = "fetched"
"""The folder of blobs that were downloaded for requests. See `queue.fetches.new_blob_key`."""

DERIVED = "derived"
"""The folder of blobs that were made from files, such as a strip of a video's frames (see `storage.derived`)."""

log = logging.getLogger(__name__)

STRAY_S = 24 * 3600.0
"""Age in seconds from which a scratch file, or a blob without a row, must have been left by a crash.

Younger ones may belong to an upload or a request in progress. `sweep_strays` says which are deleted.
"""


@dataclass(frozen=True)
class NewFile:
    """Facts about a file that is going to be stored.

    `owner`: the id of its owner's API key.
    `name`: its name for downloads.
    `content_type`: its MIME type.
    `lifecycle`: the lifetime and access rules that the client set (see `lifecycle.parse`); None for the defaults.
    """

    owner: str
    name: str
    content_type: str
    lifecycle: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class StoredFile:
    """Facts about a stored file.

    `blob`: the key of the blob with its bytes.
    `owner`: the id of its owner's API key.
    `name`: its name for downloads.
    `content_type`: its MIME type.
    `size`: its size in bytes.
    `created_at`: the Unix time in seconds at which it was stored.
    `access`: its access rules (see `lifecycle.access_rules`). None: everyone who knows its URL may read it.
    `request_id`: the id of the request whose result it is; None for an upload.
    """

    blob: str
    owner: str
    name: str
    content_type: str
    size: int
    created_at: float
    access: Mapping[str, Any] | None
    request_id: str | None


@dataclass(frozen=True)
class FileStore:
    """The files of all servers that share a database.

    `engine`: the engine of the database, which has a row with the facts about each file.
    `blobs`: the storage of the files' bytes.
    `scratch`: this server's folder for files that are not stored yet.
    `retention_s`: seconds after which a file expires, unless its lifecycle sets another time.

    Methods that store a file raise DiskFull if a disk is full, and then store nothing.
    """

    engine: sa.Engine
    blobs: Blobs
    scratch: Path
    retention_s: float = 7 * 24 * 3600.0

    def scratch_path(self) -> Path:
        """Returns an unused path in the scratch folder. The folder is created if it does not exist."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        return self.scratch / secrets.token_urlsafe(16)

    def find(self, key: str) -> StoredFile | None:
        """Returns the facts about a file. Returns None if no file has this key, or it has expired.

        Raises FileLost if the file's bytes are missing or damaged.
        """
        file = self.facts(key)
        return file if file is not None and self.is_whole(key, file) else None

    def facts(self, key: str) -> StoredFile | None:
        """Returns the facts about a file, also if its bytes are lost. Returns None if no file has this key, or it has
        expired."""
        row = self._row(key)
        if row is None or (row.expires_at is not None and row.expires_at <= clock.now()):
            return None
        facts = (row.blob, row.key_id, row.name, row.content_type, row.size, row.created_at, row.access, row.request_id)
        return StoredFile(*facts)

    def is_whole(self, key: str, file: StoredFile) -> bool:
        """Returns True if the bytes of a file are stored, and False if it was deleted since its facts were read.

        Raises FileLost if the file's blob is missing or has another size than the file. Logs this once for each file.

        `key`, `file`: the file's key, and the facts that `facts` has returned.
        """
        size = self.blobs.size(file.blob)
        if size == file.size:
            return True
        if self._row(key) is None:
            return False
        _report_lost(file, size)
        raise FileLost(
            "The server has lost this file or a part of it. Upload it again, or repeat the request that made it."
        )

    def find_whole(self, key: str) -> StoredFile | None:
        """Returns the facts about a file; None if no file has this key, it has expired, or its bytes are lost."""
        try:
            return self.find(key)
        except FileLost:
            return None

    def result_of(self, request_id: str) -> tuple[str, StoredFile] | None:
        """Returns the key of the file that is the result of a request, and the facts about it; None if there is none.

        Raises FileLost if the file's bytes are missing or damaged.
        """
        with reading(self.engine) as connection:
            keys = connection.scalars(sa.select(files.c.key).where(files.c.request_id == request_id)).all()
        found = ((key, self.find(key)) for key in keys)
        return next(((key, file) for key, file in found if file is not None), None)

    def add_result(self, request_id: str, file: NewFile, path: Path) -> str:
        """Moves the file at `path` into the store as the result of a request, and returns its key.

        The key depends only on the request, and on the file's name and MIME type. If an earlier attempt has already
        stored the result, the key of the stored file is returned, and the file at `path` is not used and remains.
        """
        signed = hmac.digest(self._secret, f"{request_id}/{file.name}".encode(), "sha256")
        key = signed.hex()[:32] + suffix(file.name, file.content_type)
        if self.delete_unreadable(key):
            self.add(key, file, path, request_id=request_id)
        return key

    def add(self, key: str, file: NewFile, path: Path, *, request_id: str | None = None) -> bool:
        """Stores the file at `path` under `key`. Returns True if its bytes are then stored under this key.

        - If the key is unused, moves the file into the store, so `path` no longer exists, and returns True.
        - If the key is in use for the same bytes, as when a client repeats an upload, stores nothing and returns True.
          The file remains at `path`.
        - If the key is in use for different bytes, stores nothing and returns False. The file remains at `path`.

        `file`: the facts that are stored with the bytes.
        `request_id`: the id of the request whose result the file is, or None.

        After an exception the file is still at `path`, and the call can be repeated.
        """
        now, blob = clock.now(), f"{secrets.token_hex(4)}-{key}"
        values = {
            "key": key,
            "blob": blob,
            "key_id": file.owner,
            "request_id": request_id,
            "name": file.name[:255],
            "content_type": file.content_type[:200],
            "size": path.stat().st_size,
            "created_at": now,
            "expires_at": lifecycle.expires_at(file.lifecycle, now, self.retention_s),
            "access": lifecycle.access_rules(file.lifecycle),
        }
        with disk_full_errors():
            self.blobs.put(blob, path)
            if not self._insert(values):
                return self._holds(key, path)
        path.unlink(missing_ok=True)
        return True

    def delete(self, key: str) -> None:
        """Deletes the file of this key, if it exists."""
        self._delete_where(files.c.key == key)

    def delete_unreadable(self, key: str) -> bool:
        """Deletes the file of this key if it has expired or its bytes are lost. Returns False if it can be read.

        A readable file that another call stores under the key meanwhile is not deleted.
        """
        row = self._row(key)
        if self.find_whole(key) is not None:
            return False
        if row is not None:
            self._delete_where(sa.and_(files.c.key == key, files.c.blob == row.blob))
        return True

    def delete_of_request(self, request_id: str) -> list[str]:
        """Deletes the result files of a request and returns their keys."""
        return self._delete_where(files.c.request_id == request_id)

    def sweep(self, limit: int = CHANGED_BATCH) -> list[str]:
        """Deletes expired files, at most `limit` of them, and returns their keys."""
        return self._delete_where(files.c.expires_at <= clock.now(), limit)

    def sweep_strays(self) -> None:
        """Deletes what crashes left: scratch files that are older than one day (STRAY_S), and blobs without a row.

        A blob without a row may be a file that another database knows, for example if this one is an old backup. So
        these blobs stay:
        - Those that were stored less than one day ago, or less than `retention_s` ago if that is longer.
        - Those that are older than the oldest request or file in the database. The log says how many there are.
        """
        for path in self.scratch.glob("*"):
            delete_unchanged(path, clock.now() - STRAY_S)
        before, since, left = clock.now() - max(STRAY_S, self.retention_s), times.oldest(self.engine), 0
        for some in batches(blob for blob in self.blobs.list() if blob.modified_at < before):
            in_use = self._blobs_in_use([blob.key for blob in some])
            for blob in some:
                if blob.key in in_use:
                    continue
                if since is None or blob.modified_at < since:
                    left += 1
                else:
                    delete_blob(self.blobs, blob.key)
        if left:
            log.warning(
                "%d stored files are older than all that the database knows; they are kept. Does LONGTAKE_DATABASE_URL "
                "name the right database? If nobody needs them, delete them.",
                left,
            )

    def _blobs_in_use(self, blobs: Sequence[str]) -> set[str]:
        """Returns the keys of blobs that must not be deleted, because a row of the database needs them.

        The row is that of a stored file, of a file derived from one, or of a request, an upload or a download. The
        result has all keys in `blobs` that must not be deleted. It may also have keys that are not in `blobs`, which
        callers ignore.
        """
        # The table of files has no index of blobs. A file's key is its blob's key, in newer ones after a prefix.
        keys = {key for blob in blobs for key in (blob, blob.partition("-")[2])}
        of_derived = [blob for blob in blobs if blob.startswith(f"{DERIVED}/")]
        of_parts, of_payloads, of_fetched = (_owners(folder, blobs) for folder in (PARTS, PAYLOADS, FETCHED))
        ids = requests.c.id.in_(of_payloads.values())
        tokens, waiting = uploads.c.token, fetches.c.request_id
        with reading(self.engine) as connection:
            used = set(connection.scalars(sa.select(files.c.blob).where(files.c.key.in_(keys))))
            used.update(connection.scalars(sa.select(derived_files.c.blob).where(derived_files.c.blob.in_(of_derived))))
            for payloads in connection.execute(sa.select(requests.c.body_blob, requests.c.output_blob).where(ids)):
                used.update(payloads)
            owners = {
                *connection.scalars(sa.select(tokens).where(tokens.in_(of_parts.values()))),
                *connection.scalars(sa.select(waiting).where(waiting.in_(of_fetched.values()))),
            }
        return used | {blob for blob, owner in {**of_parts, **of_fetched}.items() if owner in owners}

    def _row(self, key: str) -> sa.Row[Any] | None:
        if not KEY.fullmatch(key):
            return None
        with reading(self.engine) as connection:
            return connection.execute(sa.select(files).where(files.c.key == key)).first()

    def _insert(self, values: Mapping[str, Any]) -> bool:
        """Inserts a file's row, `values` (column -> value), whose blob is already stored. Returns True.

        - If a row with the same key exists, deletes the blob and returns False.
        - If the insertion fails otherwise, deletes the blob and raises the error.
        - If the commit fails, keeps the blob, because the row may have been stored, and raises the error.
        """
        inserted = False
        try:
            with self.engine.begin() as connection:
                connection.execute(sa.insert(files).values(values))
                inserted = True
        except Exception as error:
            if not inserted:
                self.blobs.delete(values["blob"])
            if isinstance(error, sa.exc.IntegrityError):
                return False
            raise
        return True

    def _holds(self, key: str, path: Path) -> bool:
        """Returns True if a whole file is stored under this key and has the same bytes as the local file at `path`."""
        row = self._row(key)
        if row is None or row.size != path.stat().st_size:
            return False
        try:
            pieces = self.blobs.open(row.blob)
        except FileNotFoundError:  # it is lost
            return False
        with path.open("rb") as file:
            return all(file.read(len(piece)) == piece for piece in pieces) and not file.read(1)

    def _delete_where(self, condition: sa.ColumnElement[bool], limit: int | None = None) -> list[str]:
        """Deletes the files whose rows meet `condition`, at most `limit` of them, and returns their keys.

        The files that were derived from them, such as strips of their frames, are deleted, too.
        """
        # Usually there is nothing to delete. Then this read avoids a transaction for which other writers would wait.
        with reading(self.engine) as connection:
            keys = connection.scalars(sa.select(files.c.key).where(condition).limit(limit)).all()
        if not keys:
            return []
        with self.engine.begin() as connection:
            of_files = sa.delete(derived_files).where(derived_files.c.file_key.in_(keys))
            derived = connection.scalars(of_files.returning(derived_files.c.blob)).all()
            deleted = sa.delete(files).where(files.c.key.in_(keys), condition).returning(files.c.key, files.c.blob)
            rows = connection.execute(deleted).all()
        for blob in filter(None, (*derived, *(row.blob for row in rows))):
            delete_blob(self.blobs, blob)
        return [row.key for row in rows]

    @cached_property
    def _secret(self) -> bytes:
        return secret(self.engine, "results")


def open_store(engine: sa.Engine, settings: Settings) -> FileStore:
    """Returns the file store that the settings describe.

    Also imports the access rules that version 0.1 stored in files.
    """
    folder = settings.data_dir / "files"
    make_lasting_folder(folder / SCRATCH)
    legacy.import_access_rules(engine, folder)
    return FileStore(engine, open_blobs(settings), folder / SCRATCH, settings.result_s)


FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
"""Codes of operating system errors for a full disk and for an exceeded disk quota."""


@contextmanager
def disk_full_errors() -> Iterator[None]:
    """A context manager: raises DiskFull, which has a sentence for users, if its block fails because a disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise DiskFull("The file could not be stored: the server's disk is full.") from error
    except sa.exc.OperationalError as error:
        if error_code(error) not in FULL:
            raise
        raise DiskFull("The file could not be stored: the disk of the server's database is full.") from error


def _report_lost(file: StoredFile, size: int | None) -> None:
    """Logs once that a file's blob is missing (`size` None) or has a wrong size."""
    # Whoever knows a file's key may read the file, so the log has only the beginning of the blob's name.
    owner = file.owner if file.request_id is None else f"request {file.request_id}"
    what = "is missing" if size is None else f"is damaged: it has {size} bytes and not {file.size}"
    report_lost(
        f"The stored file {file.blob[:8]}..., of {owner}, {what}. Restore it from a backup; clients get status 500 for "
        "it until then."
    )


def _owners(folder: str, blobs: Sequence[str]) -> dict[str, str]:
    """Returns which request or upload each blob belongs to: key of the blob -> the request's id or the upload's token.

    `folder`: the folder of the blobs. The name of each blob in it begins with the id or token, followed by a dot.
    `blobs`: keys of blobs. Those in other folders are left out.
    """
    return {blob: blob.removeprefix(f"{folder}/").partition(".")[0] for blob in blobs if blob.startswith(f"{folder}/")}
