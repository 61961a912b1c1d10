"""A request: what a client asks for, its row, its log, and how it ended."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

State = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "CANCELLED"]
Priority = Literal["normal", "low"]
PRIORITIES: Mapping[str, int] = {"normal": 0, "low": 1}
"""As stored: the smaller goes first."""


@dataclass(frozen=True)
class Outcome:
    """How a request ended: the answer's HTTP status, headers and JSON body; of an error its sentence and fal's type."""

    status_code: int
    body: Any
    error: str | None = None
    error_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    price_usd: Decimal = Decimal(0)
    timings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Submission:
    """What a client asks for. `body` is the input as JSON bytes. With an `outcome` it has ended before it was queued
    (it is not valid). `start_timeout_s`: how long it may wait. `base_url`: the address under which the client sees
    the queue, from which the URLs in answers and results are built. `lifecycle`: what the client wants of its files.
    `may_retry`: whether it is tried again where a worker dies of it."""

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
class Line:
    """One line of a request's log. Of progress the `labels` say what the message says: stage, step, steps, window,
    windows."""

    at: float
    level: str
    message: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Event(Line):
    """A stored line; `seq` grows with time."""

    seq: int = 0


@dataclass(frozen=True)
class Row:
    """A request as stored; see the table's columns."""

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
    def ended(self) -> bool:
        return self.state in ENDED


ENDED = ("COMPLETED", "CANCELLED")

CANCELLED = Outcome(
    499,
    {"detail": "Request was cancelled", "error_type": "client_cancelled"},
    error="Request was cancelled",
    error_type="client_cancelled",
    headers={"x-fal-error-type": "client_cancelled"},
)
