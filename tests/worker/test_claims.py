"""The requests that a server has claimed."""

import sqlalchemy as sa

from longtake.queue import engine as queue
from longtake.worker.claims import Claims
from longtake.worker.leases import Lease
from tests.database.fixtures import on_sqlite
from tests.worker.requests import submission


def claims_with_a_request(engine: sa.Engine) -> Claims:
    """The claims of a server whose queue has one request."""
    lease = Lease(engine, 60.0)
    lease.beat()
    queue.submit(engine, submission())
    return Claims(engine, lease)


@on_sqlite
def test_a_request_that_is_claimed_again_is_held_until_its_second_claim_is_released(engine: sa.Engine) -> None:
    """One slot puts a request back into the queue, and another one claims it before the first has released it."""
    claims = claims_with_a_request(engine)
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
    claims = claims_with_a_request(engine)
    row = claims.claim_next("default")
    assert row is not None
    claims.give_back(row)
    assert claims.is_empty()
    again = claims.claim_next("default")
    assert again is not None
    assert (again.id, again.attempt) == (row.id, row.attempt)
