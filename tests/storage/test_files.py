"""The store: nothing half done is seen, nobody guesses, nothing stays longer than asked."""

import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from longtake.database.tables import files
from longtake.errors import DiskFull
from longtake.queue import engine as queue
from longtake.queue.requests import Row, Submission
from longtake.storage.files import KEY, Facts, Store, new_key, own_file


@pytest.fixture
def store(engine: sa.Engine, tmp_path: Path) -> Store:
    return Store(engine, tmp_path / "files")


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def kept(store: Store, content: bytes = b"frames", wishes: dict[str, Any] | None = None, owner: str = "me") -> str:
    facts = Facts(new_key("clip.mp4", "video/mp4"), owner, "clip.mp4", "video/mp4", wishes)
    assert store.keep(facts, written(store.incoming(), content))
    return facts.key


def a_row(store: Store, lifecycle: dict[str, Any] | None = None) -> Row:
    asked = Submission("fal-ai/x/y", "default", "me", b"{}", "http://h/queue", lifecycle=lifecycle)
    return queue.submit(store.engine, asked)[0]


def test_a_file_is_kept_with_its_facts(store: Store) -> None:
    key = kept(store, b"abc")
    found = store.find(key)
    assert found is not None
    assert (found.path.read_bytes(), found.name, found.content_type, found.size) == (b"abc", "clip.mp4", "video/mp4", 3)
    assert store.path_of(key) == found.path
    assert KEY.fullmatch(key)
    assert key.endswith(".mp4")


def test_the_second_try_with_the_same_bytes_is_fine_and_with_others_is_not(store: Store) -> None:
    facts = Facts(new_key("a", "video/mp4"), "me", "a", "video/mp4")
    assert store.keep(facts, written(store.incoming(), b"one"))
    assert store.keep(facts, written(store.incoming(), b"one"))
    assert not store.keep(facts, written(store.incoming(), b"two"))
    found = store.find(facts.key)
    assert found is not None
    assert found.path.read_bytes() == b"one"


def test_of_many_who_keep_under_one_key_one_wins_whole(store: Store) -> None:
    facts = Facts(new_key("a", "video/mp4"), "me", "a", "video/mp4")
    paths = [written(store.incoming(), bytes([n]) * 100_000) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda path: store.keep(facts, path), paths))
    assert results.count(True) == 1
    found = store.find(facts.key)
    assert found is not None
    assert found.path.read_bytes() == bytes([results.index(True)]) * 100_000


def test_a_result_has_one_key_however_often_it_is_kept(store: Store, tmp_path: Path) -> None:
    row = a_row(store)
    source = written(tmp_path / "result.mp4", b"first")
    inode = source.stat().st_ino
    key = store.keep_result(row, source, "video/mp4", "result.mp4")
    again = store.keep_result(row, written(tmp_path / "result.mp4", b"second"), "video/mp4", "result.mp4")
    path = store.path_of(key)
    assert key == again
    assert path is not None
    assert path.read_bytes() == b"first"
    assert path.stat().st_ino == inode, "it was copied"
    assert key != store.keep_result(a_row(store), tmp_path / "result.mp4", "video/mp4", "result.mp4")


def test_a_result_whose_row_was_never_written_is_kept_again(store: Store, tmp_path: Path) -> None:
    row = a_row(store)
    key = store.keep_result(row, written(tmp_path / "r", b"first"), "video/mp4", "r.mp4")
    with store.engine.begin() as connection:
        connection.execute(sa.delete(files))
    assert store.find(key) is None
    assert store.keep_result(row, written(tmp_path / "r", b"second"), "video/mp4", "r.mp4") == key
    found = store.find(key)
    assert found is not None
    assert found.path.read_bytes() == b"second"


def test_results_carry_the_lifecycle_of_their_request(store: Store, tmp_path: Path) -> None:
    row = a_row(store, {"expiration_duration_seconds": 0.05, "initial_acl": {"default": "forbid"}})
    key = store.keep_result(row, written(tmp_path / "r", b"x"), "video/mp4", "r.mp4")
    assert store.decision(key, None) == "forbid"
    assert store.decision(key, "me") == "allow"
    time.sleep(0.06)
    assert store.find(key) is None


def test_the_sweep_takes_what_has_expired_and_no_more(store: Store) -> None:
    short, long_, forever = (
        kept(store, wishes={"expiration_duration_seconds": 0.05, "initial_acl": {"default": "hide"}}),
        kept(store),
        kept(store, wishes={"expiration_duration_seconds": None}),
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


def test_the_files_of_a_request_are_deleted_with_its_payload(store: Store, tmp_path: Path) -> None:
    row = a_row(store)
    key = store.keep_result(row, written(tmp_path / "r", b"x"), "video/mp4", "r.mp4")
    other = kept(store)
    assert store.forget(row.id) == [key]
    assert store.forget(row.id) == []
    assert store.find(key) is None
    assert store.find(other) is not None


def test_strays_are_swept_when_they_are_old(store: Store) -> None:
    key = kept(store)
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
def test_what_is_no_key_finds_nothing(store: Store, key: str) -> None:
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
def test_our_own_address_needs_no_fetching(store: Store, form: str) -> None:
    key = kept(store)
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
def test_what_only_looks_like_our_address_is_fetched(store: Store, form: str) -> None:
    key = kept(store)
    assert store.own_file(form.format(key=key), None) is None


def test_access_rules_hold_for_inputs_too(store: Store) -> None:
    rules = {"default": "hide", "rules": [{"user": "friend", "decision": "allow"}]}
    url = f"http://h/files/{kept(store, wishes={'initial_acl': rules}, owner='me')}"
    assert store.own_file(url, "me") is not None
    assert store.own_file(url, "friend") is not None
    assert store.own_file(url, "stranger") is None
    assert store.own_file(url, None) is None


def test_a_full_disk_is_told_in_a_sentence_and_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    facts = Facts(new_key("a", "video/mp4"), "me", "a", "video/mp4")
    path = written(store.incoming(), b"one")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(DiskFull, match="the server's disk is full"):
            store.keep(facts, path)
    assert store.find(facts.key) is None
    assert store.keep(facts, path), "there is room again"


def test_another_file_system_is_copied_to(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    really = Path.replace

    def across(source: Path, target: Path) -> Path:
        if source.parent != Path(target).parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return really(source, target)

    monkeypatch.setattr(Path, "replace", across)
    source = written(tmp_path / "r", b"x" * 1000)
    key = store.keep_result(a_row(store), source, "video/mp4", "r.mp4")
    found = store.find(key)
    assert found is not None
    assert found.path.read_bytes() == b"x" * 1000
    assert not source.exists()
    assert [path.name for path in store.folder.iterdir() if path.is_file()] == [key]
