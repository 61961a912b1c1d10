import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from longtake.database.connection import connect, file_url
from longtake.database.tables import deliveries, metadata, servers
from longtake.queue import engine as queue
from longtake.queue import requests
from longtake.queue.engine import IdempotencyMismatch, QuotaReached
from longtake.queue.requests import LogLine, Outcome, RequestRow
from tests.worker.requests import current, submission, submit, whole_row

DONE = Outcome(200, {"seed": 1}, headers={"x-fal-billable-units": "1"}, timings={"inference_time": 1.5})
LATE = Outcome(504, {"detail": "late"}, error="late", error_type="request_timeout")


def claimed(engine: sa.Engine, worker: str = "w") -> RequestRow:
    row = queue.claim(engine, "default", worker)
    assert row is not None
    return row


def at_once(number: int, do: Callable[[int], Any]) -> list[Any]:
    """Calls `do` in this number of threads at the same time, and returns what the calls return or raise."""
    barrier = threading.Barrier(number)
    results: list[Any] = []

    def run(i: int) -> None:
        barrier.wait()
        try:
            results.append(do(i))
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_request_from_submit_to_result(engine: sa.Engine) -> None:
    row, new = queue.submit(engine, submission(windows=2))
    assert (new, row.state, row.attempt, row.server) == (True, "IN_QUEUE", 0, None)
    claimed_row = claimed(engine)
    assert (claimed_row.id, claimed_row.state, claimed_row.attempt, claimed_row.server) == (
        row.id,
        "IN_PROGRESS",
        1,
        "w",
    )
    assert queue.claim(engine, "default", "other") is None
    assert queue.store_plan(engine, claimed_row, {"seed": 7})
    assert queue.add_log_lines(
        engine, claimed_row, [LogLine(1.0, "INFO", "Sampling", {"step": "1"}), LogLine(2.0, "INFO", "Decoding")]
    )
    assert queue.finish(engine, claimed_row, DONE)
    ended = current(engine, row)
    assert (ended.state, ended.status_code, ended.plan) == ("COMPLETED", 200, {"seed": 7})
    assert json.loads(ended.output or b"") == {"seed": 1}
    assert ended.headers == {"x-fal-billable-units": "1"}
    assert [line.message for line in queue.log_lines(engine, row.id)] == ["Sampling", "Decoding"]
    first = queue.log_lines(engine, row.id)[0]
    assert [line.message for line in queue.log_lines(engine, row.id, after=first.seq)] == ["Decoding"]
    assert queue.versions(engine, [row.id, "none"]) == {row.id: ended.version}
    assert ended.version == 4


def test_requests_are_claimed_in_order_and_low_priority_last(engine: sa.Engine) -> None:
    order = [replace(submission(i=i), priority="low" if i in (0, 2) else "normal") for i in range(5)]
    rows = [queue.submit(engine, one)[0] for one in order]
    wanted = [rows[i].id for i in (1, 3, 4, 0, 2)]
    assert list(queue.waiting(engine, "default")) == wanted
    assert [claimed(engine).id for _ in wanted] == wanted


def test_each_pool_has_its_own_queue(engine: sa.Engine) -> None:
    row = submit(engine, "other")
    assert queue.claim(engine, "default", "w") is None
    claimed_row = queue.claim(engine, "other", "w")
    assert claimed_row is not None
    assert claimed_row.id == row.id


def test_each_request_is_claimed_by_one_of_many_workers(engine: sa.Engine) -> None:
    rows = {submit(engine, i=i).id for i in range(20)}

    def claim_all(i: int) -> list[str]:
        mine = []
        while (row := queue.claim(engine, "default", f"w{i}")) is not None:
            mine.append(row.id)
        return mine

    counts = Counter(one for mine in at_once(6, claim_all) for one in mine)
    # A claim may find nothing while others claim, so what is left is claimed here.
    while (row := queue.claim(engine, "default", "last")) is not None:
        counts[row.id] += 1
    assert counts == dict.fromkeys(rows, 1)


def test_an_idempotency_key_stores_one_request(engine: sa.Engine) -> None:
    once = replace(submission(windows=1), idempotency_key="k")
    results = at_once(8, lambda i: queue.submit(engine, replace(once, id=f"id-{i}")))
    assert len({row.id for row, _ in results}) == 1
    assert Counter(new for _, new in results) == {True: 1, False: 7}
    assert len(queue.waiting(engine, "default")) == 1
    with pytest.raises(IdempotencyMismatch):
        queue.submit(engine, replace(submission(windows=2), idempotency_key="k"))
    assert queue.submit(engine, replace(once, key_id="another", id="yet-another"))[1]


def test_a_repeated_submission_returns_the_current_row(engine: sa.Engine) -> None:
    once, again = (replace(submission(), idempotency_key="k") for _ in range(2))
    row, _ = queue.submit(engine, once, max_in_flight=1)
    assert queue.submit(engine, again, max_in_flight=1) == (row, False)
    assert queue.submit(engine, once, max_in_flight=1) == (row, True)  # the repetition of a call whose reply was lost
    queue.finish(engine, claimed(engine), DONE)
    assert queue.submit(engine, again)[0].state == "COMPLETED"


