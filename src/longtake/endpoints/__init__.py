"""All endpoints by id, and functions that look them up. Each endpoint is defined in a module of its own."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from longtake.endpoints.endpoint import Endpoint
from longtake.endpoints.tariff import Prices
from longtake.errors import InvalidRequest
from longtake.settings import Settings

__all__ = ["DEFAULT", "ENDPOINTS", "Endpoint", "Prices", "by_id", "endpoint", "model_notes", "prices"]

MODULES = (
    "ltxv098",
    "ltx23",
    "ltx23_lora",
    "ltx23_quality",
    "ltx23_seconds",
    "ltxv097",
    "ltxv097_dev",
    "ltxv097_distilled",
)
"""Modules of this folder that define an endpoint, in the order in which help texts and the gallery list the endpoints:
the default first, then the newest."""


def _endpoint_of(module: str) -> Endpoint[Any, Any]:
    found: Endpoint[Any, Any] = import_module(f"longtake.endpoints.{module}").ENDPOINT
    return found


ENDPOINTS: dict[str, Endpoint[Any, Any]] = {one.id: one for one in map(_endpoint_of, MODULES)}
if len({one.name for one in ENDPOINTS.values()}) != len(MODULES):
    raise ValueError("Two endpoints have the same id or name.")

DEFAULT = "0.9.8"
"""Short name of the endpoint that the command line and the library use by default."""


def endpoint(name: str | None) -> Endpoint[Any, Any]:
    """Returns the endpoint that `name` selects; None selects the default endpoint.

    `name` is an id, a short name (`0.9.8`) or a part that only one id contains. Raises InvalidRequest if no endpoint
    matches, or if several match.
    """
    name = DEFAULT if name is None else name
    exact = [one for one in ENDPOINTS.values() if name in (one.id, one.name)]
    found = exact or [one for one in ENDPOINTS.values() if name and name in one.id]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{one.name} ({one.id})" for one in found or ENDPOINTS.values())
    reason = f"{name[:200]!r} fits several endpoints" if found else f"There is no endpoint {name[:200]!r}"
    raise InvalidRequest(
        f"{reason}: {known}." if found else f"{reason}; there are {known}.", loc=("endpoint",), value=name
    )


def by_id(named: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of the mapping in which every key is an endpoint's id. The values stay the same.

    The keys of `named` are ids, short names or parts of ids, as `endpoint` accepts them. Raises InvalidRequest if a key
    matches no endpoint, or if two keys match the same one.
    """
    found = {name: endpoint(name).id for name in named}
    twice = [name for name, one in found.items() if list(found.values()).count(one) > 1]
    if twice:
        raise InvalidRequest(f"{' and '.join(twice)} name the same endpoint; give one of them.", value=twice[0])
    return {found[name]: value for name, value in named.items()}


def model_notes(settings: Settings) -> list[str]:
    """Returns sentences for the user about the endpoints' published models that are not installed, each one once.

    The first sentence names all models for which a miniature (a small model in the package) stands in. Each other one
    is about a model for which none does.
    """
    choices = [one.model_choice(settings) for one in ENDPOINTS.values()]
    replaced = dict.fromkeys(choice.stands_in_for for choice in choices if choice.stands_in_for is not None)
    others = dict.fromkeys(choice.note for choice in choices if choice.note is not None and not choice.stands_in_for)
    if not replaced:
        return list(others)
    sentence = (
        "Miniatures, which make simple moving shapes, stand in for models that are not installed: "
        f"{', '.join(replaced)}. `longtake models pull NAME` fetches one."
    )
    return [sentence, *others]


def prices(settings: Settings) -> Prices:
    """Returns the prices that the operator has set in `settings.prices`: endpoint id -> prices of this endpoint.

    An endpoint without an entry keeps the prices of its own `tariff`. Raises InvalidRequest if a key of the setting is
    not the full id of an endpoint; short names are not accepted.
    """
    unknown = [name for name in settings.prices if name not in ENDPOINTS]
    if unknown:
        raise InvalidRequest(
            f"LONGTAKE_PRICES names {unknown[0][:200]!r}, which is no endpoint's id; there are {', '.join(ENDPOINTS)}."
        )
    return settings.prices
