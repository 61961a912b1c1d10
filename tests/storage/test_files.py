"""The store: nothing half done is seen, nobody guesses, nothing stays longer than asked."""

import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from longtake.database.tables import files
from longtake.errors import DiskFull
from longtake.storage.files import KEY, FileStore, NewFile, new_key, own_file

CLIP = NewFile("me", "clip.mp4", "video/mp4")


@pytest.fixture
def store(engine: sa.Engine, tmp_path: Path) -> FileStore:
    return FileStore(engine, tmp_path / "files")


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def stored(store: FileStore, content: bytes = b"frames", lifecycle: dict[str, Any] | None = None) -> str:
    """Stores a file of the owner `me` and returns its key."""
    key = new_key("clip.mp4", "video/mp4")
    assert store.add(key, NewFile("me", "clip.mp4", "video/mp4", lifecycle), written(store.incoming(), content))
    return key


def test_a_file_is_kept_with_its_facts(store: FileStore) -> None:
    key = stored(store, b"abc")
    found = store.find(key)
    assert found is not None
    assert (found.path.read_bytes(), found.name, found.content_type, found.size) == (b"abc", "clip.mp4", "video/mp4", 3)
    assert store.path_of(key) == found.path
    assert KEY.fullmatch(key)
    assert key.endswith(".mp4")


def test_the_second_try_with_the_same_bytes_is_fine_and_with_others_is_not(store: FileStore) -> None:
    key = new_key("a", "video/mp4")
    assert store.add(key, CLIP, written(store.incoming(), b"one"))
    assert store.add(key, CLIP, written(store.incoming(), b"one"))
    assert not store.add(key, CLIP, written(store.incoming(), b"two"))
    found = store.find(key)
    assert found is not None
    assert found.path.read_bytes() == b"one"


def test_of_many_who_keep_under_one_key_one_wins_whole(store: FileStore) -> None:
    key = new_key("a", "video/mp4")
    paths = [written(store.incoming(), bytes([n]) * 100_000) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda path: store.add(key, CLIP, path), paths))
    assert results.count(True) == 1
    found = store.find(key)
    assert found is not None
    assert found.path.read_bytes() == bytes([results.index(True)]) * 100_000


def test_a_result_has_one_key_however_often_it_is_stored(store: FileStore, tmp_path: Path) -> None:
    source = written(tmp_path / "result.mp4", b"first")
    inode = source.stat().st_ino
    key = store.add_result("request", CLIP, source)
    again = store.add_result("request", CLIP, written(tmp_path / "result.mp4", b"second"))
    path = store.path_of(key)
    assert key == again
    assert path is not None
    assert path.read_bytes() == b"first"
    assert path.stat().st_ino == inode, "it was copied"
    assert key != store.add_result("other request", CLIP, tmp_path / "result.mp4")


def test_a_result_whose_row_was_never_written_is_kept_again(store: FileStore, tmp_path: Path) -> None:
    key = store.add_result("request", CLIP, written(tmp_path / "r", b"first"))
    with store.engine.begin() as connection:
        connection.execute(sa.delete(files))
    assert store.find(key) is None
    assert store.add_result("request", CLIP, written(tmp_path / "r", b"second")) == key
    found = store.find(key)
    assert found is not None
    assert found.path.read_bytes() == b"second"


def test_results_carry_the_lifecycle_of_their_request(store: FileStore, tmp_path: Path) -> None:
    lifecycle = {"expiration_duration_seconds": 0.05, "initial_acl": {"default": "forbid"}}
    key = store.add_result("request", replace(CLIP, lifecycle=lifecycle), written(tmp_path / "r", b"x"))
    assert store.decision(key, None) == "forbid"
    assert store.decision(key, "me") == "allow"
    time.sleep(0.06)
    assert store.find(key) is None


def test_the_sweep_takes_what_has_expired_and_no_more(store: FileStore) -> None:
    short, long_, forever = (
        stored(store, lifecycle={"expiration_duration_seconds": 0.05, "initial_acl": {"default": "hide"}}),
        stored(store),
        stored(store, lifecycle={"expiration_duration_seconds": None}),
    )
    time.sleep(0.06)
    assert store.sweep() == [short]
    assert store.path_of(short) is None
    assert not (store.folder / ".access" / short).exists()
    assert store.find(long_) is not None
    with store.engine.begin() as connection:
        connection.execute(sa.update(files).where(files.c.expires_at.is_not(None)).values(expires_at=1.0))
    assert store.sweep() == [long_]
    assert store.find(forever) is not None


