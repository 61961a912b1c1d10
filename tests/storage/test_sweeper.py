"""The sweepers delete what has expired, and go on after the database failed."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake.storage import uploads
from longtake.storage.files import FileStore, NewFile
from longtake.storage.keys import new_key
from longtake.storage.local import LocalBlobs
from longtake.storage.sweeper import sweepers
from longtake.storage.uploads import Part
from tests.service.serving import wait_for


def test_expired_files_and_uploads_are_deleted(
    engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStore(engine, LocalBlobs(tmp_path / "files"), tmp_path / "scratch")
    path = store.scratch_path()
    path.write_bytes(b"x")
    expired = NewFile("me", "a", "video/mp4", {"expiration_duration_seconds": 0.001})
    store.add(new_key("a", "video/mp4"), expired, path)
    upload = uploads.create(store, expired, multipart=True, within_s=0.001)
    path.write_bytes(b"x")
    uploads.add_part(store, upload, Part(1, "0" * 32, 1), path, 1000)
    sweeps, sweep = [], FileStore.sweep

    def fail_once(store: FileStore) -> list[str]:
        sweeps.append(1)
        if len(sweeps) == 1:
            raise sa.exc.OperationalError("select", {}, Exception("the database is away"))
        return sweep(store)

    monkeypatch.setattr(FileStore, "sweep", fail_once)
    threads = sweepers(store, sweep_s=0.02)
    for thread in threads:
        thread.start()
    wait_for(lambda: not list(store.blobs.list()), 60)
    for thread in threads:
        thread.stop()
    assert len(sweeps) >= 2
