"""fal's platform API: models, prices, usage, past requests and the deletion of their payloads."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from longtake import clock
from longtake.access.keys import Caller
from longtake.access.signing import Signer
from longtake.endpoints import ENDPOINTS
from longtake.queue import history
from longtake.queue.addresses import REQUEST_ID
from longtake.queue.erasure import erase
from longtake.queue.history import HistoryFilter
from longtake.queue.payloads import has_video_inside, input_and_result
from longtake.queue.requests import RequestRow
from longtake.service import openapi
from longtake.service.auth import caller_of, caller_with_key, visible_row
from longtake.service.bodies import read_json
from longtake.service.queue import status_of
from longtake.service.reports import report
from longtake.service.responses import NotFound, RequestFailed, invalid, json_response, to_json, whole_number
from longtake.service.state import ServerState
from longtake.service.submit import existing_endpoint
from longtake.service.usage import (
    MAX_BUCKETS,
    TIMEFRAMES_S,
    USAGE_SPANS_S,
    all_prices,
    iso_time,
    price,
    summary,
    time_series,
    unit_cost,
)
from longtake.settings import Settings

MAX_PAGE_SIZE = 100
"""Maximum number of past requests in one answer; the default is half of it."""
STATUS_CODES = {"success": (200, 300), "user_error": (400, 500), "error": (400, 600)}
"""Value of the query parameter `status` -> the HTTP statuses that it selects: from the first number up to but not
including the second."""
PAGE_BYTES = 1024 * 1024
"""Maximum size in bytes of a page with past requests. Requests that do not fit are on the next page, but each page has
at least one. An input or result that is larger than this is null."""


def routes(state: ServerState) -> list[BaseRoute]:
    """Returns the routes of fal's platform API: models, prices, usage, past requests and the deletion of payloads."""

    async def models(request: Request) -> Response:
        caller = await caller_of(request)
        selected = _endpoints(request) or list(ENDPOINTS)
        queue_url = request.scope["longtake.base_url"] if "openapi-3.0" in _expand(request) else None
        return await report(
            state,
            request,
            caller.key_id,
            lambda: _page({"models": _array(_models(state.settings, selected, queue_url))}),
        )

    async def pricing(request: Request) -> Response:
        await caller_of(request)
        selected = _endpoints(request) or list(ENDPOINTS)
        entries = [{"endpoint_id": endpoint, **price(state.settings, endpoint)} for endpoint in selected]
        return Response(_page({"prices": to_json(entries)}), media_type="application/json")

    async def estimate(request: Request) -> Response:
        caller = await caller_with_key(request)
        kind, quantities = _quantities(await read_json(request, state, caller.key_id))
        selected = HistoryFilter(tuple(quantities), caller.visible_key, start=clock.now() - USAGE_SPANS_S["day"])

        def estimated() -> bytes:
            past = history.costs(state.engine, selected) if kind == "historical_api_price" else ()
            costs = [Decimal(str(number)) * unit_cost(state.settings, one, past) for one, number in quantities.items()]
            total = float(sum(costs, Decimal(0)))
            return to_json({"estimate_type": kind, "total_cost": total, "currency": "USD"})

        return await report(state, request, caller.key_id, estimated)

    async def usage(request: Request) -> Response:
        caller = await caller_with_key(request)
        timeframe = request.query_params.get("timeframe", "day")
        timeframe = timeframe if timeframe in TIMEFRAMES_S else "day"
        selected = _filter(request, caller, USAGE_SPANS_S[timeframe])
        after = whole_number(request.query_params, "cursor", 0, 2**62)
        expand = _expand(request) or {"time_series"}

        def summed() -> bytes:
            units, cursor = all_prices(state.settings), None
            members: dict[str, bytes] = {}
            if "time_series" in expand:
                rest = selected if after is None else replace(selected, start=float(after))
                limit = (MAX_BUCKETS + 1) * len(ENDPOINTS)
                found = history.costs(state.engine, rest, TIMEFRAMES_S[timeframe], limit)
                entries, cursor = time_series(units, found)
                # One call for all of them would stop the other threads for 100 ms.
                members["time_series"] = _array(map(to_json, entries))
            if "summary" in expand:
                members["summary"] = to_json(summary(units, history.costs(state.engine, selected)))
            return _page(members, cursor)

        return await report(state, request, caller.key_id, summed)

    async def past_requests(request: Request) -> Response:
        caller, query = await caller_with_key(request), request.query_params
        limit = whole_number(query, "limit", 1, MAX_PAGE_SIZE) or MAX_PAGE_SIZE // 2
        payloads, request_id = "payloads" in _expand(request), query.get("request_id")
        if request_id and not REQUEST_ID.fullmatch(request_id):
            raise invalid("request_id", "Input should be the id of a request", request_id, "query")
        selected, codes = _filter(request, caller), _status_codes(query.get("status"))
        before = whole_number(query, "cursor", 0, 2**62)

        def listed() -> bytes:
            rows = history.page(
                state.engine, selected, limit=limit + 1, before=before, codes=codes, request_id=request_id or None
            )
            items = _past_requests(state, rows[:limit], payloads=payloads)
            return _page({"items": _array(items)}, str(rows[len(items) - 1].seq) if len(rows) > len(items) else None)

        return await report(state, request, caller.key_id, listed)

    return [
        Route("/v1/models", models),
        Route("/v1/models/pricing", pricing),
        Route("/v1/models/pricing/estimate", estimate, methods=["POST"]),
        Route("/v1/models/usage", usage),
        Route("/v1/models/requests/by-endpoint", past_requests),
        Route("/v1/serverless/requests/by-endpoint", past_requests),
        Route("/v1/models/requests/{request_id}/payloads", _deletion(state), methods=["DELETE"]),
    ]


