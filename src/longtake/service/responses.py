"""Responses: JSON, fal's two forms of an error, and event streams.

An error of the model is a list of entries under `detail`; an error of the request is one sentence and its type.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from longtake.database.connection import is_temporary
from longtake.endpoints.validation import echo
from longtake.errors import LongtakeError

Headers = Mapping[str, str]

RETRYABLE = (429, 502, 503)
"""HTTP statuses after which a client may succeed if it repeats the request."""


class RequestFailed(Exception):
    """An error of the request: its HTTP status, a sentence, fal's error type, and additional headers."""

    def __init__(self, status: int, detail: str, error_type: str | None = None, headers: Headers | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.error_type = error_type
        self.headers = dict(headers or {})


class ModelFailed(Exception):
    """An error of the model: HTTP status 422 and its entries, each as `endpoints.validation.problem` returns it."""

    def __init__(self, details: Sequence[Mapping[str, Any]]) -> None:
        super().__init__("the request is not valid")
        self.details = details


class NotFound(Exception):
    """There is no such request or file, or it belongs to another key."""


def to_json(value: Any) -> bytes:
    """Returns a value as compact JSON in UTF-8. Raises ValueError if a number is not finite."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def json_response(value: Any, status: int = 200, headers: Headers | None = None) -> Response:
    """Returns a response with a JSON body."""
    return Response(to_json(value), status, headers, "application/json")


def request_error(status: int, detail: str, error_type: str | None = None, headers: Headers | None = None) -> Response:
    """Returns the response of an error of the request: `{detail, error_type}`, with the type in a header as well."""
    body = {"detail": detail} | ({"error_type": error_type} if error_type else {})
    type_header = {"x-fal-error-type": error_type} if error_type else {}
    return json_response(body, status, {**type_header, **retry_headers(status), **unbilled(status), **(headers or {})})


def model_error(status: int, details: Sequence[Mapping[str, Any]]) -> Response:
    """Returns the response of an error of the model: `{detail: [{loc, msg, type, url, input[, ctx]}]}`."""
    return json_response({"detail": details}, status, {**retry_headers(status), **unbilled(status)})


def error_response(error: Exception) -> Response | None:
    """Returns the response to an expected error, or None for an error that nothing in the server expects."""
    match error:
        case NotFound():
            return json_response({"status": "NOT_FOUND"}, 404, unbilled(404))
        case RequestFailed():
            return request_error(error.status, error.detail, error.error_type, error.headers)
        case ModelFailed():
            return model_error(422, error.details)
        case LongtakeError():
            return model_error(error.status, [echo(error.detail())])
        case HTTPException():
            error_type = "not_found" if error.status_code == 404 else "bad_request"
            return request_error(error.status_code, error.detail, error_type, error.headers)
    if is_temporary(error):
        return request_error(503, "The database does not answer, or has no room left; ask again.", "internal_error")
    return None


def internal_error() -> Response:
    """Returns the response to an unexpected error, which reveals nothing about it; the log has the traceback."""
    return request_error(500, "Internal server error", "internal_error")


def retry_headers(status: int) -> dict[str, str]:
    """Returns fal's two headers, an old and a new one, that tell a client whether it should repeat a failed request."""
    if status < 400 or status == 404:
        return {}
    should_retry = str(status in RETRYABLE).lower()
    return {"x-fal-retryable": should_retry, "x-fal-needs-retry": should_retry}


def unbilled(status: int) -> dict[str, str]:
    """Returns the header that says that a failed request costs nothing."""
    return {"x-fal-billable-units": "0"} if status in (404, 422, 500) else {}


PING = b": ping\n\n"
"""A comment in an event stream, which keeps its connection open."""


def event(value: Any) -> bytes:
    """Returns one event of an event stream. It always has data: fal's Python client fails at an event without."""
    return b"data: " + to_json(value) + b"\n\n"


def event_stream(events: AsyncIterator[bytes], request_id: str) -> StreamingResponse:
    """Returns a response that sends each event as soon as it comes, with headers that keep proxies from buffering."""
    headers = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no", "x-fal-request-id": request_id}
    return StreamingResponse(events, 200, headers, "text/event-stream")
