"""A request of an endpoint becomes options and a plan, as in `prepare`, but without a file."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from longtake.clip import Source
from longtake.endpoints import Endpoint
from longtake.endpoints.validation import parse
from longtake.models.registry import ModelCard, card

CLIP = Source("mp4", "h264", 1920, 1080, Fraction(24000, 1001), 100)
PROMPT = "a prompt"
SEED = 7


def request_of(endpoint: Endpoint[Any, Any], fields: Mapping[str, Any]) -> Any:
    """The request with a prompt, the source `x` and these fields; those of a nested object join what is there."""
    data: dict[str, Any] = {"prompt": PROMPT, **fields}
    *parents, last = endpoint.source
    place = data
    for name in parents:
        place[name] = place = dict(place.get(name, {}))
    place.setdefault(last, "x")
    return parse(endpoint.Request, data)


def options_of(endpoint: Endpoint[Any, Any], fields: Mapping[str, Any], source: Source = CLIP) -> Any:
    return endpoint.options(request_of(endpoint, fields), source)


def plan_of(
    endpoint: Endpoint[Any, Any],
    fields: Mapping[str, Any],
    source: Source = CLIP,
    model: ModelCard | None = None,
    *,
    new_frames: int | None = None,
    prices: Mapping[str, Any] = {},
) -> Any:
    """The plan by the published model of the endpoint, or `model`; `new_frames`: as the command line asks."""
    options = options_of(endpoint, fields, source)
    if new_frames is not None:
        options = replace(options, new_frames=new_frames)
    return endpoint.plan(options, source, model or card(endpoint.models[0]), SEED, prices)


def changed(one: Any, other: Any) -> dict[str, Any]:
    """The fields in which `other` differs from `one`, an object of the same class."""
    pairs = ((name, vars(one)[name], vars(other)[name]) for name in vars(one))
    return {name: after for name, before, after in pairs if before != after}
