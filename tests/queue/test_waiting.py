"""Positions of waiting requests, also of those that were submitted after the queue was read."""

from dataclasses import replace

import sqlalchemy as sa

from longtake.queue import engine as queue
from longtake.queue.requests import Priority
from longtake.queue.waiting import WaitingQueue
from tests.worker.requests import submission


def test_a_new_request_waits_behind_its_own_priority_and_those_before_it(engine: sa.Engine) -> None:
    order: tuple[Priority, ...] = ("low", "normal", "low", "normal")
    rows = [queue.submit(engine, replace(submission(i=i), priority=one))[0] for i, one in enumerate(order)]
    waiting = WaitingQueue()
    waiting.replace(queue.waiting(engine, "default"), read_at=0.0, read_took_s=0.0)
    assert [waiting.position(row) for row in rows] == [2, 0, 3, 1]
    normal = queue.submit(engine, submission())[0]
    low = queue.submit(engine, replace(submission(), priority="low"))[0]
    assert (waiting.position(normal), waiting.position(low)) == (2, 5)
    waiting.replace(queue.waiting(engine, "default"), read_at=1.0, read_took_s=0.0)
    assert [waiting.position(row) for row in (*rows, normal, low)] == [3, 0, 4, 1, 2, 5]