def test_the_files_of_a_request_are_deleted_with_its_payload(store: FileStore, tmp_path: Path) -> None:
    key = store.add_result("request", CLIP, written(tmp_path / "r", b"x"))
    other = stored(store)
    assert store.delete_of_request("request") == [key]
    assert store.delete_of_request("request") == []
    assert store.find(key) is None
    assert store.find(other) is not None


def test_strays_are_swept_when_they_are_old(store: FileStore) -> None:
    key = stored(store)
    orphan = written(store.folder / new_key("a.mp4", "video/mp4"), b"left by a crash")
    arriving = written(store.incoming(), b"half")
    fresh = written(store.folder / new_key("b.mp4", "video/mp4"), b"its row comes soon")
    for path in (orphan, arriving, store.folder / key):
        os.utime(path, (1, 1))
    store.sweep_strays()
    assert not orphan.exists()
    assert not arriving.exists()
    assert fresh.exists()
    assert store.find(key) is not None


@pytest.mark.parametrize(
    "key", ["", ".", "..", "../secret", ".access", "a/b", "x" * 31, "x" * 33, "x" * 32 + ".MP4", "x" * 32 + "/.."]
)
def test_what_is_no_key_finds_nothing(store: FileStore, key: str) -> None:
    written(store.folder.parent / "secret", b"")
    assert store.find(key) is None
    assert store.path_of(key) is None
    store.delete(key)
    assert (store.folder.parent / "secret").exists()


@given(key=st.text(max_size=60))
def test_no_text_reaches_outside_of_the_folder(key: str) -> None:
    folder = Path("/nowhere/files")
    assert own_file(f"http://host/files/{key}", folder, None) is None


@pytest.mark.parametrize(
    "form",
    [
        "http://127.0.0.1:8000/cdn/files/{key}",
        "https://v3.fal.media/files/{key}",
        "https://video.example/ours/cdn/files/{key}?download=1#t=3",
    ],
)
def test_our_own_address_needs_no_fetching(store: FileStore, form: str) -> None:
    key = stored(store)
    assert store.own_file(form.format(key=key), None) == store.folder / key


@pytest.mark.parametrize(
    "form",
    [
        "file:///files/{key}",
        "http://h/{key}",
        "http://h/files/b/{key}",
        "http://h/files/{key}/..",
        "http://[/files/{key}",
    ],
)
def test_what_only_looks_like_our_address_is_fetched(store: FileStore, form: str) -> None:
    key = stored(store)
    assert store.own_file(form.format(key=key), None) is None


def test_access_rules_hold_for_inputs_too(store: FileStore) -> None:
    rules = {"default": "hide", "rules": [{"user": "friend", "decision": "allow"}]}
    url = f"http://h/files/{stored(store, lifecycle={'initial_acl': rules})}"
    assert store.own_file(url, "me") is not None
    assert store.own_file(url, "friend") is not None
    assert store.own_file(url, "stranger") is None
    assert store.own_file(url, None) is None


def test_a_full_disk_raises_disk_full_and_leaves_nothing(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    key = new_key("a", "video/mp4")
    path = written(store.incoming(), b"one")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(DiskFull, match="the server's disk is full"):
            store.add(key, CLIP, path)
    assert store.find(key) is None
    assert store.add(key, CLIP, path), "there is room again"


def test_another_file_system_is_copied_to(store: FileStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    really = Path.replace

    def across(source: Path, target: Path) -> Path:
        if source.parent != Path(target).parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return really(source, target)

    monkeypatch.setattr(Path, "replace", across)
    source = written(tmp_path / "r", b"x" * 1000)
    key = store.add_result("other request", CLIP, source)
    found = store.find(key)
    assert found is not None
    assert found.path.read_bytes() == b"x" * 1000
    assert not source.exists()
    assert [path.name for path in store.folder.iterdir() if path.is_file()] == [key]
