"""Inputs, results, logs and rows of old requests are deleted, in small batches."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake.database.batches import CHANGED_BATCH
from longtake.database.connection import connect, file_url, reading
from longtake.database.migrate import migrate
from longtake.database.tables import deliveries, events
from longtake.database.tables import requests as table
from longtake.queue import engine as queue
from longtake.queue.erasure import (
    DELETED_INPUT,
    EVERY_S,
    UNSTORED_S,
    delete_erased,
    delete_late_webhooks,
    erase,
    erase_ended,
    eraser,
)
from longtake.queue.requests import LogLine, Outcome, RequestRow, Submission
from longtake.settings import settings
from longtake.storage.files import FileStore
from longtake.storage.local import LocalBlobs
from longtake.worker.metrics import ended_requests
from tests.worker.requests import eventually, whole_row

DAY_S = 86_400


@pytest.fixture
def store(engine: sa.Engine, tmp_path: Path) -> FileStore:
    return FileStore(engine, LocalBlobs(tmp_path / "files"), tmp_path / "scratch")


def submit(engine: sa.Engine, *, store_io: bool = True, pool: str = "default") -> RequestRow:
    body, hook = b'{"prompt":"a secret"}', "http://h/secret"
    wanted = Submission("a/b", pool, "k", body, "http://h/queue", store_io=store_io, webhook_url=hook)
    return queue.submit(engine, wanted)[0]


def ended(engine: sa.Engine, *, store_io: bool = True, ago_s: float = 0.0, status: int = 200) -> RequestRow:
    """Returns a request that was submitted and ended `ago_s` seconds ago."""
    row = submit(engine, store_io=store_io)
    claimed = queue.claim(engine, "default", "w")
    assert claimed is not None
    assert queue.store_plan(engine, claimed, {"prompt": "a secret"})
    assert queue.add_log_lines(engine, claimed, [LogLine(1.0, "INFO", "a secret")])
    assert queue.finish(engine, claimed, Outcome(status, {"prompt": "a secret"}))
    then = time.time() - ago_s
    with engine.begin() as connection:
        connection.execute(sa.update(table).where(table.c.id == row.id).values(created_at=then, completed_at=then))
        connection.execute(sa.update(deliveries).where(deliveries.c.request_id == row.id).values(state="delivered"))
    return row


def is_erased(engine: sa.Engine, row: RequestRow) -> bool:
    found = whole_row(engine, row.id)
    assert found is not None
    assert found.has_ended
    return found.erased_at is not None and (found.body, found.output, found.plan) == (DELETED_INPUT, None, None)


def count(engine: sa.Engine, counted: sa.Table) -> int:
    with reading(engine) as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(counted)).scalar_one()


def test_only_an_ended_request_is_erased(engine: sa.Engine, store: FileStore) -> None:
    waiting = submit(engine, pool="other")
    assert not erase(store, waiting.id)
    assert not erase(store, "unknown")
    row = ended(engine)
    before = whole_row(engine, row.id)
    assert before is not None
    assert erase(store, row.id)
    after = whole_row(engine, row.id)
    assert after is not None
    assert (after.body, after.output, after.plan) == (DELETED_INPUT, None, None)
    assert after.version > before.version
    assert (after.status_code, after.state) == (200, "COMPLETED")
    assert queue.log_lines(engine, row.id) == []


def test_only_old_requests_that_are_not_to_be_stored_are_erased(engine: sa.Engine, store: FileStore) -> None:
    old, recent = (ended(engine, store_io=False, ago_s=ago_s) for ago_s in (UNSTORED_S + 1, UNSTORED_S - 60))
    stored = ended(engine, ago_s=UNSTORED_S + 1)
    waiting = submit(engine, store_io=False, pool="other")
    assert erase_ended(store, time.time() - UNSTORED_S, stored=False) == [old.id]
    assert [is_erased(engine, row) for row in (old, recent, stored)] == [True, False, False]
    row = whole_row(engine, waiting.id)
    assert row is not None
    assert row.body == waiting.body
    version = queue.versions(engine, [old.id])
    assert erase_ended(store, time.time() - UNSTORED_S, stored=False) == []
    assert queue.versions(engine, [old.id]) == version


def test_nothing_of_a_secret_is_left(tmp_path: Path) -> None:
    engine = connect(file_url(tmp_path / "queue.db"))
    migrate(engine)
    row = ended(engine)
    assert erase(FileStore(engine, LocalBlobs(tmp_path), tmp_path), row.id)
    with reading(engine) as connection:
        everything = [connection.execute(sa.select(each)).all() for each in (table, events, deliveries)]
    assert "secret" not in str(everything)
    assert everything[1:] == [[], []]
    engine.dispose()


def test_a_webhook_that_waits_is_still_sent(engine: sa.Engine, store: FileStore) -> None:
    row = ended(engine)
    with engine.begin() as connection:
        connection.execute(sa.update(deliveries).values(state="waiting"))
    assert erase(store, row.id)
    assert count(engine, deliveries) == 1


@pytest.mark.parametrize("end", ["delivered", "given_up"])
def test_the_url_of_a_webhook_is_deleted_when_it_ends_after_the_payloads(
    engine: sa.Engine, store: FileStore, end: str
) -> None:
    late, kept = ended(engine, store_io=False), ended(engine)
    with engine.begin() as connection:
        connection.execute(sa.update(deliveries).values(state="waiting"))
    assert erase(store, late.id)
    assert delete_late_webhooks(engine) == [], "it is still sent"
    with engine.begin() as connection:
        connection.execute(sa.update(deliveries).values(state=end))
    thread = eraser(store, settings(), lambda _: None)
    thread.start()
    try:
        eventually(lambda: count(engine, deliveries) == 1)
    finally:
        thread.stop()
    with reading(engine) as connection:
        assert connection.scalar(sa.select(deliveries.c.request_id)) == kept.id


def test_rows_are_deleted_after_their_payloads_and_still_counted(engine: sa.Engine, store: FileStore) -> None:
    for status in (200, 200, 422):
        ended(engine, ago_s=100 * DAY_S, status=status)
    recent = ended(engine, ago_s=80 * DAY_S)
    before = time.time() - 90 * DAY_S
    assert delete_erased(engine, before) == [], "their payloads are not erased yet"
    assert len(erase_ended(store, time.time() - 7 * DAY_S, stored=True)) == 4
    assert (count(engine, events), count(engine, deliveries)) == (0, 0)

    def counted() -> dict[str, float]:
        with reading(engine) as connection:
            samples = ended_requests(connection).samples
            return {one.labels["outcome"]: one.value for one in samples if one.labels["endpoint"] == "a/b"}

    all_ended = counted()
    assert all_ended == {"done": 3, "refused": 1}
    assert [len(delete_erased(engine, before, limit=2)) for _ in range(3)] == [2, 1, 0]
    assert counted() == all_ended
    assert count(engine, table) == 1
    assert is_erased(engine, recent)


def test_an_erased_request_still_answers_for_its_idempotency_key(engine: sa.Engine, store: FileStore) -> None:
    once = Submission("a/b", "default", "k", b"{}", "http://h/queue", idempotency_key="x", outcome=Outcome(422, {}))
    first, _ = queue.submit(engine, once)
    assert erase(store, first.id)
    again, is_new = queue.submit(engine, replace(once, id="another"))
    assert (again.id, is_new) == (first.id, False)


def test_a_server_deletes_in_small_batches_and_on_time(engine: sa.Engine, store: FileStore) -> None:
    assert UNSTORED_S + EVERY_S < 3600
    unstored = ended(engine, store_io=False, ago_s=UNSTORED_S + 1)
    stored, later = ended(engine, ago_s=8 * DAY_S), ended(engine, ago_s=6 * DAY_S)
    outcome = Outcome(200, {})
    with engine.begin() as connection:
        connection.execute(sa.update(table).where(table.c.id == stored.id).values(created_at=1.0))
    many = [
        queue.submit(engine, Submission("a/b", "default", "k", b"{}", "http://h/queue", outcome=outcome))[0]
        for _ in range(CHANGED_BATCH + 1)
    ]
    with engine.begin() as connection:
        ids = [row.id for row in many]
        connection.execute(sa.update(table).where(table.c.id.in_(ids)).values(completed_at=1.0))
    changed: list[str] = []
    thread = eraser(store, settings(), changed.append)
    thread.start()
    eventually(lambda: whole_row(engine, stored.id) is None)
    eventually(lambda: all(is_erased(engine, row) for row in [unstored, *many]))
    thread.stop()
    assert not is_erased(engine, later)
    assert {stored.id, unstored.id, *ids} == set(changed)
