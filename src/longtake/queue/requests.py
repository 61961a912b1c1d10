"""The data of a request: what a client submits, its database row, its log lines and its outcome."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

State = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "CANCELLED"]
ENDED: tuple[State, ...] = ("COMPLETED", "CANCELLED")
"""The states that a request never leaves."""

Priority = Literal["normal", "low"]
PRIORITIES: Mapping[Priority, int] = {"normal": 0, "low": 1}
"""Priorities as stored in the database; smaller numbers run first."""


@dataclass(frozen=True)
class Outcome:
    """How a request ended: the HTTP status, headers and JSON body of its result.

    `error` and `error_type` are None for a success. `error` is a sentence for the user, `error_type` one of fal's error
    types. `timings` maps the name of a phase to its seconds.
    """

    status_code: int
    body: Any
    error: str | None = None
    error_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    price_usd: Decimal = Decimal(0)
    timings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Submission:
    """A request as a client submits it, before it has a row.

    `body` is the input as JSON. `base_url` is the queue's address as the client sees it; the URLs in answers and
    results are built from it. `start_timeout_s` limits the seconds in the queue, None does not. `lifecycle` holds the
    lifetime and the access rules that the client sets for its files. `may_retry` allows another attempt after a worker
    died. `outcome` is set for an invalid request, which is stored as ended and never queued.
    """

    endpoint: str
    pool: str
    key_id: str
    body: bytes
    base_url: str
    priority: Priority = "normal"
    start_timeout_s: float | None = None
    webhook_url: str | None = None
    idempotency_key: str | None = None
    store_io: bool = True
    may_retry: bool = True
    lifecycle: Mapping[str, Any] | None = None
    outcome: Outcome | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True)
class LogLine:
    """One line of a request's log, written at the Unix time `at`.

    The labels of a progress line are the numbers in its message: `stage`, `step`, `steps`, `window` and `windows`.
    """

    at: float
    level: str
    message: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredLogLine(LogLine):
    """A log line in the database. Later lines have a greater `seq`."""

    seq: int = 0


@dataclass(frozen=True)
class RequestRow:
    """A row of the `requests` table. Times are Unix times in seconds; `version` counts the row's changes."""

    seq: int
    id: str
    endpoint: str
    pool: str
    state: State
    priority: int
    key_id: str
    idempotency_key: str | None
    body: bytes
    base_url: str
    webhook_url: str | None
    store_io: bool
    may_retry: bool
    lifecycle: dict[str, Any] | None
    created_at: float
    start_by: float | None
    started_at: float | None
    completed_at: float | None
    cancel_at: float | None
    worker: str | None
    attempt: int
    version: int
    plan: dict[str, Any] | None
    status_code: int | None
    headers: dict[str, str] | None
    output: bytes | None
    error: str | None
    error_type: str | None
    timings: dict[str, float] | None
    price_usd: str

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


CANCELLED = Outcome(
    499,
    {"detail": "Request was cancelled", "error_type": "client_cancelled"},
    error="Request was cancelled",
    error_type="client_cancelled",
    headers={"x-fal-error-type": "client_cancelled"},
)
"""The outcome of every cancelled request."""
