"""The file store: a file is seen whole or not at all, cannot be guessed, and is deleted when its time is over."""

import errno
import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from longtake.database.tables import files
from longtake.errors import DiskFull, FileLost
from longtake.queue import engine as queue
from longtake.queue.requests import RemoteFile
from longtake.settings import Settings
from longtake.storage import uploads
from longtake.storage.blobs import Blobs
from longtake.storage.files import FileStore, NewFile, StoredFile, open_store
from longtake.storage.keys import KEY, new_key
from longtake.storage.uploads import Part
from tests.database.fixtures import on_sqlite
from tests.storage.fixtures import on_local_blobs, read
from tests.worker.requests import submission

CLIP = NewFile("me", "clip.mp4", "video/mp4")


@pytest.fixture
def store(engine: sa.Engine, blobs: Blobs, tmp_path: Path) -> FileStore:
    return FileStore(engine, blobs, tmp_path / "scratch")


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def stored(store: FileStore, content: bytes = b"frames", lifecycle: Mapping[str, Any] | None = None) -> str:
    """Stores a file and returns its key."""
    key = new_key("clip.mp4", "video/mp4")
    assert store.add(key, replace(CLIP, lifecycle=lifecycle), written(store.scratch_path(), content))
    return key


def found(store: FileStore, key: str) -> StoredFile:
    file = store.find(key)
    assert file is not None
    return file


def test_a_file_is_stored_with_its_facts(store: FileStore) -> None:
    key = stored(store, b"abc", {"initial_acl": {"default": "hide"}})
    file = found(store, key)
    assert (file.owner, file.name, file.content_type, file.size) == ("me", "clip.mp4", "video/mp4", 3)
    assert file.access == {"default": "hide"}
    assert abs(file.created_at - time.time()) < 3600
    assert read(store.blobs, file.blob) == b"abc"
    assert KEY.fullmatch(key)
    assert key.endswith(".mp4")
    assert list(store.scratch.iterdir()) == []


def test_the_same_bytes_may_be_added_twice_and_others_may_not(store: FileStore) -> None:
    key = new_key("clip.mp4", "video/mp4")
    assert store.add(key, CLIP, written(store.scratch_path(), b"one"))
    assert store.add(key, CLIP, written(store.scratch_path(), b"one"))
    assert not store.add(key, CLIP, written(store.scratch_path(), b"two"))
    assert not store.add(key, CLIP, written(store.scratch_path(), b"three"))
    file = found(store, key)
    assert read(store.blobs, file.blob) == b"one"
    assert [blob.key for blob in store.blobs.list()] == [file.blob]


def test_one_of_several_concurrent_adds_wins(store: FileStore) -> None:
    key = new_key("clip.mp4", "video/mp4")
    paths = [written(store.scratch_path(), bytes([n]) * 100_000) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda path: store.add(key, CLIP, path), paths))
    assert results.count(True) == 1
    assert read(store.blobs, found(store, key).blob) == bytes([results.index(True)]) * 100_000


def test_the_first_result_of_a_request_stays(store: FileStore, tmp_path: Path) -> None:
    key = store.add_result("request", CLIP, written(tmp_path / "result", b"first"))
    assert store.add_result("request", CLIP, written(tmp_path / "result", b"second")) == key
    assert read(store.blobs, found(store, key).blob) == b"first"
    assert store.add_result("other request", CLIP, tmp_path / "result") != key


def test_a_result_whose_row_is_missing_is_stored_again(store: FileStore, tmp_path: Path) -> None:
    key = store.add_result("request", CLIP, written(tmp_path / "r", b"first"))
    with store.engine.begin() as connection:
        connection.execute(sa.delete(files))
    assert store.find(key) is None
    assert store.add_result("request", CLIP, written(tmp_path / "r", b"second")) == key
    assert read(store.blobs, found(store, key).blob) == b"second"


def test_a_result_whose_bytes_are_lost_is_stored_again(store: FileStore, tmp_path: Path) -> None:
    key = store.add_result("request", CLIP, written(tmp_path / "r", b"first"))
    store.blobs.delete(found(store, key).blob)
    assert store.find_whole(key) is None
    assert store.add_result("request", CLIP, written(tmp_path / "r", b"second")) == key
    assert read(store.blobs, found(store, key).blob) == b"second"


