"""What a client is told about a request that it polls: prepared once per change, as bytes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from longtake.queue.requests import RequestRow, StoredLogLine
from longtake.queue.status_cache import RequestStatus
from longtake.service.auth import Door, own
from longtake.service.errors import NotFound, dumps
from longtake.service.names import address, belongs, name
from longtake.service.parts import Parts

YES = ("1", "true", "yes", "on")


def urls(row: RequestRow) -> dict[str, str]:
    """The addresses of a request, which need no query and no secret."""
    base = f"{row.base_url}/{name(row.endpoint).app}/requests/{row.id}"
    return {"response_url": base, "status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}


def told_state(row: RequestRow) -> str:
    """One of the three states that fal's clients know."""
    return "COMPLETED" if row.has_ended else row.state


def status(view: RequestStatus, logs: Sequence[StoredLogLine] | None) -> dict[str, Any]:
    """A status with these lines of the log; None: none were asked for."""
    row = view.row
    body: dict[str, Any] = {"status": told_state(row), "request_id": row.id, **urls(row)}
    if view.queue_position is not None and row.state == "IN_QUEUE":
        body["queue_position"] = view.queue_position
    body["logs"] = None if logs is None else [entry(event) for event in logs]
    body["metrics"] = (row.timings or {}) if row.has_ended else {}
    if row.has_ended and row.error is not None:
        body["error"] = row.error
    if row.has_ended and row.error_type is not None:
        body["error_type"] = row.error_type
    return body


def entry(event: StoredLogLine) -> dict[str, Any]:
    """One line of the log; its time as fal writes it, UTC without saying so."""
    return {
        "timestamp": datetime.fromtimestamp(event.at, UTC).replace(tzinfo=None).isoformat(timespec="microseconds"),
        "level": event.level,
        "source": "USER",
        "message": event.message,
        "labels": event.labels,
    }


def prepared(view: RequestStatus, *, logs: bool) -> bytes:
    """The status as JSON, all of the log with it where that is asked for."""
    key = "status+logs" if logs else "status"
    if key not in view.rendered:
        view.rendered[key] = dumps(status(view, view.log_lines if logs else None))
    return view.rendered[key]


def code(view: RequestStatus) -> int:
    return 200 if view.row.has_ended else 202


def wants_logs(query: str) -> bool:
    """Whether `logs` is asked for: Python says true, JavaScript 1."""
    if not query:
        return False
    found = [part[5:] for part in query.split("&") if part.startswith("logs=")]
    return bool(found) and found[-1].lower() in YES


async def read_status(parts: Parts, door: Door, path: str, authorization: str) -> RequestStatus:
    """The view that a GET of this path's status shows, from memory where that is up to date. Raises RequestFailed for
    one who may not call, NotFound where there is no such request or it is another's."""
    caller = door.known(authorization) or await door.admit(authorization)
    asked = address(path)
    if asked is None or asked.rest != "/status":
        raise NotFound
    view = parts.board.peek(asked.request_id) or await parts.ask(parts.board.get, asked.request_id)
    row = own(caller, None if view is None else view.row)
    if view is None or not belongs(row.endpoint, asked.name):
        raise NotFound
    return view
