"""Responses: JSON, and fal's two forms of errors.

The two forms of errors are:
- An error of the model, such as an invalid input: `detail` is a list of problems.
- An error of the request, such as a missing key: `detail` is one sentence, and `error_type` is fal's error type.
"""

import gzip
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from longtake.database.connection import is_damaged, is_temporary
from longtake.endpoints.validation import problem
from longtake.errors import DiskFull, FileLost, LongtakeError
from longtake.printable import printable

Headers = Mapping[str, str]

RETRYABLE = (429, 502, 503)
"""HTTP statuses of errors after which a repeated request may succeed."""
SHORT = 1000
"""Largest number of bytes of a report that is never compressed."""
GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))", re.IGNORECASE)
"""Matches a header Accept-Encoding with `gzip`, unless its weight is 0, which means that gzip is not accepted."""
CLOSE: Headers = {"connection": "close"}
"""The header of an answer after which the server closes the connection, without receiving the rest of the body."""
FRESH: Headers = {"cache-control": "no-store"}
"""The header that forbids caches to store an answer, because the next answer may differ."""


class RequestFailed(Exception):
    """An error of the request, which the server turns into a response with `request_error`.

    status: the HTTP status of the response.
    detail: a sentence for the user.
    error_type: fal's name for the type of the error; with None the response has no type.
    headers: additional headers of the response.
    """

    def __init__(self, status: int, detail: str, error_type: str | None = None, headers: Headers | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.error_type = error_type
        self.headers = dict(headers or {})


class ModelFailed(Exception):
    """A request's input is not valid. The server then answers with HTTP status 422 and the problems, as a list in fal's
    format.

    details: one entry per problem, as returned by `endpoints.validation.problem`.
    """

    def __init__(self, details: Sequence[Mapping[str, Any]]) -> None:
        super().__init__("the request is not valid")
        self.details = details


def invalid(name: str, reason: str, value: Any, place: str = "body") -> ModelFailed:
    """Returns the error (HTTP status 422) for one wrong value in a request.

    name: the name of the field or parameter with the wrong value.
    reason: a sentence that says what the value should be.
    value: the wrong value.
    place: the part of the request that has the value: `body`, `query` or `path`.
    """
    return ModelFailed([problem(loc=(name,), msg=reason, type="value_error", input=value, place=place)])


def whole_number(query: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    """Returns a parameter of a query as a whole number from `least` to `most`, or None if it is absent or empty.

    Raises ModelFailed (HTTP status 422) for any other value.
    """
    value = query.get(name)
    if not value:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 20 and least <= int(value) <= most):
        raise invalid(name, f"Input should be a whole number from {least} to {most}", value, "query")
    return int(value)


class NotFound(Exception):
    """The addressed request or file does not exist, or the caller may not see it. The HTTP status is 404."""


def to_json(value: Any) -> bytes:
    """Returns a value as compact JSON in UTF-8. Raises ValueError if it contains a number that is not finite."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def accepts_gzip(request: Request) -> bool:
    """Returns True if the client accepts answers that are compressed with gzip."""
    return GZIP.search(request.headers.get("accept-encoding", "")) is not None


def compressed(body: bytes) -> bytes:
    """Returns a body compressed with gzip. Equal bodies give equal bytes."""
    return gzip.compress(body, mtime=0)


def json_response(value: Any, status: int = 200, headers: Headers | None = None) -> Response:
    """Returns a response with `value` as its JSON body, with this HTTP status and these additional headers."""
    return Response(to_json(value), status, headers, "application/json")


async def body_of(response: Response) -> bytes:
    """Returns the whole body of a response. This uses up its pieces, so the response must not be sent afterwards."""
    if isinstance(response, StreamingResponse):
        return b"".join([bytes(piece) async for piece in response.body_iterator])  # type: ignore[arg-type]
    return bytes(response.body)


def request_error(status: int, detail: str, error_type: str | None = None, headers: Headers | None = None) -> Response:
    """Returns the response for an error of the request, with this HTTP status and the body `{detail, error_type}`.

    detail: a sentence for the user. Unprintable characters in it become escapes (see `printable`).
    error_type: fal's name for the type of the error. It is also sent in the header `x-fal-error-type`. If it is None,
        it is left out of the body and the headers.
    headers: additional headers of the response.
    """
    body = {"detail": printable(detail)} | ({"error_type": error_type} if error_type else {})
    type_header = {"x-fal-error-type": error_type} if error_type else {}
    return json_response(body, status, {**type_header, **retry_headers(status), **unbilled(status), **(headers or {})})


def model_error(status: int, details: Sequence[Mapping[str, Any]]) -> Response:
    """Returns the response for an error of the model, with this HTTP status and the body `{detail: details}`.

    `details` has one entry for each problem: {loc, msg, type, url, input, ctx}. The entry `ctx` is optional.
    """
    return json_response({"detail": details}, status, {**retry_headers(status), **unbilled(status)})


def error_response(error: Exception) -> Response | None:
    """Returns the response for an error that a route has raised, or None for an unexpected error.

    These errors are expected:
    - NotFound, RequestFailed, ModelFailed, LongtakeError and Starlette's HTTPException
    - temporary errors and damage of the database, for which the response has HTTP status 503.
    """
    match error:
        case NotFound():
            return json_response({"status": "NOT_FOUND"}, 404, unbilled(404))
        case RequestFailed():
            return request_error(error.status, error.detail, error.error_type, error.headers)
        case ModelFailed():
            return model_error(422, error.details)
        case DiskFull() | FileLost():
            return request_error(error.status, error.message, "internal_error")
        case LongtakeError():
            return model_error(error.status, [error.detail()])
        case HTTPException():
            error_type = "not_found" if error.status_code == 404 else "bad_request"
            return request_error(error.status_code, error.detail, error_type, error.headers)
    if is_damaged(error):
        return request_error(503, "The server's database is damaged; its operator has to restore it.", "internal_error")
    if is_temporary(error):
        return request_error(503, "The database does not answer, or has no room left; ask again.", "internal_error")
    return None


def limit_reached(detail: str, retry_after_s: int | None = None, headers: Headers | None = None) -> RequestFailed:
    """Returns the error (HTTP status 429) for a key that has used up one of its limits.

    detail: a sentence for the user.
    retry_after_s: seconds after which the limit allows more, for the header `retry-after` and a second sentence. None
        if they are not known.
    headers: additional headers of the response.
    """
    # fal's clients expect the value 1 with status 429. It replaces the value `true` of `retry_headers`.
    retried = {**(headers or {}), "x-fal-needs-retry": "1"}
    if retry_after_s is not None:
        detail += f" Ask again in {retry_after_s} s."
        retried["retry-after"] = str(retry_after_s)
    return RequestFailed(429, detail, "concurrent_requests_limit", retried)


def internal_error() -> Response:
    """Returns the response for an unexpected error. It reveals nothing about the error; the log has the traceback."""
    return request_error(500, "Internal server error", "internal_error")


def retry_headers(status: int) -> dict[str, str]:
    """Returns the headers that tell a client whether to repeat a request that failed. `status` is its HTTP status.

    - 429, 502 and 503 (RETRYABLE): both headers are `true`, because a repeated request may succeed.
    - 404, and all below 400: no headers.
    - All others: both headers are `false`.

    The two headers are `x-fal-retryable` and `x-fal-needs-retry`. They mean the same; fal uses both names.
    """
    if status < 400 or status == 404:
        return {}
    should_retry = str(status in RETRYABLE).lower()
    return {"x-fal-retryable": should_retry, "x-fal-needs-retry": should_retry}


def unbilled(status: int) -> dict[str, str]:
    """Returns the header that tells fal's clients that a request costs nothing, if its HTTP status is 404, 422 or 500.

    The result is empty for any other status.
    """
    return {"x-fal-billable-units": "0"} if status in (404, 422, 500) else {}
