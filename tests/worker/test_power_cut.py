"""After a power cut, what was promised is there: stored requests with their inputs, completed ones with their files."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake.database.connection import connect, file_url, reading
from longtake.queue import payloads
from longtake.settings import settings
from tests.storage.fixtures import read
from tests.worker.power_cut import PADDING, disk_after, recorder, served_until_power_cut
from tests.worker.requests import end_of, whole_row
from tests.worker.server import QUICK, Server, slow_store


def cut_power(folder: Path, seconds: float) -> tuple[int, int]:
    """Cuts the power of a new server after some seconds, and checks what is left of its data folder.

    Returns how many requests were stored, and how many of these were completed.
    """
    root, copies, left = folder / "root", folder / "copies", folder / "left"
    root.mkdir()
    copies.mkdir()
    stored, completed = served_until_power_cut(root, copies, recorder(folder), seconds)
    disk_after(copies, left)
    engine = connect(file_url(left / "queue.db"))
    with reading(engine) as connection:
        assert connection.execute(sa.text("PRAGMA integrity_check")).scalar() == "ok"
    store = slow_store(engine, left)
    for request_id in stored:
        row = whole_row(engine, request_id)
        assert row is not None, "a stored request is lost"
        body, _ = payloads.input_and_result(engine, store.blobs, request_id)
        assert body is not None, "its input is lost"
        assert len(json.loads(body).get("padding", "")) == (PADDING if row.pool == "no device" else 0)
    for request_id in completed:
        check_result(engine, left, request_id)
    server = Server(engine, settings(**QUICK | {"data_dir": left, "slots": ("cpu", "cpu")}), store=store).start()
    try:
        for request_id in stored:
            row = whole_row(engine, request_id)
            assert row is not None
            if row.pool == "default":
                assert end_of(engine, row).status_code == 200
                check_result(engine, left, request_id)
    finally:
        server.stop()
        engine.dispose()
    return len(stored), len(completed)


def check_result(engine: sa.Engine, left: Path, request_id: str) -> None:
    """Checks that a request has its result, and the result its file with the right bytes."""
    store = slow_store(engine, left)
    _, result = payloads.input_and_result(engine, store.blobs, request_id)
    assert result is not None, "a result is lost"
    answer = json.loads(result)
    file = store.find(answer["video"]["url"].rpartition("/")[2])
    assert file is not None, "the file of a result is lost"
    assert read(store.blobs, file.blob) == f"{answer['seed']} {answer['seed']}".encode()


def test_a_power_cut_loses_nothing_that_was_promised(tmp_path: Path) -> None:
    cut_power(tmp_path, seconds=0.4)


@pytest.mark.soak
def test_twenty_power_cuts_lose_nothing_that_was_promised(tmp_path: Path) -> None:
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        stored, completed = cut_power(folder, seconds=0.2 + 0.15 * number)
        print(f"power cut {number + 1}: {stored} requests stored, {completed} completed")
