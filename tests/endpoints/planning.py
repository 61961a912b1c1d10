"""Makes options and plans from requests, as `prepare` does, but without a source file."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import pytest
from pydantic import BaseModel

from longtake.endpoints import Endpoint
from longtake.endpoints.validation import parse
from longtake.errors import InvalidRequest
from longtake.models.registry import ModelCard, card
from longtake.video import VideoInfo

CLIP = VideoInfo("mp4", "h264", 1920, 1080, Fraction(24000, 1001), 100)
PROMPT = "a prompt"
SEED = 7


def request_of(endpoint: Endpoint[Any, Any], fields: Mapping[str, Any]) -> Any:
    """Returns a request with a prompt, the source `x` and these fields."""
    data: dict[str, Any] = {"prompt": PROMPT, **fields}
    *parents, last = endpoint.source_field
    place = data
    for name in parents:
        place[name] = place = dict(place.get(name, {}))
    place.setdefault(last, "x")
    return parse(endpoint.Request, data)


def options_of(endpoint: Endpoint[Any, Any], fields: Mapping[str, Any], source: VideoInfo = CLIP) -> Any:
    return endpoint.options(request_of(endpoint, fields), source)


def plan_of(
    endpoint: Endpoint[Any, Any],
    fields: Mapping[str, Any],
    source: VideoInfo = CLIP,
    model: ModelCard | None = None,
    *,
    new_frames: int | None = None,
    prices: Mapping[str, Any] = {},
) -> Any:
    """Returns the plan with `model`, by default the published one. `new_frames` is the command line's option."""
    options = options_of(endpoint, fields, source)
    if new_frames is not None:
        options = replace(options, new_frames=new_frames)
    return endpoint.plan(options, source, model or card(endpoint.models[0]), SEED, prices)


def changed(one: Any, other: Any) -> dict[str, Any]:
    """Returns the fields of `other`, and their values, that differ from `one`, an object of the same class."""
    pairs = ((name, vars(one)[name], vars(other)[name]) for name in vars(one))
    return {name: after for name, before, after in pairs if before != after}


@dataclass(frozen=True)
class Effect:
    """The effect of `fields` on a request with the fields `base`: exactly these options and at least these plan facts
    change."""

    fields: Mapping[str, Any]
    options: Mapping[str, Any]
    plan: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, Any] = field(default_factory=dict)
    source: VideoInfo = CLIP

    def check(self, endpoint: Endpoint[Any, Any]) -> None:
        before = options_of(endpoint, self.base, self.source)
        assert changed(before, options_of(endpoint, {**self.base, **self.fields}, self.source)) == self.options
        if self.plan:
            plan, without = (plan_of(endpoint, each, self.source) for each in ({**self.base, **self.fields}, self.base))
            values = {name: getattr(plan, name) for name in self.plan}
            assert values == self.plan
            assert values != {name: getattr(without, name) for name in self.plan}


REQUIRED = object()


def schema_of(model: type[BaseModel]) -> dict[str, tuple[Any, ...]]:
    """Returns each field's default (or REQUIRED) and its range, if it has one, in the order of the request."""
    found: dict[str, tuple[Any, ...]] = {}
    for name, info in model.model_fields.items():
        bounds = tuple(getattr(limit, kind) for kind in ("ge", "le") for limit in info.metadata if hasattr(limit, kind))
        found[name] = (REQUIRED if info.is_required() else info.default, *bounds)
    return found


def check_ranges(endpoint: Endpoint[Any, Any], base: Mapping[str, Any] = {}) -> None:
    """Checks that both ends of each range are accepted, and that values beyond are refused with the field's name."""
    for name, (_, *bounds) in schema_of(endpoint.Request).items():
        if not bounds:
            continue
        least, most = bounds
        for value in (least, most):
            assert getattr(request_of(endpoint, {**base, name: value}), name) == value
        for value, limit in ((least - 1, f"at least {least}"), (most + 1, f"at most {most}")):
            with pytest.raises(InvalidRequest, match=limit) as error:
                request_of(endpoint, {**base, name: value})
            assert error.value.loc == ("body", name)
