"""The database or a disk fails while slots work: no finished result is lost, none is made twice."""

import errno
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from longtake.database.connection import connect
from longtake.queue import engine as queue
from longtake.queue.requests import RequestRow
from longtake.settings import settings
from longtake.storage.blobs import Blobs
from longtake.storage.files import FileStore
from longtake.storage.local import LocalBlobs
from longtake.worker import machine
from tests.database.fixtures import Postgres, on_sqlite
from tests.storage.fixtures import each_once, read
from tests.worker.requests import PATIENCE_S, current, effects_of, end_of, eventually, stored_files, submission, submit
from tests.worker.server import QUICK, Server, slow_store


@pytest.fixture
def serve(engine: sa.Engine, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def start(store: FileStore | None = None, **overrides: Any) -> Server:
        server = Server(engine, settings(**QUICK | {"data_dir": tmp_path} | overrides), store=store)
        started.append(server.start())
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PAUSE_S", 0.01)
    monkeypatch.setattr(machine, "LOOK_S", 0.01)


def has_more_than(effects: Path, made: int) -> bool:
    return len(effects_of(effects, "made")) > made


def test_the_database_is_restarted_under_load(postgres: Postgres, tmp_path: Path) -> None:
    engine = connect(postgres.create("restarted", "migrated"))
    server = Server(engine, settings(**QUICK | {"data_dir": tmp_path, "slots": ("cpu", "cpu"), "lease_s": 120})).start()
    effects = tmp_path / "effects"
    rows = [submit(engine, windows=2, window_s=0.02, effects=str(effects)) for _ in range(40)]
    submitted: list[RequestRow] = []
    done = threading.Event()

    def submit_on() -> None:
        while not done.is_set():
            try:
                submitted.append(submit(engine, effects=str(effects)))
            except sa.exc.DBAPIError:
                time.sleep(0.02)
            time.sleep(0.01)

    client = threading.Thread(target=submit_on)
    client.start()
    try:
        for how in ("fast", "immediate"):
            eventually(partial(has_more_than, effects, len(effects_of(effects, "made"))))
            postgres.control("-m", how, "restart")
    finally:
        done.set()
        client.join()
    ended = [end_of(engine, row, within_s=2 * PATIENCE_S) for row in (*rows, *submitted)]
    server.stop()
    assert {(row.state, row.status_code) for row in ended} == {("COMPLETED", 200)}
    made = [name for _, name, _ in effects_of(effects, "made")]
    assert sorted(made) == sorted(set(made))  # none is made twice
    assert {row.id for row in ended} <= set(made)  # a submission whose reply was lost may be there too
    engine.dispose()


def fill_disk(engine: sa.Engine) -> Callable[[], None]:
    """Leaves no room for outcomes on the database's disk. Returns a function that makes room again."""
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                " RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$"
            )
            connection.exec_driver_sql(
                "CREATE TRIGGER no_room BEFORE UPDATE ON requests FOR EACH ROW"
                " WHEN (new.status_code IS NOT NULL) EXECUTE FUNCTION no_room()"
            )

        def free() -> None:
            with engine.begin() as connection:
                connection.exec_driver_sql("DROP TRIGGER no_room ON requests")

        return free
    with engine.connect().execution_options(reads_only=True) as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    limit = [pages]

    def keep_small(connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count={limit[0]}")

    event.listen(engine, "begin", keep_small)

    def grow() -> None:
        limit[0] = 1_000_000

    return grow


def test_an_outcome_waits_until_the_database_has_room(
    engine: sa.Engine,
    serve: Callable[..., Server],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "longtake.queue.payloads.INLINE_BYTES", 10**6
    )  # so that the database needs room for the outcome
    effects = tmp_path / "effects"
    (tmp_path / "slow").touch()  # holds the outcome back until the disk is full
    row = submit(engine, effects=str(effects), more={"long": "x" * 300_000})
    other = submit(engine, effects=str(effects))
    server = serve()
    eventually(lambda: stored_files(engine, row))
    free = fill_disk(engine)
    (tmp_path / "slow").unlink()
    eventually(lambda: "full" in caplog.text or "No space" in caplog.text)
    assert current(engine, row).state == "IN_PROGRESS"
    assert server.slots.states()[0].state == "busy"
    free()
    ended = end_of(engine, row)
    assert (ended.status_code, ended.attempt, len(effects_of(effects, "made", row.id))) == (200, 1, 1)
    assert end_of(engine, other).status_code == 200


@on_sqlite
def test_a_file_waits_until_the_disk_has_room(
    engine: sa.Engine, serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries, put = [], LocalBlobs.put

    def put_at_the_fourth_try(blobs: LocalBlobs, key: str, file: Path) -> None:
        tries.append(key)
        if len(tries) < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(blobs, key, file)

    monkeypatch.setattr(LocalBlobs, "put", put_at_the_fourth_try)
    serve()
    row = end_of(engine, submit(engine))
    assert (row.status_code, len(tries)) == (200, 4)
    (file,) = stored_files(engine, row)
    assert [blob.key for blob in LocalBlobs(tmp_path / "files").list()] == [file.blob]


def test_a_claim_whose_reply_is_lost_is_returned_to_the_queue(
    engine: sa.Engine, serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = queue.claim
    lost: list[str] = []

    def claim_and_lose(*words: Any) -> RequestRow | None:
        row = claim(*words)
        if row is not None and not lost:
            lost.append(row.id)
            raise sa.exc.OperationalError("COMMIT", {}, Exception("the connection broke"))
        return row

    monkeypatch.setattr(queue, "claim", claim_and_lose)
    effects = tmp_path / "effects"
    row = submit(engine, effects=str(effects))
    serve()
    ended = end_of(engine, row)
    assert lost == [row.id]
    assert (ended.status_code, ended.attempt, len(effects_of(effects, "began"))) == (200, 1, 1)


def test_an_outcome_that_cannot_be_stored_is_an_error(engine: sa.Engine, serve: Callable[..., Server]) -> None:
    serve()
    ended = end_of(engine, submit(engine, more={"ratio": float("nan")}))
    assert (ended.status_code, ended.error_type) == (500, "internal_error")
    ended = end_of(engine, submit(engine, more={"video": "no object"}))
    assert (ended.status_code, ended.error_type) == (500, "internal_error")
    assert end_of(engine, submit(engine)).status_code == 200


def test_a_log_line_that_no_database_can_store_is_mended(engine: sa.Engine, serve: Callable[..., Server]) -> None:
    serve()
    row = submit(engine, lines=["a \0 in it", "half a \ud83d character"])
    assert end_of(engine, row).status_code == 200
    lines = [line.message for line in queue.log_lines(engine, row.id)]
    assert lines[:2] == ["a \\x00 in it", "half a \ufffd\ufffd\ufffd character"]


def test_a_server_starts_without_its_database(
    postgres: Postgres, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = postgres.create("late", "migrated")
    engine = connect(url)
    row, _ = queue.submit(engine, submission())
    postgres.control("-m", "fast", "stop")
    # A fifth of the lease passes between two attempts to begin it.
    server = Server(engine, settings(**QUICK | {"data_dir": tmp_path, "lease_s": 2.5})).start()
    eventually(lambda: "The lease was not renewed" in caplog.text)
    postgres.control("start")
    assert end_of(engine, row).status_code == 200
    server.stop()
    engine.dispose()


@each_once
def test_a_file_survives_a_database_that_fails_as_it_stores(
    engine: sa.Engine, blobs: Blobs, serve: Callable[..., Server], tmp_path: Path
) -> None:
    """The commit of a file's row fails after its bytes were stored."""
    failures = [2]

    def fail(connection: sa.Connection) -> None:
        if failures[0] and connection.info.get("stores_a_file"):
            failures[0] -= 1
            raise sa.exc.OperationalError("COMMIT", {}, Exception("disk I/O error"))

    def notice(connection: sa.Connection, *words: Any) -> None:
        connection.info["stores_a_file"] = "INSERT INTO files" in words[1]

    event.listen(engine, "before_cursor_execute", notice)
    event.listen(engine, "commit", fail)
    serve(slow_store(engine, tmp_path, blobs))
    row = submit(engine)
    ended = end_of(engine, row)
    assert (ended.status_code, failures[0]) == (200, 0)
    (stored,) = stored_files(engine, row)
    assert read(blobs, stored.blob).decode() == str((ended.plan or {})["seed"])
    assert json.loads(ended.output or b"")["video"]["url"].endswith(stored.key)


def test_a_machine_that_fails_for_a_moment_tries_again(engine: sa.Engine, serve: Callable[..., Server]) -> None:
    serve()
    row = end_of(engine, submit(engine, at="end", do="full", once=True))
    assert (row.status_code, row.attempt) == (200, 2)


def test_a_request_that_always_fills_the_disk_ends(engine: sa.Engine, serve: Callable[..., Server]) -> None:
    serve()
    row = end_of(engine, submit(engine, at="end", do="full"))
    sentence = "This server failed while it worked on this request (No space left on device), 3 times."
    assert (row.status_code, row.attempt, row.error) == (500, 3, sentence)
    assert end_of(engine, submit(engine)).status_code == 200


def test_a_request_with_one_attempt_ends_at_once_when_its_machine_fails(
    engine: sa.Engine, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "PAUSE_S", 2 * PATIENCE_S)
    monkeypatch.setattr(machine, "LONGEST_PAUSE_S", 2 * PATIENCE_S)
    serve()
    row, _ = queue.submit(engine, replace(submission(at="end", do="full"), may_retry=False))
    ended = end_of(engine, row)
    sentence = "This server failed while it worked on this request (No space left on device), once."
    assert (ended.status_code, ended.attempt, ended.error) == (500, 1, sentence)


@pytest.mark.parametrize("end", ["room", "cancellation"])
def test_while_the_disk_is_full_no_attempt_counts(
    engine: sa.Engine, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str
) -> None:
    free, looks = [0], []

    def free_bytes(folder: Path) -> int:
        looks.append(folder)
        return free[0]

    monkeypatch.setattr(machine, "free_bytes", free_bytes)
    serve(max_attempts=1)
    row, _ = queue.submit(engine, replace(submission(at="planned", do="full", once=True), may_retry=False))
    folder = tmp_path / "work" / row.id
    eventually(lambda: len(looks) > 2)  # The first two decide that the attempt does not count.
    assert not folder.exists()
    assert (current(engine, row).plan is not None, current(engine, row).state) == (True, "IN_PROGRESS")
    if end == "room":
        folder.mkdir()
        (folder / "deed-planned").touch()
        free[0] = machine.ROOM_BYTES
        ended = end_of(engine, row)
        assert (ended.status_code, ended.attempt) == (200, 1)
    else:
        queue.cancel(engine, row.id)
        assert end_of(engine, row).state == "CANCELLED"
