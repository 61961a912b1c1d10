"""The JSON that a client sends, whatever it calls it: read within a limit, and stored compact."""

from typing import Any

from pydantic_core import from_json
from starlette.requests import Request

from longtake.endpoints.validation import problem
from longtake.service.errors import ModelFailed, RequestFailed, dumps


async def read(request: Request, limit: int) -> bytes:
    """The body. Raises RequestFailed with 413 where it is longer than `limit` bytes."""
    refusal = RequestFailed(
        413,
        f"The body is larger than {limit} bytes; upload large files and send their URLs.",
        "bad_request",
        {"connection": "close"},
    )
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > limit:
        raise refusal
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise refusal
    return bytes(body)


def parse(raw: bytes) -> tuple[Any, bytes]:
    """The value of a body, and the value as compact JSON; an empty body is {}. Raises ModelFailed where it is no JSON,
    or holds a number that is not finite."""
    if not raw.strip():
        return {}, b"{}"
    try:
        value = from_json(raw, allow_inf_nan=False)
        return value, dumps(value)
    except (ValueError, RecursionError) as error:
        raise ModelFailed(
            [
                problem(
                    loc=(),
                    msg="JSON decode error",
                    type="json_invalid",
                    input={},
                    ctx={"error": str(error)},
                )
            ]
        ) from None


async def json_of(request: Request, limit: int) -> Any:
    """The value of a request's body."""
    return parse(await read(request, limit))[0]
