"""The requests that a server has claimed."""

import sqlalchemy as sa

from longtake.queue import engine as queue
from longtake.worker.claims import Claims
from longtake.worker.leases import Lease
from tests.database.fixtures import on_sqlite
from tests.worker.requests import submission


@on_sqlite
def test_a_request_that_is_claimed_again_is_held_until_its_second_claim_is_released(engine: sa.Engine) -> None:
    """One slot puts a request back into the queue, and another one claims it before the first has released it."""
    lease = Lease(engine, 60.0)
    lease.beat()
    claims = Claims(engine, lease)
    queue.submit(engine, submission())
    first = claims.claim_next("default")
    assert first is not None
    queue.return_to_queue(engine, first, attempt_failed=False)
    second = claims.claim_next("default")
    assert second is not None
    assert second.id == first.id
    claims.release(first.id)
    assert not claims.is_empty()
    claims.release(second.id)
    assert claims.is_empty()


@on_sqlite
def test_a_request_that_is_given_back_can_be_claimed_again(engine: sa.Engine) -> None:
    lease = Lease(engine, 60.0)
    lease.beat()
    claims = Claims(engine, lease)
    queue.submit(engine, submission())
    row = claims.claim_next("default")
    assert row is not None
    claims.give_back(row)
    assert claims.is_empty()
    again = claims.claim_next("default")
    assert again is not None
    assert (again.id, again.attempt) == (row.id, row.attempt)
