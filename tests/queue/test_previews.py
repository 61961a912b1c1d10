"""Previews of running requests, on both kinds of database."""

import sqlalchemy as sa

from longtake.database.tables import previews as table
from longtake.queue import engine as queue
from longtake.queue import previews
from longtake.queue.previews import StoredPreview
from longtake.queue.requests import CANCELLED, RequestRow
from tests.worker.requests import submit

FIRST = StoredPreview(b"RIFF\0\xff", 1, 8, 1, 2)


def claimed(engine: sa.Engine) -> RequestRow:
    row = queue.claim(engine, "default", "w")
    assert row is not None
    return row


def num_rows(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def test_each_question_is_counted_and_the_newest_preview_returned(engine: sa.Engine) -> None:
    waiting = submit(engine)
    assert previews.num_questions(engine, waiting.id) == 0
    previews.ask(engine, waiting.id)
    row = claimed(engine)
    previews.ask(engine, row.id)
    assert previews.num_questions(engine, row.id) == 2
    assert previews.newest(engine, row) is None
    later = StoredPreview(bytes(300_000), 5, 8, 2, 2)
    for preview in (FIRST, later):
        previews.store(engine, row, preview)
        assert previews.newest(engine, row) == preview


def test_no_preview_is_stored_for_nobody(engine: sa.Engine) -> None:
    submit(engine)
    previews.store(engine, claimed(engine), FIRST)
    assert num_rows(engine) == 0


def test_a_later_attempt_does_not_show_the_preview_of_an_earlier_one(engine: sa.Engine) -> None:
    submit(engine)
    row = claimed(engine)
    previews.ask(engine, row.id)
    previews.store(engine, row, FIRST)
    queue.return_to_queue(engine, row, attempt_failed=True)
    again = claimed(engine)
    assert previews.newest(engine, again) is None
    previews.store(engine, again, FIRST)
    assert previews.newest(engine, again) == FIRST


def test_nothing_stays_of_the_preview_of_a_request_that_has_ended(engine: sa.Engine) -> None:
    submit(engine)
    row = claimed(engine)
    previews.ask(engine, row.id)
    previews.store(engine, row, FIRST)
    assert queue.finish(engine, row, CANCELLED)
    assert num_rows(engine) == 0
    previews.ask(engine, row.id)
    previews.ask(engine, "unknown")
    previews.store(engine, row, FIRST)
    assert num_rows(engine) == 0
