"""Deletes what the server no longer needs of ended requests: first inputs, results, plans and logs, later the rows.

A background thread does it in small batches with pauses, so that other writers hardly wait.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from longtake import clock
from longtake.database.batches import CHANGED_BATCH, PAUSE_S
from longtake.database.connection import is_temporary, lock, reading
from longtake.database.space import give_back_space
from longtake.database.tables import deleted_requests, deliveries, events, requests
from longtake.periodic import Repeating
from longtake.queue.requests import ENDED
from longtake.queue.rows import NEXT_VERSION
from longtake.settings import Settings
from longtake.storage.deletion import delete_blob
from longtake.storage.files import FileStore

UNSTORED_S = 45 * 60
"""Seconds after a request's end for which its result can be fetched, if the client does not let the server store it
(`store_io` is False)."""

EVERY_S = 5 * 60
"""Seconds between two searches for old requests.

Data of a request with `store_io` False must be deleted within one hour after its end. So the sum of UNSTORED_S and
EVERY_S must be less than one hour.
"""

PAUSED_S = 30.0
"""Seconds after which the eraser tries again if the system's clock has jumped, because it deletes nothing then."""

DELETED_INPUT = b"null"
"""The JSON that replaces a request's stored input when the input is deleted."""


def eraser(store: FileStore, settings: Settings, on_change: Callable[[str], None]) -> Repeating:
    """Returns a background thread that deletes old data of ended requests. The caller must start it.

    - Inputs, JSON results, plans and logs are deleted `payload_s` seconds after a request's end. If the client does not
      let the server store them, they are deleted after 45 minutes (UNSTORED_S) at the latest.
    - Webhooks are deleted with these data, but only after they were delivered or given up.
    - Rows are deleted `history_s` seconds after a request's submission, but not before the request's other data.

    `store`: has the engine of the database, and the blobs of large inputs and results.
    `settings`: has `payload_s` and `history_s`. If `history_s` is the smaller number, it replaces `payload_s`.
    `on_change`: called with the id of each request after some of its data was deleted.

    Several servers may run such a thread for one database.
    """

    def erase_batch() -> float:
        if not clock.is_steady():
            return PAUSED_S
        now = clock.now()
        payload_s = min(settings.payload_s, settings.history_s)
        changed = (
            erase_ended(store, now - min(UNSTORED_S, payload_s), stored=False)
            or erase_ended(store, now - payload_s, stored=True)
            or delete_erased(store.engine, now - settings.history_s)
        )
        for request_id in changed:
            on_change(request_id)
        # A call makes one short transaction. Space is given back when nothing is left to delete. The search for late
        # webhooks reads all of them, so it comes last.
        is_unfinished = changed or give_back_space(store.engine) or delete_late_webhooks(store.engine)
        return PAUSE_S if is_unfinished else EVERY_S

    return Repeating("erasure", erase_batch, failure="Old requests cannot be deleted", is_temporary=is_temporary)


def erase(store: FileStore, request_id: str) -> bool:
    """Deletes the input, JSON result, plan and log of an ended request, in the database and in blobs.

    The request's row remains, and so do its video files (see `FileStore.delete_of_request`).
    Returns False, and deletes nothing, if the request has not ended or is unknown.
    """
    return _erase(store, requests.c.id == request_id, limit=1) != []


def erase_ended(store: FileStore, before: float, *, stored: bool, limit: int = CHANGED_BATCH) -> Sequence[str]:
    """Deletes the inputs, JSON results, plans and logs of requests that ended before `before`. Returns the ids of these
    requests. Their rows and video files remain.

    `before`: a Unix time in seconds.
    `stored`: True selects the requests whose `store_io` is True. False selects those whose client does not let the
        server store input and result (`store_io` is False).
    `limit`: the maximum number of requests; the next call selects others.
    """
    old = sa.and_(requests.c.store_io.is_(stored), requests.c.completed_at < before, requests.c.erased_at.is_(None))
    return _erase(store, old, limit)


