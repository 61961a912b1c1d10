"""The requests that one server has claimed from the queue."""

import threading
from collections import Counter

import sqlalchemy as sa

from longtake.queue import engine as queue
from longtake.queue.requests import RequestRow
from longtake.worker.leases import Lease


class Claims:
    """The requests that one server has claimed from the queue. Safe to use from several threads.

    `engine`: the engine of the database.
    `lease`: has the id under which this server claims requests.

    If the database fails during a claim, a request may be claimed in the database but missing in this object. Such
    requests go back to the queue before the next claim.
    """

    def __init__(self, engine: sa.Engine, lease: Lease) -> None:
        self._engine = engine
        self._lease = lease
        self._lock = threading.Lock()
        # Counted: a request that went back to the queue may be claimed again before its first claim is released.
        self._request_ids = Counter[str]()
        self._may_have_lost_one = False

    def claim_next(self, pool: str) -> RequestRow | None:
        """Claims the next ready request of a pool (a named group of devices) for this server, and returns its row.

        Returns None if no ready request waits, or if this server has no row in the table `servers` yet. Raises
        SQLAlchemy's errors if the database fails.
        """
        # One thread after the other, so that `_return_lost` does not return what another thread is just claiming.
        with self._lock:
            server_id = self._lease.server_id
            if server_id is None:
                return None
            try:
                if self._may_have_lost_one:
                    self._return_lost(server_id)
                row = queue.claim(self._engine, pool, server_id)
            except Exception:
                self._may_have_lost_one = True
                raise
            if row is not None:
                self._request_ids[row.id] += 1
            return row

    def release(self, request_id: str) -> None:
        """Removes from this object a request that has ended or is back in the queue. The database is not changed."""
        with self._lock:
            self._request_ids -= Counter([request_id])

    def give_back(self, row: RequestRow) -> None:
        """Puts a claimed request back into the queue. The attempt does not count.

        Raises SQLAlchemy's errors if the database fails. Then the request goes back before the next claim.
        """
        with self._lock:
            self._request_ids -= Counter([row.id])
            earlier, self._may_have_lost_one = self._may_have_lost_one, True
            queue.return_to_queue(self._engine, row, attempt_failed=False)
            self._may_have_lost_one = earlier

    def is_empty(self) -> bool:
        """Returns True if this server holds no request."""
        with self._lock:
            return not self._request_ids

    def _return_lost(self, server_id: str) -> None:
        for row in queue.claimed_by(self._engine, server_id):
            if row.id not in self._request_ids:
                queue.return_to_queue(self._engine, row, attempt_failed=False)
        self._may_have_lost_one = False
