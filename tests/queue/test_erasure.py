"""Inputs and results of requests that are not to be stored are deleted within an hour."""

import time

import sqlalchemy as sa

from longtake.database.tables import requests as table
from longtake.queue import engine as queue
from longtake.queue.erasure import EVERY_S, KEPT_S, eraser
from longtake.queue.history import DELETED_INPUT, erase_unstored
from longtake.queue.requests import Outcome, RequestRow, Submission
from tests.worker.requests import eventually


def ended(engine: sa.Engine, *, store_io: bool, ago_s: float) -> RequestRow:
    """Returns a request that ended `ago_s` seconds ago."""
    row, _ = queue.submit(
        engine, Submission("a/b", "default", "k", b'{"prompt":"x"}', "http://h/queue", store_io=store_io)
    )
    claimed = queue.claim(engine, "default", "w")
    assert claimed is not None
    assert queue.store_plan(engine, claimed, {"prompt": "x"})
    assert queue.finish(engine, claimed, Outcome(200, {"prompt": "x"}))
    with engine.begin() as connection:
        change = sa.update(table).where(table.c.id == row.id).values(completed_at=time.time() - ago_s)
        connection.execute(change)
    return row


def is_erased(engine: sa.Engine, row: RequestRow) -> bool:
    found = queue.get(engine, row.id)
    assert found is not None
    assert found.has_ended
    return (found.body, found.output, found.plan) == (DELETED_INPUT, None, None)


def test_only_old_requests_that_are_not_to_be_stored_are_erased(engine: sa.Engine) -> None:
    old, recent = (ended(engine, store_io=False, ago_s=ago_s) for ago_s in (KEPT_S + 1, KEPT_S - 60))
    stored = ended(engine, store_io=True, ago_s=KEPT_S + 1)
    waiting, _ = queue.submit(engine, Submission("a/b", "other", "k", b"{}", "http://h/queue", store_io=False))
    erase_unstored(engine, time.time() - KEPT_S)
    assert [is_erased(engine, row) for row in (old, recent, stored)] == [True, False, False]
    row = queue.get(engine, waiting.id)
    assert row is not None
    assert row.body == b"{}"
    version = queue.versions(engine, [old.id])
    erase_unstored(engine, time.time() - KEPT_S)
    assert queue.versions(engine, [old.id]) == version


def test_a_server_erases_within_an_hour(engine: sa.Engine) -> None:
    assert KEPT_S + EVERY_S < 3600
    row, thread = ended(engine, store_io=False, ago_s=KEPT_S + 1), eraser(engine)
    thread.start()
    eventually(lambda: is_erased(engine, row))
    thread.stop()
