"""The sweeper: what has expired is gone within a round, and a database that is away for a while ends nothing."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake.storage import uploads
from longtake.storage.files import FileStore, NewFile, new_key
from longtake.storage.sweeper import Sweeper


def wait_for(there: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not there():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def test_what_has_expired_is_deleted(engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(engine, tmp_path / "files")
    key = new_key("a", "video/mp4")
    path = store.incoming()
    path.write_bytes(b"x")
    store.add(key, NewFile("me", "a", "video/mp4", {"expiration_duration_seconds": 0.05}), path)
    upload = uploads.create(store, "me", "a", "video/mp4", multipart=True, lifecycle=None, within_s=0.05)
    parts = uploads.parts_of(store, upload)
    (parts / "1.x").write_bytes(b"x")
    sweeps, really = [], FileStore.sweep

    def stumbling(given: FileStore) -> list[str]:
        sweeps.append(1)
        if len(sweeps) == 1:
            raise sa.exc.OperationalError("select", {}, Exception("the database is away"))
        return really(given)

    monkeypatch.setattr(FileStore, "sweep", stumbling)
    sweeper = Sweeper(store, every_s=0.05)
    sweeper.start()
    wait_for(lambda: store.path_of(key) is None)
    wait_for(lambda: not parts.exists())
    sweeper.stop()
    assert len(sweeps) >= 2
