"""The requests that the server's pages show: a list with filters, trees of requests that extend others, single ones."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from threading import Lock
from typing import Any

from cachetools import LRUCache
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from longtake import clock
from longtake.access.keys import Caller
from longtake.database.tables import requests as table
from longtake.endpoints import ENDPOINTS
from longtake.queue import fetches, recent
from longtake.queue.addresses import REQUEST_ID, file_path
from longtake.queue.payloads import input_and_result
from longtake.queue.recent import SHOWN_STATES, RecentFilter, ShownState, shown_state
from longtake.queue.requests import ENDED, StoredLogLine
from longtake.queue.short_inputs import short_input
from longtake.service.auth import caller_of_page
from longtake.service.reports import report
from longtake.service.responses import FRESH, NotFound, invalid, to_json
from longtake.service.state import ServerState
from longtake.service.submit import existing_endpoint
from longtake.storage.keys import KEY, key_in_url
from longtake.video import Progress

PAGE_SIZE = 24
"""Maximum number of requests in one answer with the list of requests."""
TREE_SIZE = 200
"""Maximum number of requests of a tree (a request, those that extend its result, and so on) in one answer. The answer
about one request also names at most so many requests that extend its result."""
MOST_SEARCHED = 200
"""Maximum length in characters of the text that a client searches for in prompts."""
MOST_LOGS = 50
"""Maximum number of log lines in the answer about one request. Older lines are left out."""
CACHE_SIZE = 500
"""Maximum number of requests whose prompt, seed and video facts are cached, as read from their inputs and results."""
MAX_READ_BYTES = 1024 * 1024
"""Maximum size in bytes of an input or a result that is read for the page. Larger ones contain files as data URIs. The
page does not show the prompt of a larger input or the video of a larger result."""

_SHOWN_COLUMNS = (
    "id", "endpoint", "pool", "created_at", "started_at", "completed_at", "attempt", "error", "price_usd", "seq",
    "erased_at",
)  # fmt: skip
COLUMNS = [table.c[name] for name in (*_SHOWN_COLUMNS, "state", "status_code", "headers", "store_io", "timings")]
"""The columns of a request's row that are needed to make what the server's pages show of the request."""


def routes(entries: "Entries") -> list[BaseRoute]:
    """Returns the routes of the list of requests and of single requests."""
    state = entries.state

    async def page(request: Request) -> Response:
        caller, query = await caller_of_page(request), request.query_params
        tree, selected, before = query.get("tree"), _filter(caller, query), _sequence_number(query.get("before", ""))

        def made() -> bytes:
            if tree:
                return to_json(tree_page(entries, caller, tree, before))
            return to_json(list_page(entries, caller, selected, before))

        return await report(state, request, caller.key_id, made, FRESH)

    async def single(request: Request) -> Response:
        caller, request_id = await caller_of_page(request), request.path_params["request_id"]
        return await report(state, request, caller.key_id, lambda: to_json(detail(entries, caller, request_id)), FRESH)

    return [Route("/page/requests", page), Route("/page/requests/{request_id}", single)]


def _filter(caller: Caller, query: Mapping[str, str]) -> RecentFilter:
    """Returns the filter that the parameters of a URL's query describe. It selects only requests that the caller may
    see.

    query: has the parameters `endpoint`, `state`, `q` (a text in the prompt) and `erased` ("yes": only requests whose
        input and result were deleted; "no": only others). Missing and empty ones do not count.

    Raises RequestFailed with status 404 for an unknown endpoint, and ModelFailed (HTTP status 422) for an unknown
    state, a text that is too long, or another `erased` than "yes" or "no".
    """
    endpoint, state, text, erased = (
        query.get(name, "").replace("\0", " ").strip() or None for name in ("endpoint", "state", "q", "erased")
    )
    if state is not None and state not in SHOWN_STATES:
        raise invalid("state", f"Input should be one of {', '.join(SHOWN_STATES)}", state, "query")
    if text is not None and len(text) > MOST_SEARCHED:
        raise invalid("q", f"Input should have at most {MOST_SEARCHED} characters", text, "query")
    if erased not in (None, "yes", "no"):
        raise invalid("erased", "Input should be yes or no", erased, "query")
    shown: ShownState | None = next((one for one in SHOWN_STATES if one == state), None)
    is_erased = None if erased is None else erased == "yes"
    return RecentFilter(caller.visible_key, endpoint and existing_endpoint(endpoint), shown, text, is_erased)


def _sequence_number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else None


class Entries:
    """Makes entries: JSON objects with what the server's pages show of a request. Thread-safe.

    The parts of an entry that are read from the request's input and result are cached.
    """

    def __init__(self, state: ServerState) -> None:
        self.state = state
        self._lock = Lock()
        self._payloads: LRUCache[tuple[Any, ...], dict[str, Any]] = LRUCache(CACHE_SIZE)

    def of(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """Returns the entry of each request: its state and times, its model, its input and its result.

        Some members of an entry need only the request's row, such as state and progress. The others are:

        parent: the id of the request whose result this request extends; None if there is none.
        extended: True if this request is the first one of a tree: others extend its result, and it extends none.
        source: the relative address of the stored file with the source video; None if there is none.
        end_image: the relative address of the stored file with the request's end image; None if it has none, or if the
            file is no longer stored.
        video: relative URL and properties, such as width and height, of the result's video; None if there is none, or
            if its file is no longer stored.
        shared: the relative address of the page that shows the result to everybody; None if there is none.

        `rows` are the requests' rows in the database, with the columns that `recent.facts(COLUMNS)` selects.
        """
        entries = [self._facts(row) for row in rows]
        keys = [_result_key(entry) for entry in entries]
        images = [_key_of(entry["end_image"]) for entry in entries]
        readable = recent.stored_files(self.state.engine, [key for key in (*keys, *images) if key is not None])
        is_shared = self.state.shares_results()
        return [
            entry
            | {
                "parent": row.shown_parent,
                "extended": row.is_root,
                "source": None if row.shown_source is None else file_path(row.shown_source),
                "video": entry["video"] if key in readable else None,
                "end_image": entry["end_image"] if image in readable else None,
                "shared": f"shared/{key}" if is_shared and key is not None and readable.get(key) else None,
            }
            for row, entry, key, image in zip(rows, entries, keys, images, strict=True)
        ]

    def _facts(self, row: Any) -> dict[str, Any]:
        """Returns the part of a request's entry that needs no other request and no stored file: its state and times,
        its model, its prompt and result, the seconds spent in each stage of the work (`timings`, empty until it has
        ended), and, until it has ended, its queue position and progress.

        `row` is the request's row with the columns `COLUMNS`.
        """
        entry: dict[str, Any] = {name: getattr(row, name) for name in _SHOWN_COLUMNS}
        entry["state"] = shown_state(row.state, row.status_code)
        entry["timings"] = row.timings or {}
        entry |= _model_facts(row.headers or {})
        entry |= self._payload_facts(row)
        if row.state not in ENDED:
            status = self.state.statuses.get(row.id)
            entry["position"] = None if status is None else status.queue_position
            entry["progress"] = (
                None if status is None or status.row.progress is None else _progress(status.row.progress)
            )
        return entry

    def _payload_facts(self, row: Any) -> dict[str, Any]:
        """Returns what the server's pages show of a request's input and result: {prompt, end_image, seed, video}.

        prompt: from the input; empty if it has none.
        end_image: the relative address of the file with the input's end image; None if it names no file of a server.
        seed: from the result, or from the input while there is no result; None if neither has one.
        video: relative URL and properties, such as width and height, of the result's video; None if there is no video.

        These facts are cached. They are read again after the request has ended, and after its input and result have
        been deleted.

        `row` is the request's row with the columns `COLUMNS`.
        """
        key = row.id, row.completed_at, row.erased_at
        with self._lock:
            cached = self._payloads.get(key)
        if cached is None:
            cached = self._read_payload_facts(row)
            with self._lock:
                self._payloads[key] = cached
        return cached

    def _read_payload_facts(self, row: Any) -> dict[str, Any]:
        state = self.state
        input, output = input_and_result(state.engine, state.store.blobs, row.id, MAX_READ_BYTES)
        body, result = _json_object(input), _json_object(output)
        video = result.get("video") if row.state == "COMPLETED" and isinstance(result.get("video"), dict) else {}
        assert isinstance(video, dict)
        key = _file_key(video.get("url"))
        image = _file_key(body.get(str(ENDPOINTS[row.endpoint].end_image_field))) if row.endpoint in ENDPOINTS else None
        facts = {name: video.get(name) for name in ("width", "height", "duration", "num_frames", "content_type")}
        return {
            "prompt": str(body.get("prompt") or "")[:2000],
            "end_image": None if image is None else file_path(image),
            "seed": result["seed"] if result.get("seed") is not None else body.get("seed"),
            "video": None if key is None else {"url": file_path(key), **facts},
        }


def list_page(entries: Entries, caller: Caller, selected: RecentFilter, before: int | None) -> dict[str, Any]:
    """Returns one page of the list of requests that a filter selects, as a JSON object.

    before: None selects the page with the newest requests. For any other page, it is the member `older` of the page
        before it.

    The object has members about the server (such as its devices and the time, see `_surroundings`), and these:

    requests: up to 24 (PAGE_SIZE) entries of requests, newest first.
    older: the argument `before` for the next page, which has older requests; None if there are none. With a filter,
        there may be a next page although this one has fewer than 24 entries (see `recent.recent`).
    """
    found = recent.recent(entries.state.engine, COLUMNS, selected, limit=PAGE_SIZE, before=before)
    return {
        **_surroundings(entries.state, caller),
        "requests": entries.of(found.rows),
        "older": found.older,
    }


def tree_page(entries: Entries, caller: Caller, request_id: str, before: int | None) -> dict[str, Any]:
    """Returns the requests of a tree that the caller may see, newest first, at most 200 (TREE_SIZE).

    The result is a JSON object with the same members as that of `list_page`, such as `requests` and `older`.

    A tree is a request, the requests that extend its result, the requests that extend their results, and so on.

    request_id: the id of any request of the tree. If there is no such request, the list is empty.
    before: None for the newest requests. For the next older ones, the member `older` of the result with the requests
        that are newer than them.
    """
    engine, key_id = entries.state.engine, caller.visible_key
    found = recent.RecentPage((), None)
    if REQUEST_ID.fullmatch(request_id):
        found = recent.tree(engine, COLUMNS, request_id, key_id, limit=TREE_SIZE, before=before)
    return {**_surroundings(entries.state, caller), "requests": entries.of(found.rows), "older": found.older}


def _surroundings(state: ServerState, caller: Caller) -> dict[str, Any]:
    """Returns the members that the JSON objects of all lists of requests have beside the requests:

    waiting, running: the numbers of requests in these states that the caller may see.
    slots: {name, pool, state} of each slot of this server. A slot is a device with its worker process; a pool
        is a named group of devices.
    admin: True if the caller has all rights.
    now: the current Unix time in seconds.
    """
    return {
        "now": clock.now(),
        **recent.count_open(state.engine, caller.visible_key),
        "slots": [{"name": name, "pool": pool, "state": slot} for name, pool, slot in state.metrics.slots()],
        "admin": caller.is_admin,
    }


def detail(entries: Entries, caller: Caller, request_id: str) -> dict[str, Any]:
    """Returns what the server's pages show of one request: its entry (see `Entries.of`) and these members:

    input: the input as a JSON object, in which data URIs are cut (see `short_input`). None if it is not stored (any
        more), if the client does not let the server store it, or if the result would have more than 1 MiB
        (MAX_READ_BYTES).
    notes: sentences of the log for the user, such as what differs from the request.
    logs: the last 50 (MOST_LOGS) log lines, {timestamp, level, message} each.
    children: the ids of the newest 200 (TREE_SIZE) requests that extend the result, the oldest of them first.
    downloading: True if the request waits for files, such as its source, that the server still has to download.

    Raises NotFound if there is no such request, or the caller may not see it.
    """
    state, key_id = entries.state, caller.visible_key
    row = recent.one(state.engine, COLUMNS, request_id, key_id) if REQUEST_ID.fullmatch(request_id) else None
    status = None if row is None else state.statuses.get(request_id)
    if row is None or status is None:
        raise NotFound
    is_stored = row.store_io and row.erased_at is None
    body = short_input(state.engine, state.store.blobs, request_id, MAX_READ_BYTES) if is_stored else None
    of_tree = recent.tree(state.engine, COLUMNS, request_id, key_id, limit=TREE_SIZE, children_only=True)
    return {
        **entries.of([row])[0],
        "input": _json_object(body) or None,
        "notes": _notes(status.log_lines),
        "logs": [_log_entry(line) for line in status.log_lines[-MOST_LOGS:]],
        "children": [child.id for child in reversed(of_tree.rows)],
        "downloading": row.state == "IN_QUEUE" and fetches.is_open(state.engine, request_id),
    }


def _result_key(entry: Mapping[str, Any]) -> str | None:
    """Returns the key of the stored file with the result's video; None if there is no video.

    entry: what the server's pages show of a request, as a JSON object.
    """
    video = entry["video"]
    return None if video is None else _key_of(video["url"])


def _key_of(path: str | None) -> str | None:
    """Returns the key in the relative address of a stored file; None for None."""
    return None if path is None else path.rpartition("/")[2]


def _file_key(url: Any) -> str | None:
    """Returns the key of a file of a server in a URL of a request or a result; None for anything else."""
    key = key_in_url(str(url)[:2000])
    return key if key is not None and KEY.fullmatch(key) else None


def _notes(lines: Sequence[StoredLogLine]) -> list[str]:
    """Returns the messages in a request's log that the server wrote for the user, such as what differs from the
    request.

    The output of libraries, and messages that only say that a stage of the work begins, are left out.
    """
    return [line.message for line in lines if line.level == "INFO" and "stage" not in line.labels]


def _log_entry(line: StoredLogLine) -> dict[str, Any]:
    at = datetime.fromtimestamp(line.at, UTC).isoformat(timespec="milliseconds")
    return {"timestamp": at, "level": line.level, "message": line.message}


def _json_object(content: bytes | None) -> dict[str, Any]:
    """Returns the JSON object in `content`, or an empty dictionary if `content` is None or not a JSON object."""
    try:
        value = json.loads(content or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _model_facts(headers: Mapping[str, str]) -> dict[str, str | None]:
    """Returns what the server's pages show of the model that made a video: {model, stand_in}.

    model: the model's name.
    stand_in: a sentence that this model replaces the one that the endpoint names.

    Each value is None if `headers`, the headers of the request's result, do not contain it.
    """
    return {"model": headers.get("x-longtake-model"), "stand_in": headers.get("x-longtake-stand-in")}


def _progress(progress: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the server's pages show of a running request's progress: message, stage, share, and the numbers of
    `Progress`: step, steps, window, windows, pass and passes. A window is a group of frames that are sampled together,
    a pass is a run through the sampling steps.

    message: the text for people.
    stage: the name of the current stage of the work.
    share: the finished part (0..1) of the current stage of the work.
    """
    # A server of an older version, which may still run on the same database, stores no passes.
    numbers = {name: progress.get(name, 1) for name in ("step", "steps", "window", "windows", "pass", "passes")}
    share = Progress(progress["stage"], *numbers.values()).share
    return {"message": progress["message"], "stage": progress["stage"], "share": share, **numbers}
