"""fal's two families of errors: of the model, a list under `detail`; of the request, a sentence and its type."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from longtake.database.connection import is_temporary
from longtake.endpoints.validation import echo
from longtake.errors import LongtakeError

Headers = Mapping[str, str]

RETRYABLE = (429, 502, 503)
"""Who asks again later may be served."""


class RequestFailed(Exception):
    """An error of the request family: answered with this status, sentence and fal's type of it."""

    def __init__(self, status: int, detail: str, error_type: str | None = None, headers: Headers | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.error_type = error_type
        self.headers = dict(headers or {})


class ModelFailed(Exception):
    """An error of the model family: 422 with these entries."""

    def __init__(self, details: Sequence[Mapping[str, Any]]) -> None:
        super().__init__("the request is not valid")
        self.details = details


class NotFound(Exception):
    """There is no such request, or it is another's."""


def answer(value: Any, status: int = 200, headers: Headers | None = None) -> Response:
    """JSON as fal writes it: compact, in UTF-8, and finite."""
    return Response(dumps(value), status, headers, "application/json")


def dumps(value: Any) -> bytes:
    """Compact JSON. Raises ValueError where a number is not finite."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def request_error(status: int, detail: str, error_type: str | None = None, headers: Headers | None = None) -> Response:
    """{detail, error_type}, with the type in a header too."""
    body = {"detail": detail} | ({"error_type": error_type} if error_type else {})
    marks = {"x-fal-error-type": error_type} if error_type else {}
    return answer(body, status, {**marks, **retry_marks(status), **unbilled(status), **(headers or {})})


def model_error(status: int, details: Sequence[Mapping[str, Any]]) -> Response:
    """{detail: [{loc, msg, type, url, input[, ctx]}]}"""
    return answer({"detail": details}, status, {**retry_marks(status), **unbilled(status)})


def retry_marks(status: int, *, final: bool = False) -> dict[str, str]:
    """Whether it is of use to ask again, by its older and its newer name; `final`: it is not, whatever the status."""
    if status < 400 or status == 404:
        return {}
    again = str(status in RETRYABLE and not final).lower()
    return {"x-fal-retryable": again, "x-fal-needs-retry": again}


def unbilled(status: int) -> dict[str, str]:
    return {"x-fal-billable-units": "0"} if status in (404, 422, 500) else {}


def failure(error: Exception) -> Response | None:
    """The answer to an error that was foreseen; None for one that was not."""
    match error:
        case NotFound():
            return answer({"status": "NOT_FOUND"}, 404, unbilled(404))
        case RequestFailed():
            return request_error(error.status, error.detail, error.error_type, error.headers)
        case ModelFailed():
            return model_error(422, error.details)
        case LongtakeError():
            return model_error(error.status, [echo(error.detail())])
        case HTTPException():
            kind = "not_found" if error.status_code == 404 else "bad_request"
            return request_error(error.status_code, error.detail, kind, error.headers)
    if is_temporary(error):
        return request_error(503, "The database does not answer, or has no room left; ask again.", "internal_error")
    return None


def unforeseen() -> Response:
    """The answer to what nobody foresaw: the log has the rest."""
    return request_error(500, "Internal server error", "internal_error")