def test_a_key_cannot_exceed_its_quota(engine: sa.Engine) -> None:
    results = at_once(8, lambda i: queue.submit(engine, submission(i=i), max_in_flight=3))
    assert sum(isinstance(result, QuotaReached) for result in results) == 5
    assert queue.submit(engine, submission(key_id="another"), max_in_flight=3)[1]
    queue.submit(engine, replace(submission(), outcome=DONE), max_in_flight=3)  # Invalid requests do not count.
    queue.finish(engine, claimed(engine), DONE)
    assert queue.submit(engine, submission(), max_in_flight=3)[1]


def test_an_invalid_request_ends_at_once_and_has_a_webhook(engine: sa.Engine) -> None:
    wrong = Outcome(422, {"detail": []}, error="wrong", error_type="value_error")
    row, _ = queue.submit(engine, replace(submission(), outcome=wrong, webhook_url="https://me.example/hook"))
    assert (row.state, row.status_code, row.error) == ("COMPLETED", 422, "wrong")
    assert queue.claim(engine, "default", "w") is None
    assert webhooks(engine) == [row.id]


def test_a_webhook_is_scheduled_once_when_the_request_ends(engine: sa.Engine) -> None:
    row, _ = queue.submit(engine, replace(submission(), webhook_url="https://me.example/hook"))
    claimed_row = claimed(engine)
    assert webhooks(engine) == []
    assert queue.finish(engine, claimed_row, DONE)
    assert not queue.finish(engine, claimed_row, DONE)
    assert webhooks(engine) == [row.id]


def webhooks(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(sa.select(deliveries.c.request_id)).scalars())


def test_cancelling_in_every_state(engine: sa.Engine) -> None:
    waits, works, done = (submit(engine, i=i) for i in range(3))
    assert queue.cancel(engine, "unknown") == "unknown"
    assert queue.cancel(engine, waits.id) == "cancelled"
    assert (current(engine, waits).state, current(engine, waits).status_code) == ("CANCELLED", 499)
    assert queue.cancel(engine, waits.id) == "ended"
    claimed_row = claimed(engine)
    assert queue.claim_state(engine, claimed_row) == "held"
    assert queue.cancel(engine, works.id) == "requested"
    assert queue.claim_state(engine, claimed_row) == "cancelled"
    assert queue.finish(engine, claimed_row, requests.CANCELLED)
    assert current(engine, works).state == "CANCELLED"
    assert queue.finish(engine, claimed(engine), DONE)
    assert queue.cancel(engine, done.id) == "ended"


def test_a_cancelled_request_is_not_returned_to_the_queue(engine: sa.Engine) -> None:
    submit(engine)
    claimed_row = claimed(engine)
    queue.cancel(engine, claimed_row.id)
    assert queue.return_to_queue(engine, claimed_row, attempt_failed=True)
    assert current(engine, claimed_row).state == "CANCELLED"


def cancel_into(answers: list[str], engine: sa.Engine, row: RequestRow) -> None:
    answers.append(queue.cancel(engine, row.id))


def test_cancelling_succeeds_while_the_request_is_claimed_and_returned(engine: sa.Engine) -> None:
    """A cancellation never mistakes a request between two states for one that has ended."""
    for _ in range(5):
        row = submit(engine)
        answers: list[str] = []
        canceller = threading.Thread(target=partial(cancel_into, answers, engine, row))
        canceller.start()
        while canceller.is_alive():
            claimed_row = queue.claim(engine, "default", "w")
            if claimed_row is not None:
                queue.return_to_queue(engine, claimed_row, attempt_failed=True)
        canceller.join()
        assert answers in (["cancelled"], ["requested"])
        assert current(engine, row).state == "CANCELLED"


def test_a_returned_request_is_claimed_first_and_ignores_its_former_worker(engine: sa.Engine) -> None:
    first, _second = submit(engine), submit(engine)
    lost = claimed(engine)
    assert queue.return_to_queue(engine, lost, attempt_failed=True)
    assert next(iter(queue.waiting(engine, "default"))) == first.id
    again = claimed(engine)  # By the same worker, in a new attempt.
    assert (again.id, again.attempt) == (first.id, 2)
    assert not queue.finish(engine, lost, DONE)
    assert not queue.store_plan(engine, lost, {"seed": 1})
    assert not queue.add_log_lines(engine, lost, [LogLine(1.0, "INFO", "too late")])
    assert not queue.return_to_queue(engine, lost, attempt_failed=True)
    assert queue.claim_state(engine, lost) == "lost"
    assert queue.log_lines(engine, first.id) == []
    assert queue.finish(engine, again, DONE)


def test_a_stopped_attempt_does_not_count(engine: sa.Engine) -> None:
    submit(engine)
    assert queue.return_to_queue(engine, claimed(engine), attempt_failed=False)
    assert claimed(engine).attempt == 1