def _erase(store: FileStore, condition: sa.ColumnElement[bool], limit: int) -> list[str]:
    """Deletes the inputs, JSON results, plans and logs of ended requests; their rows remain. Returns the requests' ids.

    `condition`: an SQL condition on the table `requests`, which selects them.
    `limit`: the maximum number of requests.
    """
    ended = sa.select(requests.c.id, requests.c.body_blob, requests.c.output_blob).where(
        condition, requests.c.state.in_(ENDED)
    )
    with reading(store.engine) as connection:
        found = connection.execute(ended.limit(limit)).all()
    # The blobs are deleted first. If this process dies then, the rows still lead the next call to the others.
    for row in found:
        for key in (row.body_blob, row.output_blob):
            if key is not None:
                delete_blob(store.blobs, key)
    ids = [row.id for row in found]
    if ids:
        with store.engine.begin() as connection:
            _erase_rows(connection, ids)
    return ids


def _erase_rows(connection: sa.Connection, ids: Sequence[str]) -> None:
    values: dict[str, Any] = {
        "body": DELETED_INPUT,
        "body_blob": None,
        "output": None,
        "output_blob": None,
        "plan": sa.null(),
        "progress": sa.null(),
        "webhook_url": None,
        "source": None,
        "search_text": None,
        "erased_at": clock.now(),
        **NEXT_VERSION,
    }
    connection.execute(sa.update(requests).where(requests.c.id.in_(ids)).values(values))
    connection.execute(sa.delete(events).where(events.c.request_id.in_(ids)))
    _delete_ended_webhooks(connection, ids)


def delete_late_webhooks(engine: sa.Engine, limit: int = CHANGED_BATCH) -> Sequence[str]:
    """Deletes the webhooks that ended (delivered or given up) after their requests' payloads were deleted, because the
    URL of a webhook can contain a secret. Returns the requests' ids.

    `limit`: the maximum number of webhooks; the next call deletes others.
    """
    erased = sa.exists().where(requests.c.id == deliveries.c.request_id, requests.c.erased_at.is_not(None))
    late = sa.select(deliveries.c.request_id).where(deliveries.c.state != "waiting", erased).limit(limit)
    with reading(engine) as connection:
        ids = connection.scalars(late).all()
    if ids:
        with engine.begin() as connection:
            _delete_ended_webhooks(connection, ids)
    return ids


def _delete_ended_webhooks(connection: sa.Connection, ids: Sequence[str]) -> None:
    connection.execute(sa.delete(deliveries).where(deliveries.c.request_id.in_(ids), deliveries.c.state != "waiting"))


def delete_erased(engine: sa.Engine, before: float, limit: int = CHANGED_BATCH) -> Sequence[str]:
    """Deletes the rows of requests that were submitted before `before`. Returns the requests' ids.

    The row of a request stays if its input, result, plan and log are not deleted yet. The table `deleted_requests`
    counts the deleted rows.

    `before`: a Unix time in seconds.
    `limit`: the maximum number of rows; the next call deletes others.
    """
    old = (
        sa.select(requests.c.id)
        .where(requests.c.created_at < before, requests.c.erased_at.is_not(None))
        .order_by(requests.c.created_at)
        .limit(limit)
    )
    with reading(engine) as connection:
        ids = connection.scalars(old).all()
    if not ids:
        return ids
    with engine.begin() as connection:
        lock(connection, "deleted_requests")  # Otherwise two servers could insert the same count.
        deleted = connection.execute(
            sa.delete(requests)
            .where(requests.c.id.in_(ids))
            .returning(requests.c.endpoint, requests.c.state, requests.c.status_code)
        ).all()
        for (endpoint, state, status_code), number in Counter(map(tuple, deleted)).items():
            _count_deleted(connection, endpoint, state, status_code, number)
    return ids


def _count_deleted(connection: sa.Connection, endpoint: str, state: str, status_code: int, number: int) -> None:
    kind = {"endpoint": endpoint, "state": state, "status_code": status_code}
    is_kind = [deleted_requests.c[name] == value for name, value in kind.items()]
    added = sa.update(deleted_requests).where(*is_kind).values(count=deleted_requests.c.count + number)
    if connection.execute(added).rowcount == 0:
        connection.execute(sa.insert(deleted_requests).values(**kind, count=number))