def rest_routes(state: ServerState) -> list[BaseRoute]:
    """Returns two routes of the service `rest`: for the public keys of webhooks, and for the deletion of payloads.

    A payload is the input and the result of a request. Older programs delete payloads here, newer ones through the
    platform API.
    """
    signer = Signer(state.settings.data_dir)

    async def jwks(_: Request) -> Response:
        body = await state.call_with_retries(signer.jwks)
        return json_response(body, headers={"cache-control": "public, max-age=3600"})

    return [
        Route("/.well-known/jwks.json", jwks),
        Route("/requests/delete_io/{request_id}", _deletion(state), methods=["PUT"]),
    ]


def _deletion(state: ServerState) -> Callable[[Request], Awaitable[Response]]:
    """Returns the function of a route that deletes the input, the result and the files of an ended request."""

    async def delete(request: Request) -> Response:
        caller, request_id = await caller_with_key(request), request.path_params["request_id"]
        status = await status_of(state, request_id) if REQUEST_ID.fullmatch(request_id) else None
        if status is None:
            raise NotFound
        visible_row(caller, status.row)
        if not await state.call_for_with_retries(caller.key_id, erase, state.store, request_id):
            raise RequestFailed(400, "Request is still in progress", None, {"x-fal-request-id": request_id})
        state.statuses.mark_changed(request_id)
        links = await state.call_for_with_retries(caller.key_id, state.store.delete_of_request, request_id)
        results = [{"link": link, "exception": None} for link in links]
        return json_response({"cdn_delete_results": results}, headers={"x-fal-request-id": request_id})

    return delete


def _past_requests(state: ServerState, rows: Sequence[RequestRow], *, payloads: bool) -> list[bytes]:
    """Returns past requests as JSON, in the form of the platform API: one item for each of `rows`, in their order.

    If `payloads` is True, the items contain the requests' inputs and outputs. The last rows are left out if all items
    together would have more than 1 MiB (PAGE_BYTES), but the first row is always included.
    """
    items: list[bytes] = []
    size = 0
    for row in rows:
        item = to_json(_past_request(row))
        if payloads:
            item = item[:-1] + _payload_members(state, row) + b"}"
        size += len(item)
        if items and size > PAGE_BYTES:
            break
        items.append(item)
    return items


def _past_request(row: RequestRow) -> dict[str, Any]:
    return {
        "request_id": row.id,
        "endpoint_id": row.endpoint,
        "state": row.state,
        "sent_at": iso_time(row.created_at),
        "started_at": iso_time(row.started_at),
        "ended_at": iso_time(row.completed_at),
        "status_code": row.status_code,
        "duration": None
        if row.started_at is None or row.completed_at is None
        else max(0.0, row.completed_at - row.started_at),
        "cost": float(row.price_usd),
    }


def _payload_members(state: ServerState, row: RequestRow) -> bytes:
    """Returns the members `json_input` and `json_output` of a past request as JSON, with a comma before each.

    - A member is null if it is not stored, or if the client asked not to store it.
    - A member of more than 1 MiB (PAGE_BYTES) is null.
    - `json_output` is null if it contains the video as a data URI.
    """
    # The stored JSON can be large, so it is copied and not parsed.
    body, output = None, None
    if row.store_io:
        body, output = input_and_result(state.engine, state.store.blobs, row.id, PAGE_BYTES)
    if output is not None and has_video_inside(output):
        output = None
    return b',"json_input":' + (body or b"null") + b',"json_output":' + (output or b"null")


def _page(members: Mapping[str, bytes], cursor: str | None = None) -> bytes:
    """Returns a page of a list as JSON: an object with `members`, and with the cursor of the next page, which is null
    on the last page.

    `members`: name -> value, which is JSON.
    `cursor`: the cursor of the next page; None if this is the last page.
    """
    whole = {**members, "next_cursor": to_json(cursor), "has_more": to_json(cursor is not None)}
    return b"{%s}" % b",".join(b'"%s":%s' % (name.encode(), value) for name, value in whole.items())


def _array(items: Iterable[bytes]) -> bytes:
    """Returns a JSON array of `items`, which are JSON."""
    return b"[%s]" % b",".join(items)


