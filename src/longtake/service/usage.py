"""Reports of costs: sums by endpoint and time, and the prices of endpoints."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from longtake.endpoints import ENDPOINTS, prices
from longtake.queue.history import Cost
from longtake.settings import Settings

DAY_S = 86_400
TIMEFRAMES_S = {"minute": 60, "hour": 3600, "day": DAY_S, "week": 7 * DAY_S}
"""Value of the query parameter `timeframe` -> the length in seconds of one bucket in the time series of the usage."""
USAGE_SPANS_S = {"minute": DAY_S, "hour": 7 * DAY_S, "day": 30 * DAY_S, "week": 90 * DAY_S}
"""Value of the query parameter `timeframe` -> the default length in seconds of the reported time, if the parameter
`start` is missing. A price estimate from past requests uses the length of `day`."""
MAX_BUCKETS = DAY_S // 60
"""Maximum number of buckets (spans of time, such as minutes) in one answer with the time series of the usage. A client
that sends the answer's cursor gets the buckets after them."""


def price(settings: Settings, endpoint: str) -> dict[str, Any]:
    """Returns the price of one unit of the endpoint with this id, in US dollars: {unit_price, unit, currency}.

    It is the operator's price if `settings.prices` has one, otherwise fal's. Raises KeyError for an unknown id.
    """
    tariff = ENDPOINTS[endpoint].tariff.priced(prices(settings).get(endpoint))
    return {"unit_price": float(tariff.usd), "unit": tariff.unit, "currency": "USD"}


def all_prices(settings: Settings) -> dict[str, dict[str, Any]]:
    """Returns the price of one unit of each endpoint: endpoint id -> the result of `price`."""
    return {endpoint: price(settings, endpoint) for endpoint in ENDPOINTS}


def summary(units: Mapping[str, Mapping[str, Any]], costs: Iterable[Cost]) -> list[dict[str, Any]]:
    """Returns the sum for each endpoint in `costs`: {endpoint_id, unit_price, unit, currency, quantity, cost}.

    `units` is the result of `all_prices`. `quantity` is in units of the endpoint, `unit_price` and `cost` are in US
    dollars.

    `costs` have no quantities. The quantity of an endpoint is therefore its cost divided by its current unit price, or
    0 if the unit price is 0. Unknown endpoints are left out.
    """
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for cost in costs:
        sums[cost.endpoint] += cost.price_usd
    entries = []
    for endpoint, total in sums.items():
        if endpoint in units:
            unit = units[endpoint]
            quantity = float(total) / unit["unit_price"] if unit["unit_price"] else 0.0
            entries.append({"endpoint_id": endpoint, **unit, "quantity": quantity, "cost": float(total)})
    return entries


def time_series(
    units: Mapping[str, Mapping[str, Any]], costs: Sequence[Cost]
) -> tuple[list[dict[str, Any]], str | None]:
    """Returns (entries, cursor): the sums of `costs` for each span of time (minute, hour, day or week) that has costs.

    entries: {bucket, results} for each span, the earliest first, at most 1440 (MAX_BUCKETS). `bucket` is the span's
        beginning as ISO 8601 text. `results` are the entries that `summary` returns for the costs of the span.
    cursor: the beginning, in Unix seconds and as text, of the first span that is left out. None if none is left out.

    `units`: endpoint id -> the unit of the endpoint and its price, as `all_prices` returns them.
    """
    buckets: dict[float, list[Cost]] = defaultdict(list)
    for cost in costs:
        buckets[cost.start].append(cost)
    starts = sorted(buckets)
    entries = [{"bucket": iso_time(start), "results": summary(units, buckets[start])} for start in starts[:MAX_BUCKETS]]
    return entries, f"{starts[MAX_BUCKETS]:.0f}" if len(starts) > MAX_BUCKETS else None


def unit_cost(settings: Settings, endpoint: str, past: Sequence[Cost]) -> Decimal:
    """Returns the mean price in US dollars of the endpoint's requests in `past`.

    `past` may also contain costs of other endpoints, which do not count. If it contains none of this endpoint, the
    endpoint's price of one unit is returned.
    """
    own = [cost for cost in past if cost.endpoint == endpoint]
    if not own:
        return Decimal(str(price(settings, endpoint)["unit_price"]))
    return sum((cost.price_usd for cost in own), Decimal(0)) / sum(cost.count for cost in own)


def iso_time(at: float | None) -> str | None:
    """Returns a Unix time in seconds as ISO 8601 text in UTC, or None for None."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()
