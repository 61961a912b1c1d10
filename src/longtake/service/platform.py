"""fal's platform API: which models there are, their prices, what was used, and the requests of the past."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from longtake.access.keys import Caller
from longtake.access.signing import Signer
from longtake.endpoints import ENDPOINTS, prices
from longtake.endpoints.validation import problem
from longtake.queue import history
from longtake.queue.history import Cost, HistoryFilter
from longtake.queue.requests import RequestRow
from longtake.service import body, openapi
from longtake.service.auth import caller_of, own
from longtake.service.errors import ModelFailed, NotFound, RequestFailed, answer
from longtake.service.following import view_of
from longtake.service.intake import known
from longtake.service.names import ID
from longtake.service.parts import Parts
from longtake.settings import Settings

MOST = 100
"""Entries of one page."""
DAY_S = 86_400
FRAMES_S = {"minute": 60, "hour": 3600, "day": DAY_S, "week": 7 * DAY_S}
OUTCOMES = {"success": (200, 300), "user_error": (400, 500), "error": (400, 600)}
"""The outcomes that requests are asked for by, as ranges of HTTP statuses."""
SMALL_BODY = 1024 * 1024


def routes(parts: Parts) -> list[BaseRoute]:
    async def models(request: Request) -> Response:
        await caller_of(request)
        asked = _endpoints(request) or list(ENDPOINTS)
        expanded = "openapi-3.0" in _expanded(request)
        queue = request.scope["longtake.base"]
        return answer(_paged({"models": [_model(one, queue if expanded else None) for one in asked]}))

    async def pricing(request: Request) -> Response:
        await caller_of(request)
        asked = _endpoints(request) or list(ENDPOINTS)
        return answer(_paged({"prices": [{"endpoint_id": one, **price(parts.settings, one)} for one in asked]}))

    async def estimate(request: Request) -> Response:
        caller = await caller_of(request)
        asked = await body.json_of(request, SMALL_BODY)
        kind, quantities = _quantities(asked)
        past = await parts.ask(history.costs, parts.engine, HistoryFilter(tuple(quantities), _whose(caller)))
        total = sum(
            (
                Decimal(str(quantity)) * _unit(parts.settings, one, past if kind == "historical_api_price" else ())
                for one, quantity in quantities.items()
            ),
            Decimal(0),
        )
        return answer({"estimate_type": kind, "total_cost": float(total), "currency": "USD"})

    async def usage(request: Request) -> Response:
        caller = await caller_of(request)
        span = _span(request, caller)
        found = await parts.ask(history.costs, parts.engine, span)
        expanded = _expanded(request) or {"time_series"}
        used: dict[str, Any] = {}
        if "time_series" in expanded:
            seconds = FRAMES_S.get(request.query_params.get("timeframe", "day"), DAY_S)
            used["time_series"] = _series(parts.settings, found, seconds)
        if "summary" in expanded:
            used["summary"] = _summed(parts.settings, found)
        return answer(_paged(used))

    async def by_endpoint(request: Request) -> Response:
        caller, query = await caller_of(request), request.query_params
        limit = _whole(query.get("limit"), "limit", 1, MOST) or MOST // 2
        payloads, wanted = "payloads" in _expanded(request), query.get("request_id")
        if wanted and not ID.fullmatch(wanted):
            raise _wrong("request_id", "Input should be the id of a request", wanted, "query")
        rows = await parts.ask(
            history.page,
            parts.engine,
            _span(request, caller),
            limit=limit + 1,
            before=_whole(query.get("cursor"), "cursor", 0, 2**62),
            codes=_codes(query.get("status")),
            request_id=wanted or None,
            payloads=payloads,
        )
        more = len(rows) > limit
        items = [past_request(row, payloads=payloads) for row in rows[:limit]]
        return answer(_paged({"items": items}, str(rows[limit - 1].seq) if more else None))

    return [
        Route("/v1/models", models),
        Route("/v1/models/pricing", pricing),
        Route("/v1/models/pricing/estimate", estimate, methods=["POST"]),
        Route("/v1/models/usage", usage),
        Route("/v1/models/requests/by-endpoint", by_endpoint),
        Route("/v1/serverless/requests/by-endpoint", by_endpoint),
        Route("/v1/models/requests/{request_id}/payloads", _deletion(parts), methods=["DELETE"]),
    ]


def rest_routes(parts: Parts) -> list[BaseRoute]:
    """The keys that webhooks are signed with, and the older place of payload deletion."""
    signer = Signer(parts.settings.data_dir)

    async def jwks(_: Request) -> Response:
        return answer(await parts.ask(signer.jwks), headers={"cache-control": "public, max-age=3600"})

    return [
        Route("/.well-known/jwks.json", jwks),
        Route("/requests/delete_io/{request_id}", _deletion(parts), methods=["PUT"]),
    ]


def _deletion(parts: Parts) -> Any:
    async def delete(request: Request) -> Response:
        caller, request_id = await caller_of(request), request.path_params["request_id"]
        view = await view_of(parts, request_id) if ID.fullmatch(request_id) else None
        if view is None:
            raise NotFound
        own(caller, view.row)
        if not await parts.ask(history.erase, parts.engine, request_id):
            raise RequestFailed(400, "Request is still in progress", None, {"x-fal-request-id": request_id})
        parts.board.mark_changed(request_id)
        links = await parts.ask(parts.store.delete_of_request, request_id)
        results = [{"link": link, "exception": None} for link in links]
        return answer({"cdn_delete_results": results}, headers={"x-fal-request-id": request_id})

    return delete


def price(settings: Settings, endpoint: str) -> dict[str, Any]:
    """What a unit of an endpoint costs, and what a unit is."""
    tariff = ENDPOINTS[endpoint].tariff.priced(prices(settings).get(endpoint))
    return {"unit_price": float(tariff.usd), "unit": tariff.unit, "currency": "USD"}


def past_request(row: RequestRow, *, payloads: bool) -> dict[str, Any]:
    """A request of the past. What it held is told where it was to be kept: not without store-IO, and no media that was
    sent inside the result."""
    told: dict[str, Any] = {
        "request_id": row.id,
        "endpoint_id": row.endpoint,
        "state": row.state,
        "sent_at": _iso(row.created_at),
        "started_at": _iso(row.started_at),
        "ended_at": _iso(row.completed_at),
        "status_code": row.status_code,
        "duration": None
        if row.started_at is None or row.completed_at is None
        else max(0.0, row.completed_at - row.started_at),
        "cost": float(row.price_usd),
    }
    if payloads:
        given = from_json(row.body) if row.store_io else None
        inside = isinstance(given, dict) and given.get("sync_mode") is True
        told["json_input"] = given
        told["json_output"] = from_json(row.output) if row.store_io and row.output and not inside else None
    return told


def _paged(value: Mapping[str, Any], cursor: str | None = None) -> dict[str, Any]:
    return {**value, "next_cursor": cursor, "has_more": cursor is not None}


def _model(endpoint: str, queue: str | None) -> dict[str, Any]:
    document = {} if queue is None else {"openapi": openapi.document(endpoint, queue)}
    return {
        "endpoint_id": endpoint,
        "metadata": {
            "display_name": endpoint,
            "category": "video-to-video",
            "description": ENDPOINTS[endpoint].title,
            "status": "active",
            "tags": ["extend"],
        },
        **document,
    }


def _summed(settings: Settings, costs: Iterable[Cost]) -> list[dict[str, Any]]:
    """Per endpoint what was used. `quantity` is in the endpoint's units, at its price of today."""
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for one in costs:
        sums[one.endpoint] += one.price_usd
    told = []
    for endpoint, cost in sums.items():
        if endpoint in ENDPOINTS:
            unit = price(settings, endpoint)
            quantity = float(cost) / unit["unit_price"] if unit["unit_price"] else 0.0
            told.append({"endpoint_id": endpoint, **unit, "quantity": quantity, "cost": float(cost)})
    return told


