"""Downloads for waiting requests on a machine that fails for a while."""

import errno
import shutil
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from longtake.media.fetch import fetch_file
from longtake.worker import fetching, machine
from tests.database.fixtures import on_sqlite
from tests.no_threads import no_threads
from tests.worker.requests import end_of, eventually, submit_with
from tests.worker.server import Server
from tests.worker.site import Site

Serve = Callable[..., Server]
TRUSTED = ("127.0.0.1",)


@on_sqlite
def test_a_download_waits_until_the_disk_has_room(
    engine: sa.Engine, serve: Serve, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def fetch_at_the_third_try(url: str, *places: Any, **limits: Any) -> Path:
        tries.append(url)
        if len(tries) < 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return fetch_file(url, *places, **limits)

    monkeypatch.setattr(fetching, "fetch_file", fetch_at_the_third_try)
    monkeypatch.setattr(machine, "PAUSE_S", 0.01)
    serve(trusted_hosts=TRUSTED)
    site.release()
    row = submit_with(engine, site.url("/a"), wants=site.url("/a"))
    assert end_of(engine, row).status_code == 200
    assert tries == [site.url("/a")] * 3


@on_sqlite
def test_a_download_for_which_no_thread_can_start_leaves_its_place(
    engine: sa.Engine, serve: Serve, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(trusted_hosts=TRUSTED, fetch_places=1)
    site.release()
    with no_threads(monkeypatch, "fetch ") as refused:
        row = submit_with(engine, site.url("/a"))
        eventually(lambda: len(refused) > 2)
    assert end_of(engine, row).status_code == 200
    assert site.begun == ["/a"]


@on_sqlite
@pytest.mark.parametrize("room", [True, False], ids=["the file is too large", "the disk is full"])
def test_a_file_that_does_not_fit_ends_its_request_and_a_full_disk_does_not(
    engine: sa.Engine, serve: Serve, site: Site, monkeypatch: pytest.MonkeyPatch, room: bool
) -> None:
    tries: list[float] = []
    pauses: list[float] = []
    usage = shutil.disk_usage("/")

    def full(_: Path) -> Any:
        tries.append(time.monotonic())
        return usage._replace(free=10 if room or len(tries) <= 5 else usage.free)

    def noted_pause(earlier: int) -> float:
        pauses.append(machine.pause_s(earlier))
        return pauses[-1]

    monkeypatch.setattr(fetching, "pause_s", noted_pause)
    monkeypatch.setattr("longtake.media.http_body.shutil", SimpleNamespace(disk_usage=full))
    monkeypatch.setattr(machine, "ROOM_BYTES", 0 if room else 1 << 62)
    monkeypatch.setattr(machine, "PAUSE_S", 0.02)
    serve(trusted_hosts=TRUSTED)
    site.release()
    row = submit_with(engine, site.url("/a"), wants=site.url("/a"))
    if room:
        ended = end_of(engine, row)
        sentence = (
            "This server failed while it downloaded the files of this request (No space left on device), 3 times."
        )
        assert (ended.status_code, ended.error, len(tries)) == (500, sentence, 3)
        return
    assert end_of(engine, row).status_code == 200
    assert pauses == [0.02, 0.04, 0.08, 0.16, 0.32]
    gaps = [later - earlier for earlier, later in pairwise(tries)]
    assert all(gap >= pause for gap, pause in zip(gaps, pauses, strict=False))


@on_sqlite
def test_no_download_counts_while_the_disk_of_its_file_is_full(
    engine: sa.Engine, serve: Serve, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The disk of the data folder has room meanwhile."""
    other, usage = tmp_path / "other disk", shutil.disk_usage("/")
    other.mkdir()
    tries: list[str] = []

    def fetch_at_the_fifth_try(url: str, *places: Any, **limits: Any) -> Path:
        tries.append(url)
        if len(tries) < 5:
            raise OSError(errno.ENOSPC, "No space left on device", str(other / "file"))
        return fetch_file(url, *places, **limits)

    def usage_of(folder: Path) -> Any:
        return usage._replace(free=0 if folder == other else machine.ROOM_BYTES)

    monkeypatch.setattr(fetching, "fetch_file", fetch_at_the_fifth_try)
    monkeypatch.setattr("longtake.worker.machine.shutil", SimpleNamespace(disk_usage=usage_of, rmtree=shutil.rmtree))
    monkeypatch.setattr(machine, "PAUSE_S", 0.01)
    serve(trusted_hosts=TRUSTED)
    site.release()
    row = submit_with(engine, site.url("/a"), wants=site.url("/a"))
    assert end_of(engine, row).status_code == 200
    assert len(tries) == 5
