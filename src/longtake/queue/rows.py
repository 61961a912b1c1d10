"""Converts objects of the queue to rows of the table `requests`, and rows to objects."""

from typing import Any

from longtake.database.tables import requests
from longtake.queue import payloads
from longtake.queue.requests import PRIORITIES, Outcome, RequestRow, Submission

NO_PAYLOADS: dict[str, Any] = {"body": b"", "plan": None, "output": None, "search_text": None}
"""The values of the large columns (payloads) in a RequestRow that was read from the database without them."""

FACTS = [column for column in requests.c if column.name not in NO_PAYLOADS]
"""The columns of the table `requests`, without those of the payloads (input, plan, result ...), which can be large."""

NEXT_VERSION: dict[str, Any] = {"version": requests.c.version + 1}
"""Adds 1 to the `version` of a row. Every UPDATE of a request's row includes it, so that caches notice the change."""


def new_values(submission: Submission, now: float) -> dict[str, Any]:
    """Returns the values of a new request's row: column -> value. `now` is the Unix time in seconds."""
    values: dict[str, Any] = {
        "id": submission.id,
        "endpoint": submission.endpoint,
        "pool": submission.pool,
        "state": "IN_QUEUE",
        "priority": PRIORITIES[submission.priority],
        "key_id": submission.key_id,
        "idempotency_key": submission.idempotency_key,
        "body": submission.body,
        "body_blob": submission.body_blob,
        "base_url": submission.base_url,
        "webhook_url": submission.webhook_url,
        "store_io": submission.store_io,
        "may_retry": submission.may_retry,
        "lifecycle": None if submission.lifecycle is None else dict(submission.lifecycle),
        "created_at": now,
        "start_by": None if submission.start_timeout_s is None else now + submission.start_timeout_s,
        "ready": not submission.files,
        "attempt": 0,
        "version": 0,
        "price_usd": "0",
        "source": submission.lineage.source,
        "parent": submission.lineage.parent,
        "root": submission.lineage.root,
        "search_text": submission.search_text,
    }
    if submission.outcome is not None:
        values |= {"state": "COMPLETED", "completed_at": now, **outcome_values(submission.outcome)}
    return values


def outcome_values(outcome: Outcome) -> dict[str, Any]:
    """Returns the values that store an outcome in a request's row: column -> value."""
    return {
        "status_code": outcome.status_code,
        "headers": dict(outcome.headers),
        "output": payloads.result_json(outcome) if outcome.body_blob is None else None,
        "output_blob": outcome.body_blob,
        "error": outcome.error,
        "error_type": outcome.error_type,
        "price_usd": str(outcome.price_usd),
        "timings": dict(outcome.timings),
    }


def row_with_payloads(found: Any) -> RequestRow:
    """Converts a database row of the table `requests`, read with all columns, to a RequestRow."""
    return RequestRow(**found._mapping)


def row_without_payloads(found: Any) -> RequestRow:
    """Converts a database row of the table `requests`, read with only the columns FACTS, to a RequestRow.

    In the result `body` is empty, and `plan`, `output` and `search_text` are None.
    """
    return RequestRow(**found._mapping, **NO_PAYLOADS)
