"""A server warns if it has not the files of its database, or another time."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake import clock
from longtake.storage.files import FileStore, NewFile
from longtake.storage.keys import new_key
from longtake.storage.local import LocalBlobs
from longtake.storage.shared import warn_of_differences
from tests.database.fixtures import on_sqlite


@on_sqlite
def test_a_server_with_a_data_folder_of_its_own_is_warned(
    engine: sa.Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = FileStore(engine, LocalBlobs(tmp_path / "ours"), tmp_path / "scratch")
    theirs = replace(ours, blobs=LocalBlobs(tmp_path / "theirs"))
    for store, count in ((ours, 2), (theirs, 3)):
        for _ in range(count):
            path = store.scratch_path()
            path.write_bytes(b"x")
            store.add(new_key("a", "video/mp4"), NewFile("me", "a", "video/mp4"), path)
    warn_of_differences(theirs)
    assert caplog.text == ""
    warn_of_differences(ours)
    assert "3 of the 20 newest stored files are not in this server's data folder" in caplog.text


@pytest.mark.parametrize("ahead_s", [7200.0, -7200.0, 5.0])
def test_a_server_with_another_time_than_its_database_is_warned(
    engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ahead_s: float
) -> None:
    monkeypatch.setattr(clock, "now", lambda: time.time() + ahead_s)
    warn_of_differences(FileStore(engine, LocalBlobs(tmp_path), tmp_path))
    is_elsewhere = engine.dialect.name == "postgresql" and abs(ahead_s) > 60
    assert ("This machine's clock is 7200 s " in caplog.text) == is_elsewhere
