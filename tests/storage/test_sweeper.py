"""The sweeper: what has expired is gone within a round, and a database that is away for a while ends nothing."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake.storage import uploads
from longtake.storage.files import Facts, Store, new_key
from longtake.storage.sweeper import Sweeper


def wait_for(there: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not there():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def test_what_has_expired_is_deleted(engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(engine, tmp_path / "files")
    facts = Facts(new_key("a", "video/mp4"), "me", "a", "video/mp4", {"expiration_duration_seconds": 0.05})
    path = store.incoming()
    path.write_bytes(b"x")
    store.keep(facts, path)
    upload = uploads.promise(store, "me", "a", "video/mp4", multipart=True, wishes=None, within_s=0.05)
    parts = uploads.parts_of(store, upload)
    (parts / "1.x").write_bytes(b"x")
    sweeps, really = [], Store.sweep

    def stumbling(given: Store) -> list[str]:
        sweeps.append(1)
        if len(sweeps) == 1:
            raise sa.exc.OperationalError("select", {}, Exception("the database is away"))
        return really(given)

    monkeypatch.setattr(Store, "sweep", stumbling)
    sweeper = Sweeper(store, every_s=0.05)
    sweeper.start()
    wait_for(lambda: store.path_of(facts.key) is None)
    wait_for(lambda: not parts.exists())
    sweeper.stop()
    assert len(sweeps) >= 2
