"""Which request made the video that another one extends."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from longtake.access.keys import Caller
from longtake.queue import engine as queue
from longtake.queue.lineage import find_lineage
from longtake.queue.requests import NO_LINEAGE, Lineage, RequestRow, Submission
from longtake.storage.files import FileStore, NewFile
from longtake.storage.local import LocalBlobs

ME, OTHER, ADMIN = Caller("me", "run", None), Caller("other", "run", None), Caller("admin", "admin", None)


@pytest.fixture
def store(engine: sa.Engine, tmp_path: Path) -> FileStore:
    return FileStore(engine, LocalBlobs(tmp_path / "files"), tmp_path / "scratch")


def submit(store: FileStore, **more: Any) -> RequestRow:
    return queue.submit(store.engine, Submission("a/b", "p", "me", b"{}", "http://h/queue", **more))[0]


def result(store: FileStore, row: RequestRow, **lifecycle: Any) -> str:
    path = store.scratch_path()
    path.write_bytes(b"frames")
    return store.add_result(row.id, NewFile(row.key_id, "a.mp4", "video/mp4", lifecycle or None), path)


def test_the_request_that_made_the_source_is_the_parent(store: FileStore) -> None:
    first = submit(store)
    key = result(store, first)
    url = f"http://any.host/cdn/files/{key}"
    lineage = find_lineage(store, url, ME)
    assert lineage == Lineage(key, first.id, first.id)
    assert find_lineage(store, url, ADMIN) == lineage
    assert find_lineage(store, url, OTHER) == Lineage(key), "the file may be read by all, its request may not"
    second = submit(store, lineage=lineage)
    key = result(store, second)
    assert find_lineage(store, f"http://h/files/{key}", ME) == Lineage(key, second.id, first.id)


def test_other_sources_have_no_parent(store: FileStore) -> None:
    assert find_lineage(store, "", ME) == find_lineage(store, "https://h/files/" + "x" * 32, ME) == NO_LINEAGE
    hidden = result(store, submit(store), initial_acl={"default": "hide"})
    assert find_lineage(store, f"http://h/files/{hidden}", OTHER) == NO_LINEAGE
    path = store.scratch_path()
    path.write_bytes(b"frames")
    upload = "u" * 32
    store.add(upload, NewFile("me", "a.mp4", "video/mp4"), path)
    assert find_lineage(store, f"http://h/files/{upload}", ME) == Lineage(upload)


def test_a_result_whose_request_is_deleted_has_no_parent(store: FileStore) -> None:
    key = result(store, RequestRow(**{**vars(submit(store)), "id": "gone"}))
    assert find_lineage(store, f"http://h/files/{key}", ME) == Lineage(key)
