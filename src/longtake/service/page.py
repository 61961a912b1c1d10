"""The page at `/`: the requests that the caller may see, their progress, and their videos.

The page itself holds nothing: what it shows comes as JSON to whoever has a key, where there are keys.
"""

import json
import re
import time
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Any

import jinja2
import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from longtake.access.keys import Caller
from longtake.database.connection import reading
from longtake.database.tables import requests as table
from longtake.queue.requests import StoredLogLine
from longtake.service.auth import caller_of
from longtake.service.errors import RequestFailed, answer
from longtake.service.parts import Parts
from longtake.version import __version__

SHOWN = 24
"""Requests on one page."""
REMEMBERED = 500
LARGE = 1024 * 1024
"""Bytes; a request or result above this holds whole files, and is not read for a line on a page."""

HERE = Path(__file__).parent
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
GUARD = {
    "Content-Security-Policy": "default-src 'self'; media-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

_KEY = re.compile(r"/files/([A-Za-z0-9._-]+)$")


def routes(parts: Parts) -> list[BaseRoute]:
    templates = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True)
    html = templates.get_template("page.html").render(version=__version__)
    files = {path.name: path.read_bytes() for path in (HERE / "static").iterdir() if path.suffix in TYPES}
    shelf = Shelf(parts)

    async def page(_: Request) -> Response:
        return Response(html, headers=GUARD, media_type="text/html")

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            return Response(status_code=404)
        return Response(files[name], headers=GUARD, media_type=TYPES[Path(name).suffix])

    async def listed(request: Request) -> Response:
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise RequestFailed(403, "Pages of other origins are not told what is asked here.", "forbidden")
        caller = await caller_of(request)
        before = request.query_params.get("before", "")
        found = await parts.call(shelf.page, caller, int(before) if before.isdigit() and len(before) < 18 else None)
        return answer(found, headers={"Cache-Control": "no-store"})

    return [Route("/", page), Route("/static/{name}", static), Route("/page/requests", listed)]


class Shelf:
    """Requests as the page shows them; what was read of those that have ended is remembered."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._lock = Lock()
        self._known: OrderedDict[tuple[str, int], dict[str, Any]] = OrderedDict()

    def page(self, caller: Caller, before: int | None) -> dict[str, Any]:
        """The latest requests, or the latest `before` that number, and how many there are in each state."""
        mine = [] if caller.scope == "admin" else [table.c.key_id == caller.key_id]
        older = [] if before is None else [table.c.seq < before]
        with reading(self._parts.engine) as connection:
            rows = connection.execute(
                sa.select(*_COLUMNS).where(*mine, *older).order_by(table.c.seq.desc()).limit(SHOWN + 1)
            ).all()
            open_ones = connection.execute(
                sa.select(table.c.state, sa.func.count().label("count"))
                .where(*mine, table.c.state.in_(("IN_QUEUE", "IN_PROGRESS")))
                .group_by(table.c.state)
            ).all()
        counts = {row.state: row.count for row in open_ones}
        return {
            "now": time.time(),
            "requests": [self._shown(row) for row in rows[:SHOWN]],
            "older": rows[SHOWN - 1].seq if len(rows) > SHOWN else None,
            "waiting": counts.get("IN_QUEUE", 0),
            "running": counts.get("IN_PROGRESS", 0),
            "slots": [
                {"name": name, "pool": pool, "state": state} for name, pool, state, _ in self._parts.metrics.slots()
            ],
        }

    def _shown(self, row: Any) -> dict[str, Any]:
        with self._lock:
            known = self._known.get((row.id, row.version))
        if known is not None and row.state in ("COMPLETED", "CANCELLED"):
            return known
        shown: dict[str, Any] = {name: getattr(row, name) for name in _TOLD}
        shown["state"] = _state(row.state, row.status_code)
        shown |= self._read(row)
        if shown["state"] in ("waiting", "running"):
            view = self._parts.board.get(row.id)
            shown["position"] = None if view is None else view.queue_position
            shown["progress"] = None if view is None or not view.log_lines else _progress(view.log_lines)
            return shown
        with self._lock:
            self._known[row.id, row.version] = shown
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return shown

    def _read(self, row: Any) -> dict[str, Any]:
        """What the bodies hold: the prompt, and where the video is."""
        with reading(self._parts.engine) as connection:
            found = connection.execute(
                sa.select(*(_small(column) for column in (table.c.body, table.c.output))).where(table.c.id == row.id)
            ).one()
        asked, given = (_object(content) for content in found)
        video = given.get("video") if row.state == "COMPLETED" and isinstance(given.get("video"), dict) else {}
        assert isinstance(video, dict)
        key = _KEY.search(str(video.get("url", ""))[:2000])
        facts = {name: video.get(name) for name in ("width", "height", "duration", "num_frames", "content_type")}
        return {
            "prompt": str(asked.get("prompt", ""))[:2000],
            "seed": given.get("seed"),
            "video": {"url": f"/cdn/files/{key[1]}", **facts} if key else None,
        }


_TOLD = ("id", "endpoint", "pool", "created_at", "started_at", "completed_at", "attempt", "error", "price_usd", "seq")
_COLUMNS = [table.c[name] for name in (*_TOLD, "state", "status_code", "version")]


def _small(column: sa.Column[bytes]) -> sa.ColumnElement[bytes | None]:
    return sa.case((sa.func.length(column) <= LARGE, column))


def _object(content: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(content or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _state(state: str, status: int | None) -> str:
    match state:
        case "IN_QUEUE":
            return "waiting"
        case "IN_PROGRESS":
            return "running"
        case "CANCELLED":
            return "cancelled"
    return "done" if status is not None and status < 300 else "failed"


def _progress(events: tuple[StoredLogLine, ...]) -> dict[str, Any]:
    """The last line, and how much of its stage is done (0..1, None where that is not known)."""
    last = events[-1]
    try:
        step, steps, window, windows = (int(last.labels[name]) for name in ("step", "steps", "window", "windows"))
        share: float | None = min((window - 1 + step / steps) / windows, 1.0)
    except (KeyError, ValueError, ZeroDivisionError):
        share = None
    return {"message": last.message, "stage": last.labels.get("stage"), "share": share}