def _models(settings: Settings, endpoints: Sequence[str], queue_url: str | None) -> list[bytes]:
    """Returns the descriptions of these endpoints as JSON, in the form of the platform API.

    `queue_url` is the URL of the server's service `queue` as the client sees it, such as `http://host/queue`. With it
    each description contains the endpoint's OpenAPI document; with None it does not.
    """
    items = [to_json(_model(endpoint, settings)) for endpoint in endpoints]
    if queue_url is None:
        return items
    documents = [openapi.document_json(endpoint, queue_url) for endpoint in endpoints]
    return [item[:-1] + b',"openapi":' + one + b"}" for item, one in zip(items, documents, strict=True)]


def _model(endpoint: str, settings: Settings) -> dict[str, Any]:
    """Returns the description of the endpoint with this id in the form of the platform API.

    It does not contain the endpoint's OpenAPI document.

    Its entry `longtake` says which model answers on a machine with these settings: {model, stands_in_for, installed,
    note, sound}. The first four are as in `models.choice.ModelChoice`; `sound` is true if the endpoint's models make
    sound.
    """
    choice = ENDPOINTS[endpoint].model_choice(settings)
    return {
        "endpoint_id": endpoint,
        "metadata": {
            "display_name": ENDPOINTS[endpoint].display_name,
            "category": "video-to-video",
            "description": ENDPOINTS[endpoint].title,
            "status": "active",
            "tags": ["extend"],
        },
        "longtake": {
            "model": choice.card.name,
            "stands_in_for": choice.stands_in_for,
            "installed": choice.installed,
            "note": choice.note,
            "sound": ENDPOINTS[endpoint].family.makes_sound,
        },
    }


def _quantities(body: Any) -> tuple[str, dict[str, float]]:
    """Returns (kind, quantities) of the price estimate that a JSON body asks for.

    kind: `historical_api_price` or `unit_price`.
    quantities: endpoint id -> number of requests (for `historical_api_price`) or of units (for `unit_price`).

    Raises ModelFailed (HTTP status 422) for an invalid body, and RequestFailed with status 404 for an unknown endpoint.
    """
    names = {"historical_api_price": "call_quantity", "unit_price": "unit_quantity"}
    kind = body.get("estimate_type") if isinstance(body, dict) else None
    if not isinstance(kind, str) or kind not in names:
        raise invalid("estimate_type", f"Input should be one of {', '.join(names)}", kind)
    endpoints = body.get("endpoints")
    if not isinstance(endpoints, dict) or not endpoints:
        raise invalid("endpoints", "Input should be an object: endpoint id to its quantity", endpoints)
    quantities = {}
    for endpoint, entry in endpoints.items():
        quantity = entry.get(names[kind]) if isinstance(entry, dict) else None
        if isinstance(quantity, bool) or not isinstance(quantity, int | float) or not 0 <= quantity <= 1e12:
            raise invalid(names[kind], "Input should be a number from 0 to 1e12", quantity)
        quantities[existing_endpoint(endpoint)] = quantity
    return kind, quantities


def _filter(request: Request, caller: Caller, span_s: float | None = None) -> HistoryFilter:
    """Returns a filter for past requests: those that the caller may see and that match the query's parameters.

    The parameters are `endpoint_id`, `start` and `end`. If `start` is missing, the filter starts `span_s` seconds
    before `end`, or before now if `end` is missing too. With a `span_s` of None it then has no start.

    Raises ModelFailed (HTTP status 422) for an invalid time, and RequestFailed with status 404 for an unknown endpoint.
    """
    query = request.query_params
    start, end = (_time(query.get(name), name) for name in ("start", "end"))
    if start is None and span_s is not None:
        start = (clock.now() if end is None else end) - span_s
    return HistoryFilter(tuple(_endpoints(request)), caller.visible_key, start, end)


def _endpoints(request: Request) -> list[str]:
    """Returns the endpoint ids in the query's parameter `endpoint_id`.

    The parameter may be repeated, and may contain several ids separated by commas. An id that comes again is left out.
    Raises RequestFailed with status 404 for an unknown id.
    """
    return list(dict.fromkeys(existing_endpoint(name) for name in _list_parameter(request, "endpoint_id")))


def _expand(request: Request) -> set[str]:
    return set(_list_parameter(request, "expand"))


def _list_parameter(request: Request, name: str) -> list[str]:
    """Returns the items of the query parameter with this name.

    The parameter may be repeated, and may contain several items separated by commas.
    """
    return [item for value in request.query_params.getlist(name) for item in value.split(",") if item]


def _time(value: str | None, name: str) -> float | None:
    """Returns the Unix time in seconds of an ISO 8601 time (UTC if it has no offset), or None for an empty value.

    Raises ModelFailed (HTTP status 422) if `value` is not such a time. The error names the query parameter `name`.
    """
    if not value:
        return None
    try:
        moment = datetime.fromisoformat(value.replace(" ", "+"))  # An unescaped + in a query is parsed as a space.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise invalid(name, "Input should be a time as in 2026-01-31T12:00:00Z", value, "query") from None


def _status_codes(value: str | None) -> tuple[int, int] | None:
    if not value:
        return None
    if value not in STATUS_CODES:
        raise invalid("status", f"Input should be one of {', '.join(STATUS_CODES)}", value, "query")
    return STATUS_CODES[value]
