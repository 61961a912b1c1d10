"""Responses: JSON, fal's two forms of errors, and event streams.

An error of the model, such as an invalid input, has a list of entries under `detail`. An error of the request, such as
a missing key, has one sentence under `detail` and fal's error type under `error_type`.
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
"""HTTP statuses of errors after which a repeated request may succeed."""


class RequestFailed(Exception):
    """An error of the request, which the application turns into a response by `request_error`.

    status: the HTTP status.
    detail: a sentence for the user.
    error_type: fal's error type; None sends none.
    headers: additional headers of the response.
    """

    def __init__(self, status: int, detail: str, error_type: str | None = None, headers: Headers | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.error_type = error_type
        self.headers = dict(headers or {})


class ModelFailed(Exception):
    """Raised if a request's input is not valid. The application then answers with 422 and fal's list of problems.

    details: one entry per problem, as returned by `endpoints.validation.problem`.
    """

    def __init__(self, details: Sequence[Mapping[str, Any]]) -> None:
        super().__init__("the request is not valid")
        self.details = details


class NotFound(Exception):
    """The addressed request or file does not exist, or the caller may not see it. The HTTP status is 404."""


def to_json(value: Any) -> bytes:
    """Returns a value as compact JSON in UTF-8. Raises ValueError if it contains a number that is not finite."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def json_response(value: Any, status: int = 200, headers: Headers | None = None) -> Response:
    """Returns a response with a JSON body."""
    return Response(to_json(value), status, headers, "application/json")


def request_error(status: int, detail: str, error_type: str | None = None, headers: Headers | None = None) -> Response:
    """Returns the response for an error of the request.

    Its body is `{detail, error_type}`, or `{detail}` if the type is None. The header
    `x-fal-error-type` has the type, too. `headers` are added to the response.
    """
    body = {"detail": detail} | ({"error_type": error_type} if error_type else {})
    type_header = {"x-fal-error-type": error_type} if error_type else {}
    return json_response(body, status, {**type_header, **retry_headers(status), **unbilled(status), **(headers or {})})


def model_error(status: int, details: Sequence[Mapping[str, Any]]) -> Response:
    """Returns the response for an error of the model: `{detail: [{loc, msg, type, url, input[, ctx]}]}`."""
    return json_response({"detail": details}, status, {**retry_headers(status), **unbilled(status)})


def error_response(error: Exception) -> Response | None:
    """Returns the response for an error that routes raise on purpose, or 503 for a temporary error of the database.

    Returns None for any other error.
    """
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
    """Returns the response for an unexpected error. It reveals nothing about the error; the log has the traceback."""
    return request_error(500, "Internal server error", "internal_error")


def retry_headers(status: int) -> dict[str, str]:
    """Returns the headers that tell a client with `true` or `false` whether it should repeat a failed request.

    fal has an old and a new header for this, and both are returned. The result is empty for a success and for 404.
    """
    if status < 400 or status == 404:
        return {}
    should_retry = str(status in RETRYABLE).lower()
    return {"x-fal-retryable": should_retry, "x-fal-needs-retry": should_retry}


def unbilled(status: int) -> dict[str, str]:
    """Returns the header that tells fal's clients that a request costs nothing, if `status` is 404, 422 or 500.

    Returns no header for any other status.
    """
    return {"x-fal-billable-units": "0"} if status in (404, 422, 500) else {}


PING = b": ping\n\n"
"""A comment in an event stream. Clients ignore it, but it keeps the connection open."""


def event(value: Any) -> bytes:
    """Returns one event of an event stream, with `value` as JSON for its data.

    Every event needs data, because fal's Python client fails at an event without it.
    """
    return b"data: " + to_json(value) + b"\n\n"


def event_stream(events: AsyncIterator[bytes], request_id: str) -> StreamingResponse:
    """Returns a response that sends each of the events at once. Its headers prevent proxies from buffering them.

    `events` yields encoded events, as returned by `event`, and PING.
    """
    headers = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no", "x-fal-request-id": request_id}
    return StreamingResponse(events, 200, headers, "text/event-stream")
