"""Imports on both kinds of database: for how long a stored file stands for its URL, and for whom."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake import clock
from longtake.database.tables import imports as table
from longtake.settings import settings
from longtake.storage import imports
from longtake.storage.files import FileStore, NewFile, open_store
from longtake.storage.keys import new_key

URL = "https://example.com/a.mp4?signature=secret"


@pytest.fixture
def store(engine: sa.Engine, tmp_path: Path) -> FileStore:
    return open_store(engine, settings(data_dir=tmp_path))


def stored(store: FileStore) -> str:
    key, path = new_key("a.mp4", "video/mp4"), store.scratch_path()
    path.write_bytes(key.encode())
    assert store.add(key, NewFile("local", "a.mp4", "video/mp4"), path)
    return key


def test_the_newest_import_of_a_key_is_found_for_ten_minutes(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert imports.find(store, "local", URL) is None
    for key in (stored(store), stored(store)):
        imports.add(store, "local", URL, key)
        found = imports.find(store, "local", f" {URL}\n")
        assert found is not None
        assert found[0] == key
    assert imports.find(store, "another", URL) is None
    assert imports.find(store, "local", f"{URL}2") is None
    later = clock.now() + imports.FRESH_S + 1
    monkeypatch.setattr(clock, "now", lambda: later)
    assert imports.find(store, "local", URL) is None


def test_a_deleted_file_leaves_no_import_and_no_url_is_stored(store: FileStore) -> None:
    key = stored(store)
    imports.add(store, "local", URL, key)
    with store.engine.connect() as connection:
        (row,) = connection.execute(sa.select(table)).all()
    assert "secret" not in str(row)
    store.delete(key)
    assert imports.find(store, "local", URL) is None
    with store.engine.connect() as connection:
        assert connection.execute(sa.select(table)).all() == []
    imports.add(store, "local", URL, "gone.mp4")
