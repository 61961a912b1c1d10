"""Event streams: JSON in `data:` lines, and comments to break the silence. Never an event without data, which kills
fal's Python client."""

from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import StreamingResponse

from longtake.service.errors import dumps

PING = b": ping\n\n"


def event(value: Any) -> bytes:
    return b"data: " + dumps(value) + b"\n\n"


def stream(events: AsyncIterator[bytes], request_id: str) -> StreamingResponse:
    """The answer that sends these events as they come, which no proxy may hold back."""
    headers = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no", "x-fal-request-id": request_id}
    return StreamingResponse(events, 200, headers, "text/event-stream")