@pytest.mark.parametrize(
    ("left", "words"), [(None, "is missing"), (b"fra", "it has 3 bytes and not 6"), (b"", "0 bytes")]
)
def test_a_file_whose_bytes_are_missing_or_damaged_is_lost(
    store: FileStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, left: bytes | None, words: str
) -> None:
    key = stored(store)
    blob = found(store, key).blob
    store.blobs.delete(blob)
    if left is not None:
        store.blobs.put(blob, written(tmp_path / "rest", left))
    for _ in range(3):
        with pytest.raises(FileLost):
            store.find(key)
        assert store.find_whole(key) is None
    (line,) = caplog.messages
    assert words in line
    assert blob[:8] in line
    assert key not in line, "who knows the key may read the file"
    store.delete(key)
    assert store.find(key) is None


@on_sqlite
def test_a_file_that_is_deleted_while_it_is_found_is_not_lost(
    store: FileStore, caplog: pytest.LogCaptureFixture
) -> None:
    class Slow:
        """A storage in which a file is deleted just before its size is asked for."""

        def size(self, _: str) -> None:
            store.delete(key)

    key = stored(store)
    assert FileStore(store.engine, Slow(), store.scratch).find(key) is None  # type: ignore[arg-type]
    assert caplog.messages == []


@on_sqlite
@pytest.mark.parametrize("event", ["before_cursor_execute", "commit"])
def test_an_add_can_be_repeated_after_the_database_failed(store: FileStore, event: str) -> None:
    def fail(*_: object) -> None:
        raise sa.exc.OperationalError("INSERT", {}, Exception("the database is away"))

    key, path = new_key("clip.mp4", "video/mp4"), written(store.scratch_path(), b"frames")
    sa.event.listen(store.engine, event, fail)
    for _ in range(2):
        with pytest.raises(sa.exc.OperationalError):
            store.add(key, CLIP, path)
    sa.event.remove(store.engine, event, fail)
    assert store.find(key) is None
    assert store.add(key, CLIP, path)
    assert read(store.blobs, found(store, key).blob) == b"frames"
    assert not path.exists()


def test_a_result_has_the_lifecycle_of_its_request(store: FileStore, tmp_path: Path) -> None:
    lifecycle = {"expiration_duration_seconds": 0.05, "initial_acl": {"default": "forbid"}}
    key = store.add_result("request", replace(CLIP, lifecycle=lifecycle), written(tmp_path / "r", b"x"))
    with store.engine.connect() as connection:
        row = connection.execute(sa.select(files)).one()
    assert row.expires_at == pytest.approx(row.created_at + 0.05)
    assert row.access == {"default": "forbid"}
    time.sleep(max(row.expires_at - time.time(), 0) + 0.001)
    assert store.find(key) is None


def test_a_sweep_deletes_expired_files_only(store: FileStore) -> None:
    expired, later, never = (
        stored(store, lifecycle={"expiration_duration_seconds": 0.001}),
        stored(store),
        stored(store, lifecycle={"expiration_duration_seconds": None}),
    )
    time.sleep(0.01)
    assert store.sweep() == [expired]
    assert {blob.key for blob in store.blobs.list()} == {found(store, later).blob, found(store, never).blob}
    with store.engine.begin() as connection:
        connection.execute(sa.update(files).where(files.c.expires_at.is_not(None)).values(expires_at=1.0))
    assert store.sweep() == [later]
    assert store.sweep() == []
    assert store.find(never) is not None


def test_a_sweep_is_a_small_batch(store: FileStore) -> None:
    for _ in range(5):
        stored(store, lifecycle={"expiration_duration_seconds": 0.001})
    time.sleep(0.01)
    assert [len(store.sweep(limit=2)) for _ in range(4)] == [2, 2, 1, 0]
    assert list(store.blobs.list()) == []


def test_the_files_of_a_request_are_deleted(store: FileStore, tmp_path: Path) -> None:
    key = store.add_result("request", CLIP, written(tmp_path / "r", b"x"))
    other = stored(store)
    assert store.delete_of_request("request") == [key]
    assert store.delete_of_request("request") == []
    assert store.find(key) is None
    assert store.find(other) is not None


