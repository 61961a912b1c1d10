"""The list of requests for the server's web pages: those that a caller may see, with their progress and videos."""

import json
from collections.abc import Mapping
from threading import Lock
from typing import Any

import sqlalchemy as sa
from cachetools import LRUCache
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from longtake import clock
from longtake.access.keys import Caller
from longtake.database.connection import reading
from longtake.database.tables import requests as table
from longtake.queue.payloads import input_and_result
from longtake.queue.requests import ENDED
from longtake.service.auth import caller_with_key
from longtake.service.reports import report
from longtake.service.responses import RequestFailed, to_json
from longtake.service.state import ServerState
from longtake.storage.keys import KEY, key_in_url
from longtake.video import Progress

PAGE_SIZE = 24
"""Number of requests that are loaded at once."""
CACHE_SIZE = 500
"""Maximum number of ended requests whose entries for the page are cached."""
MAX_READ_BYTES = 1024 * 1024
"""Maximum size in bytes of an input or a result that is read for the page. Larger ones contain files as data URIs. The
page does not show the prompt of a larger input or the video of a larger result."""

_SHOWN_COLUMNS = (
    "id", "endpoint", "pool", "created_at", "started_at", "completed_at", "attempt", "error", "price_usd", "seq",
)  # fmt: skip
_COLUMNS = [table.c[name] for name in (*_SHOWN_COLUMNS, "state", "status_code", "headers", "version")]


def routes(state: ServerState) -> list[BaseRoute]:
    """Returns the route of the list of requests."""
    request_list = RequestList(state)

    async def data(request: Request) -> Response:
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise RequestFailed(403, "Pages of other origins may not read the requests of this server.", "forbidden")
        caller = await caller_with_key(request)
        before = request.query_params.get("before", "")
        seq = int(before) if before.isascii() and before.isdigit() and len(before) < 18 else None
        return await report(
            state,
            request,
            caller.key_id,
            lambda: to_json(request_list.page(caller, seq)),
            {"cache-control": "no-store"},
        )

    return [Route("/page/requests", data)]


class RequestList:
    """Makes the list of requests that the page loads. Entries of ended requests are cached. Thread-safe."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._lock = Lock()
        self._ended: LRUCache[tuple[str, int], dict[str, Any]] = LRUCache(CACHE_SIZE)

    def page(self, caller: Caller, before: int | None) -> dict[str, Any]:
        """Returns the JSON object that the page loads, with the requests that the caller may see.

        before: selects the requests. None selects the newest ones. The value of `older` in an earlier result selects
            the requests that are next older than those in that result.

        The object has these entries:

        requests: up to 24 (PAGE_SIZE) entries of requests, newest first.
        older: the value of `before` that selects the next older requests, or None if there are none.
        waiting, running: the numbers of requests in these states that the caller may see.
        slots: {name, pool, state} of each slot of this server. A slot, such as a GPU, runs one request at a time.
        now: the current Unix time in seconds.
        """
        own = [] if caller.scope == "admin" else [table.c.key_id == caller.key_id]
        older = [] if before is None else [table.c.seq < before]
        with reading(self._state.engine) as connection:
            rows = connection.execute(
                sa.select(*_COLUMNS).where(*own, *older).order_by(table.c.seq.desc()).limit(PAGE_SIZE + 1)
            ).all()
            open_counts = connection.execute(
                sa.select(table.c.state, sa.func.count().label("count"))
                .where(*own, table.c.state.not_in(ENDED))
                .group_by(table.c.state)
            ).all()
        counts = {row.state: row.count for row in open_counts}
        return {
            "now": clock.now(),
            "requests": [self._entry(row) for row in rows[:PAGE_SIZE]],
            "older": rows[PAGE_SIZE - 1].seq if len(rows) > PAGE_SIZE else None,
            "waiting": counts.get("IN_QUEUE", 0),
            "running": counts.get("IN_PROGRESS", 0),
            "slots": [
                {"name": name, "pool": pool, "state": slot_state}
                for name, pool, slot_state in self._state.metrics.slots()
            ],
        }

    def _entry(self, row: Any) -> dict[str, Any]:
        """Returns what the page shows of one request: its state and times, its model, its input and its result.

        `row` is the request's row in the database, with the columns `_COLUMNS`.
        """
        has_ended = row.state in ENDED
        with self._lock:
            cached = self._ended.get((row.id, row.version))
        if cached is not None and has_ended:
            return cached
        entry: dict[str, Any] = {name: getattr(row, name) for name in _SHOWN_COLUMNS}
        entry["state"] = _shown_state(row.state, row.status_code)
        entry |= _model_facts(row.headers or {})
        entry |= self._payload_facts(row)
        if has_ended:
            with self._lock:
                self._ended[row.id, row.version] = entry
        else:
            status = self._state.statuses.get(row.id)
            entry["position"] = None if status is None else status.queue_position
            entry["progress"] = (
                None if status is None or status.row.progress is None else _progress(status.row.progress)
            )
        return entry

    def _payload_facts(self, row: Any) -> dict[str, Any]:
        """Returns what the page shows of a request's input and result, read from the database.

        prompt: from the input; empty if it has none.
        seed: from the result; None if it has none.
        video: relative URL and properties, such as width and height, of the result's video; None if there is no video.

        `row` is the request's row with the columns `_COLUMNS`.
        """
        input, output = input_and_result(self._state.engine, self._state.store.blobs, row.id, MAX_READ_BYTES)
        body, result = _json_object(input), _json_object(output)
        video = result.get("video") if row.state == "COMPLETED" and isinstance(result.get("video"), dict) else {}
        assert isinstance(video, dict)
        key = key_in_url(str(video.get("url", ""))[:2000])
        facts = {name: video.get(name) for name in ("width", "height", "duration", "num_frames", "content_type")}
        return {
            "prompt": str(body.get("prompt", ""))[:2000],
            "seed": result.get("seed"),
            "video": {"url": f"cdn/files/{key}", **facts} if key and KEY.fullmatch(key) else None,
        }


def _json_object(content: bytes | None) -> dict[str, Any]:
    """Returns the JSON object in `content`, or an empty dictionary if `content` is None or not a JSON object."""
    try:
        value = json.loads(content or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _model_facts(headers: Mapping[str, str]) -> dict[str, str | None]:
    """Returns what the page shows of the model that made a video: {model, stand_in}.

    model: the model's name.
    stand_in: a sentence that this model stands in for the one that the endpoint names.

    Each value is None if `headers`, the headers of the request's result, do not contain it.
    """
    return {"model": headers.get("x-longtake-model"), "stand_in": headers.get("x-longtake-stand-in")}


def _shown_state(state: str, status_code: int | None) -> str:
    match state:
        case "IN_QUEUE":
            return "waiting"
        case "IN_PROGRESS":
            return "running"
        case "CANCELLED":
            return "cancelled"
    return "done" if status_code is not None and status_code < 300 else "failed"


def _progress(progress: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the page shows of a running request's progress.

    message: the text for people.
    stage: the name of the current stage of the work.
    share: the finished part (0..1) of that stage.
    """
    numbers = ("step", "steps", "window", "windows", "pass", "passes")
    # A server of an older version, which may still run on the same database, stores no passes.
    share = Progress(progress["stage"], *(progress.get(name, 1) for name in numbers)).share
    return {"message": progress["message"], "stage": progress["stage"], "share": share}
