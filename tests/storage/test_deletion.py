"""A blob that cannot be deleted keeps no other from it."""

import errno
from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake.database.tables import requests
from longtake.queue import engine as queue
from longtake.queue import payloads
from longtake.queue.erasure import erase_ended
from longtake.queue.requests import Outcome, Submission
from longtake.storage.deletion import OF_ONE_FILE, delete_blob
from longtake.storage.files import FileStore, NewFile
from longtake.storage.keys import new_key
from longtake.storage.local import LocalBlobs
from tests.database.fixtures import on_sqlite


@pytest.fixture
def store(engine: sa.Engine, tmp_path: Path) -> FileStore:
    return FileStore(engine, LocalBlobs(tmp_path / "files"), tmp_path / "scratch")


def protect(store: FileStore, blob: str) -> None:
    """Puts a folder in the place of a blob, which cannot be deleted as a file."""
    assert isinstance(store.blobs, LocalBlobs)
    store.blobs.delete(blob)
    (store.blobs.folder / blob).mkdir()


@on_sqlite
def test_all_other_expired_files_are_deleted(store: FileStore, caplog: pytest.LogCaptureFixture) -> None:
    expired = NewFile("me", "a", "video/mp4", {"expiration_duration_seconds": 0.0001})
    for _ in range(3):
        path = store.scratch_path()
        path.write_bytes(b"x")
        store.add(new_key("a", "video/mp4"), expired, path)
    with store.engine.connect() as connection:
        first = connection.scalar(sa.text("SELECT blob FROM files LIMIT 1"))
    protect(store, first)
    assert len(store.sweep()) == 3
    assert list(store.blobs.list()) == []
    assert caplog.text.count("cannot be deleted") == 1
    assert first not in caplog.text


@on_sqlite
def test_all_other_requests_are_erased(store: FileStore) -> None:
    result = Outcome(200, {"text": "x" * payloads.INLINE_BYTES})
    for _ in range(2):
        moved = payloads.move_out(store, Submission("a/b", "default", "k", b"{}", "http://h/queue", outcome=result))
        row, _ = queue.submit(store.engine, moved)
        assert row.output_blob is not None
        protect(store, row.output_blob)
    queue.submit(store.engine, Submission("a/b", "default", "k", b"{}", "http://h/queue", outcome=Outcome(200, {})))
    assert len(erase_ended(store, row.created_at + 1, stored=True)) == 3
    with store.engine.connect() as connection:
        assert connection.scalars(sa.select(requests.c.output_blob)).all() == [None] * 3


@on_sqlite
def test_an_error_of_all_files_is_not_ignored(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: LocalBlobs, key: str) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(LocalBlobs, "delete", fail)
    for number in (errno.EROFS, errno.EMFILE, None, *OF_ONE_FILE):
        if number in OF_ONE_FILE:
            delete_blob(store.blobs, "a")
        else:
            with pytest.raises(OSError, match="no"):
                delete_blob(store.blobs, "a")