def test_files_of_another_database_stay(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("longtake.storage.files.STRAY_S", -60)
    eager = replace(store, retention_s=-60)
    for name in ("a.mp4", "b.mp4"):
        store.blobs.put(name, written(store.scratch_path(), b"a result"))
    eager.sweep_strays()  # the database is empty
    key = stored(store)
    with store.engine.begin() as connection:  # as by a clock that is right to the second only
        connection.execute(sa.update(files).values(created_at=time.time() + 5))
    eager.sweep_strays()
    assert {blob.key for blob in store.blobs.list()} == {"a.mp4", "b.mp4", found(store, key).blob}
    assert [line[:60] for line in caplog.messages] == [
        "2 stored files are older than all that the database knows; t"
    ] * 2


def test_strays_are_deleted_once_they_are_old(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    key = stored(store)
    upload = uploads.create(store, CLIP, multipart=True, within_s=60)
    uploads.add_part(store, upload, Part(1, "0" * 32, 1), written(store.scratch_path(), b"x"), 1000)
    waiting = replace(submission(), files=(RemoteFile("https://example.com/a.mp4", ("video_url",), "source"),))
    queue.submit(store.engine, waiting)
    store.blobs.put(f"fetched/{waiting.id}.1", written(store.scratch_path(), b"a source"))
    for stray in ("orphan.mp4", "parts/token.1.etag", "fetched/ended.1"):
        store.blobs.put(stray, written(store.scratch_path(), b"left by a crash"))
    old, fresh = written(store.scratch_path(), b"half"), written(store.scratch_path(), b"half")
    os.utime(old, (1, 1))
    with store.engine.begin() as connection:
        connection.execute(sa.update(files).values(created_at=1.0))
    store.sweep_strays()
    assert not old.exists()
    assert fresh.exists()
    assert store.blobs.size("orphan.mp4") is not None, "its row may follow"
    monkeypatch.setattr("longtake.storage.files.STRAY_S", -60)
    store.sweep_strays()
    assert store.blobs.size("orphan.mp4") is not None, "its row may be in a newer copy of the database"
    replace(store, retention_s=-60).sweep_strays()
    assert not fresh.exists()
    assert {blob.key for blob in store.blobs.list()} == {
        found(store, key).blob,
        f"parts/{upload.token}.1.{'0' * 32}",
        f"fetched/{waiting.id}.1",
    }


@pytest.mark.parametrize(
    "key",
    ["", ".", "..", "../secret", ".access", "a/b", "x" * 31, "x" * 33, "x" * 32 + ".MP4", "x" * 32 + "/..", "\0" * 32],
)
@on_local_blobs
def test_what_is_no_key_is_not_found(store: FileStore, key: str) -> None:
    assert store.find(key) is None


@on_local_blobs
def test_a_full_disk_raises_disk_full_and_stores_nothing(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    key, path = new_key("clip.mp4", "video/mp4"), written(store.scratch_path(), b"one")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(DiskFull, match="the server's disk is full"):
            store.add(key, CLIP, path)
    assert store.find(key) is None
    assert list(store.blobs.list()) == []
    assert store.add(key, CLIP, path), "there is room again"


@on_sqlite
def test_access_rules_of_version_0_1_become_rows(engine: sa.Engine, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    store = open_store(engine, settings)
    hidden, broken, open_to_all = stored(store), stored(store), stored(store)
    rules = {"default": "hide", "rules": [{"user": "friend", "decision": "allow"}]}
    old = tmp_path / "files" / ".access"
    old.mkdir()
    (old / hidden).write_text(json.dumps({"owner": "me", "rules": rules}))
    (old / broken).write_text('{"owner": "me", "ru')
    (old / ("x" * 32)).write_text(json.dumps({"owner": "me", "rules": rules}))
    for _ in range(2):
        store = open_store(engine, settings)
        assert found(store, hidden).access == rules
        assert found(store, broken).access == {"default": "hide"}
        assert found(store, open_to_all).access is None
        assert [path.name for path in old.iterdir()] == ["x" * 32], "its row may be in another database"
