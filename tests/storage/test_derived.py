"""What is made from stored files lives as long as its file."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake import clock
from longtake.database.tables import derived_files
from longtake.storage import derived
from longtake.storage.blobs import Blobs
from longtake.storage.derived import MOST_FORMS, Derivation, DerivedFile, add, find
from longtake.storage.files import DERIVED, FileStore, NewFile
from longtake.storage.keys import new_key
from tests.storage.fixtures import on_local_blobs, read
from tests.storage.test_files import stored, written

pytestmark = on_local_blobs


@pytest.fixture
def store(engine: sa.Engine, blobs: Blobs, tmp_path: Path) -> FileStore:
    return FileStore(engine, blobs, tmp_path / "scratch")


def put(store: FileStore, made: Derivation, content: bytes = b"strip") -> DerivedFile:
    path = written(store.scratch_path(), content)
    found = add(store, made, {"count": 3}, path)
    path.unlink()
    assert found is not None
    return found


def blobs_of(store: FileStore) -> list[str]:
    return [blob.key for blob in store.blobs.list() if blob.key.startswith(f"{DERIVED}/")]


def test_it_is_found_with_its_facts_and_bytes_and_deleted_with_its_file(store: FileStore) -> None:
    key, other = stored(store), stored(store)
    strip = Derivation(key, "strip", "3x24")
    made, also = put(store, strip), put(store, Derivation(other, "strip", "3x24"))
    facts = add(store, Derivation(key, "facts"), {"width": 3}, None)
    assert find(store, strip) == made
    assert made.blob is not None
    assert (made.facts, made.size, read(store.blobs, made.blob)) == ({"count": 3}, 5, b"strip")
    assert find(store, Derivation(key, "facts")) == facts == DerivedFile({"width": 3}, None, 0)
    assert find(store, Derivation(key, "strip", "4x24")) is find(store, Derivation(key, "wave")) is None
    store.delete(key)
    assert find(store, strip) is find(store, Derivation(key, "facts")) is None
    assert blobs_of(store) == [also.blob]


def test_an_expired_file_takes_it_along(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key("a.mp4", "video/mp4")
    lifecycle = {"expiration_duration_seconds": 1}
    store.add(key, NewFile("me", "a.mp4", "video/mp4", lifecycle), written(store.scratch_path(), b"x"))
    put(store, Derivation(key, "strip"))
    later = clock.now() + 2
    monkeypatch.setattr(clock, "now", lambda: later)
    assert store.sweep() == [key]
    assert blobs_of(store) == []


def test_it_replaces_an_earlier_one(store: FileStore) -> None:
    strip = Derivation(stored(store), "strip")
    put(store, strip, b"first")
    second = put(store, strip, b"second")
    assert find(store, strip) == second
    assert blobs_of(store) == [second.blob]


def test_of_too_many_of_a_kind_the_oldest_is_deleted(store: FileStore) -> None:
    key = stored(store)
    copy = put(store, Derivation(key, "copy"))
    forms = [Derivation(key, "strip", str(number)) for number in range(MOST_FORMS + 1)]
    made = [put(store, form) for form in forms]
    assert find(store, forms[0]) is None
    assert [find(store, form) for form in forms[1:]] == made[1:]
    assert sorted(blobs_of(store)) == sorted(str(one.blob) for one in (copy, *made[1:]))


def test_nothing_is_stored_for_a_file_that_is_gone(store: FileStore) -> None:
    path = written(store.scratch_path(), b"strip")
    assert add(store, Derivation("x" * 32, "strip"), {}, path) is None
    assert blobs_of(store) == []


def test_it_is_not_found_without_its_bytes(store: FileStore) -> None:
    strip = Derivation(stored(store), "strip")
    blob = put(store, strip).blob
    assert blob is not None
    store.blobs.delete(blob)
    assert derived.find(store, strip) is None


def test_bytes_without_a_row_are_deleted_when_they_are_old(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (put(store, Derivation(stored(store), "strip")) for _ in range(2))
    with store.engine.begin() as connection:
        connection.execute(sa.delete(derived_files).where(derived_files.c.blob == first.blob))
    store.sweep_strays()
    assert len(blobs_of(store)) == 2
    later = clock.now() + store.retention_s + 5
    monkeypatch.setattr(clock, "now", lambda: later)
    store.sweep_strays()
    assert blobs_of(store) == [second.blob]
