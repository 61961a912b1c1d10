"""Readiness: a full disk, and a database that is away, damaged or read-only."""

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake.database.connection import connect
from longtake.service import readiness, state
from longtake.service.readiness import database_problem, disk_problem
from tests.service.serving import INPUT, LTXV, Served, serving


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as running:
        yield running


def test_a_database_that_can_be_written_works(engine: sa.Engine) -> None:
    assert database_problem(engine) is None


def test_a_database_that_can_be_read_only(engine: sa.Engine, database_url: str) -> None:
    read_only = connect(database_url)
    statement = {"sqlite": "PRAGMA query_only=1", "postgresql": "SET default_transaction_read_only = on"}

    @sa.event.listens_for(read_only, "connect")
    def make_read_only(connection: object, _: object) -> None:
        connection.execute(statement[read_only.dialect.name])  # type: ignore[attr-defined]
        if read_only.dialect.name == "postgresql":
            connection.commit()  # type: ignore[attr-defined]

    assert database_problem(read_only) == "it can be read only"
    read_only.dispose()


def test_a_database_that_is_missing(tmp_path: Path) -> None:
    assert database_problem(connect(f"sqlite:///{tmp_path}/none.db")) == "it does not answer"
    assert list(tmp_path.iterdir()) == [], "a test creates no database"


@pytest.mark.parametrize("from_page", [0, 1], ids=["head", "tables"])
def test_a_damaged_database_is_reported_and_a_client_reads_a_sentence(served: Served, from_page: int) -> None:
    client = served.client()
    path = f"/queue/{LTXV}/requests/{client.post(f'/queue/{LTXV}', json=INPUT).json()['request_id']}"
    with served.engine.begin() as connection:
        connection.execute(sa.text("UPDATE requests SET priority = 0"))
    file = Path(served.engine.url.database or "")
    served.engine.dispose()  # the last connection writes everything to the file
    size = file.stat().st_size
    with file.open("r+b") as database:
        database.seek(4096 * from_page)
        database.write(os.urandom(size - 4096 * from_page))
    assert client.get("/ready").json()["database"] == "it is damaged"
    assert client.get("/ready").status_code == 503
    answer = client.get(path.replace("requests/", "requests/0"))
    assert answer.status_code == 503
    assert answer.json()["detail"] == "The server's database is damaged; its operator has to restore it."


def test_a_folder_that_can_be_written_works_and_stays_empty(tmp_path: Path) -> None:
    assert disk_problem(tmp_path / "new") is None
    assert list((tmp_path / "new").iterdir()) == []


def test_servers_with_the_same_process_id_can_test_the_same_folder_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as servers:
        assert set(servers.map(disk_problem, [tmp_path] * 64)) == {None}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake.service.readiness.secrets.token_urlsafe", lambda _: "name")
    (tmp_path / ".ready-name").symlink_to("/dev/full")
    assert disk_problem(tmp_path) == "the disk is full"


def test_a_folder_that_cannot_be_written(served: Served) -> None:
    scratch = served.state.store.scratch
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.parent.mkdir(exist_ok=True)
    scratch.touch()
    answer = served.client().get("/ready")
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "not ready",
        "database": "works",
        "files": "the folder cannot be written: there is already a file or folder of that name",
    }


@pytest.fixture
def hanging(served: Served) -> Iterator[Served]:
    """A server whose database hangs: another program holds its lock, as when it is frozen."""
    with sqlite3.connect(served.engine.url.database or "", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        yield served
        other.execute("ROLLBACK")


def test_a_database_that_hangs_is_reported_in_time(
    served: Served, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "WAIT_S", 0.2)
    client = served.client()
    assert client.get("/health").status_code == 200
    request.getfixturevalue("hanging")
    began = time.monotonic()
    answers = [client.get("/ready") for _ in range(3)]
    assert time.monotonic() - began < 20, "less than the time for which SQLite waits"
    assert [(one.status_code, one.json()["database"], one.json()["files"]) for one in answers] == [
        (503, "it does not answer", "works")
    ] * 3


def test_a_submission_to_a_database_that_hangs_is_refused_in_time(
    hanging: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "ANSWER_S", 0.2)
    answer = hanging.client().post(f"/queue/{LTXV}", json=INPUT)
    assert answer.status_code == 503
    assert "The database does not answer" in answer.json()["detail"]