def test_a_request_that_is_not_started_in_time_ends(engine: sa.Engine) -> None:
    late, _ = queue.submit(engine, replace(submission(), start_timeout_s=-1.0))
    queue.submit(engine, replace(submission(), start_timeout_s=60.0))
    submit(engine)
    assert queue.expire(engine, LATE) == [late.id]
    assert queue.expire(engine, LATE) == []
    assert current(engine, late).error_type == "request_timeout"


def test_a_request_that_was_started_in_time_may_wait_after_its_worker_died(engine: sa.Engine) -> None:
    queue.submit(engine, replace(submission(), start_timeout_s=-1.0))
    queue.return_to_queue(engine, claimed(engine), attempt_failed=True)
    assert queue.expire(engine, LATE) == []


def test_orphans_are_claimed_by_servers_without_a_row(engine: sa.Engine) -> None:
    submit(engine), submit(engine)
    with engine.begin() as connection:
        connection.execute(
            sa.insert(servers).values(id="alive", host="h", pid=1, boot="", born=0, beats=0, beat_at=0.0)
        )
    lost, _held = claimed(engine, "dead"), claimed(engine, "alive")
    assert [row.id for row in queue.orphans(engine)] == [lost.id]
    assert [row.server for row in queue.claimed_by(engine, "alive")] == ["alive"]


class QueueMachine(RuleBasedStateMachine):
    """Runs transitions in any order and compares the database with a model of it in a dictionary."""

    rows = Bundle("rows")
    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.engine = connect(file_url(next(fresh_files)))
        metadata.create_all(self.engine)
        self.model: dict[str, dict[str, Any]] = {}

    def teardown(self) -> None:
        self.engine.dispose()

    @rule(target=rows, priority=st.sampled_from(["normal", "low"]))
    def submit(self, priority: Any) -> str:
        row, _ = queue.submit(self.engine, replace(submission(), priority=priority))
        self.model[row.id] = {"state": "IN_QUEUE", "rank": (priority == "low", row.seq), "hold": None, "attempt": 0}
        return row.id

    @rule(target=holds, worker=st.sampled_from(["a", "b"]))
    def claim(self, worker: str) -> RequestRow | None:
        waiting = sorted((one["rank"], name) for name, one in self.model.items() if one["state"] == "IN_QUEUE")
        row = queue.claim(self.engine, "default", worker)
        assert (row.id if row else None) == (waiting[0][1] if waiting else None)
        if row is not None:
            one = self.model[row.id]
            one |= {"state": "IN_PROGRESS", "attempt": one["attempt"] + 1, "cancel": False}
            one["hold"] = (worker, one["attempt"])
            assert row.attempt == one["attempt"]
        return row

    def _holds(self, row: RequestRow) -> bool:
        one = self.model[row.id]
        return bool(one["state"] == "IN_PROGRESS" and one["hold"] == (row.server, row.attempt))

    @rule(row=holds)
    def finish(self, row: RequestRow | None) -> None:
        if row is not None:
            held = self._holds(row)
            assert queue.finish(self.engine, row, DONE) == held
            if held:
                self.model[row.id]["state"] = "COMPLETED"

    @rule(row=holds)
    def return_to_queue(self, row: RequestRow | None) -> None:
        if row is not None:
            held = self._holds(row)
            assert queue.return_to_queue(self.engine, row, attempt_failed=True) == held
            if held:
                self.model[row.id]["state"] = "CANCELLED" if self.model[row.id]["cancel"] else "IN_QUEUE"

    @rule(row=holds)
    def add_log_line_and_store_plan(self, row: RequestRow | None) -> None:
        if row is not None:
            assert queue.store_plan(self.engine, row, {"seed": 1}) == self._holds(row)
            assert queue.add_log_lines(self.engine, row, [LogLine(0.0, "INFO", "x")]) == self._holds(row)

    @rule(name=rows)
    def cancel(self, name: str) -> None:
        one = self.model[name]
        wanted = {"IN_QUEUE": "cancelled", "IN_PROGRESS": "requested"}.get(one["state"], "ended")
        assert queue.cancel(self.engine, name) == wanted
        if wanted == "cancelled":
            one["state"] = "CANCELLED"
        elif wanted == "requested":
            one["cancel"] = True

    @precondition(lambda self: bool(self.model))
    @invariant()
    def states_agree(self) -> None:
        for name, one in self.model.items():
            row = whole_row(self.engine, name)
            assert row is not None
            assert row.state == one["state"]
            assert (row.completed_at is not None) == row.has_ended == (row.status_code is not None)


fresh_files: Iterator[Path] = iter(())


def test_every_order_of_transitions_agrees_with_the_model(tmp_path: Path) -> None:
    global fresh_files
    fresh_files = (tmp_path / f"{number}.db" for number in range(10_000))
    quick = settings(max_examples=15, stateful_step_count=20, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(QueueMachine, settings=quick)