def _series(settings: Settings, costs: Iterable[Cost], seconds: int) -> list[dict[str, Any]]:
    buckets: dict[float, list[Cost]] = defaultdict(list)
    for one in costs:
        buckets[one.at // seconds * seconds].append(one)
    return [{"bucket": _iso(start), "results": _summed(settings, buckets[start])} for start in sorted(buckets)]


def _unit(settings: Settings, endpoint: str, past: Sequence[Cost]) -> Decimal:
    """What one costs: the mean of the past ones, where there are some, or the price."""
    mine = [one.price_usd for one in past if one.endpoint == endpoint]
    return sum(mine, Decimal(0)) / len(mine) if mine else Decimal(str(price(settings, endpoint)["unit_price"]))


def _quantities(asked: Any) -> tuple[str, dict[str, float]]:
    names = {"historical_api_price": "call_quantity", "unit_price": "unit_quantity"}
    kind = asked.get("estimate_type") if isinstance(asked, dict) else None
    if not isinstance(kind, str) or kind not in names:
        raise _wrong("estimate_type", f"Input should be one of {', '.join(names)}", kind)
    endpoints = asked.get("endpoints")
    if not isinstance(endpoints, dict) or not endpoints:
        raise _wrong("endpoints", "Input should be an object: endpoint id to its quantity", endpoints)
    quantities = {}
    for one, of_it in endpoints.items():
        quantity = of_it.get(names[kind]) if isinstance(of_it, dict) else None
        if isinstance(quantity, bool) or not isinstance(quantity, int | float) or not 0 <= quantity <= 1e12:
            raise _wrong(names[kind], "Input should be a number from 0 to 1e12", quantity)
        quantities[known(one)] = quantity
    return kind, quantities


def _wrong(name: str, reason: str, given: Any, where: str = "body") -> ModelFailed:
    return ModelFailed([problem(loc=(name,), msg=reason, type="value_error", input=given, place=where)])


def _endpoints(request: Request) -> list[str]:
    """The endpoints that the query names, separated by commas or each on its own."""
    named = (one for several in request.query_params.getlist("endpoint_id") for one in several.split(","))
    return [known(one) for one in named if one]


def _expanded(request: Request) -> set[str]:
    return {one for several in request.query_params.getlist("expand") for one in several.split(",") if one}


def _span(request: Request, caller: Caller) -> HistoryFilter:
    query = request.query_params
    start, end = (_time(query.get(name), name) for name in ("start", "end"))
    return HistoryFilter(tuple(_endpoints(request)), _whose(caller), start, end)


def _whose(caller: Caller) -> str | None:
    return None if caller.scope == "admin" else caller.key_id


def _time(given: str | None, name: str) -> float | None:
    if not given:
        return None
    try:
        moment = datetime.fromisoformat(given.replace(" ", "+"))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise _wrong(name, "Input should be a time as in 2026-01-31T12:00:00Z", given, "query") from None


def _whole(given: str | None, name: str, least: int, most: int) -> int | None:
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 20 and least <= int(given) <= most):
        raise _wrong(name, f"Input should be a whole number from {least} to {most}", given, "query")
    return int(given)


def _codes(status: str | None) -> tuple[int, int] | None:
    if not status:
        return None
    if status not in OUTCOMES:
        raise _wrong("status", f"Input should be one of {', '.join(OUTCOMES)}", status, "query")
    return OUTCOMES[status]


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()
