"""JSON becomes a request, or fal's list of what is wrong, or sentences."""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeGuard, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from longtake.errors import InvalidRequest, Loc

Request = TypeVar("Request", bound=BaseModel)


def parse(model: type[Request], data: Mapping[str, Any], *, forbid_unknown: bool = False) -> Request:
    """`data` as a request of `model`. InvalidRequest says every field that is wrong, in one sentence each.

    `forbid_unknown` also refuses names that the endpoint does not know; its published clients may send some, a
    person at the command line has mistyped.
    """
    unknown = next(_unknown(model, data), None) if forbid_unknown else None
    if unknown:
        raise InvalidRequest(f"{dotted(unknown)} is not a field of this endpoint.", loc=("body", *unknown))
    try:
        return model.model_validate(data)
    except ValidationError as error:
        wrong = [found | {"loc": _path(found["loc"])} for found in error.errors(include_url=False)]
        first = wrong[0]
        raise InvalidRequest(
            " ".join(_sentence(found) for found in wrong), loc=("body", *first["loc"]), value=first["input"]
        ) from None


MOST_ECHOED = 1000
"""Characters of a value that are told back."""


def problems(model: type[BaseModel], data: Any) -> list[dict[str, Any]]:
    """Every field of `data` that is wrong, as fal tells it: {loc, msg, type, url, input[, ctx]}, with pydantic's types;
    empty where `data` is a request of `model`."""
    try:
        model.model_validate(data)
    except ValidationError as error:
        return [
            problem(loc=one["loc"], msg=one["msg"], type=one["type"], input=one["input"], ctx=one.get("ctx"))
            for one in error.errors(include_url=False)
        ]
    return []


def problem(
    *, loc: Loc, msg: str, type: str, input: Any, ctx: Mapping[str, Any] | None = None, place: str = "body"
) -> dict[str, Any]:
    """One entry of fal's `detail` list. `input` is told back as far as it is finite and short."""
    entry = {
        "loc": [place, *_path(loc)],
        "msg": msg,
        "type": type,
        "url": f"https://docs.fal.ai/errors#{type}",
        "input": echo(input),
    }
    return entry | ({"ctx": {name: echo(value) for name, value in ctx.items()}} if ctx else {})


def echo(value: Any, depth: int = 4) -> Any:
    """A client's value as it can be told back in JSON: finite, in Unicode, and bounded."""
    match value:
        case None | bool():
            return value
        case int():
            return value if abs(value) < 2**63 else f"an integer of {value.bit_length()} bits"
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            text = value.encode("utf-8", "replace").decode()
            return text if len(text) <= MOST_ECHOED else f"{text[:MOST_ECHOED]}..."
        case Mapping() | list() | tuple() if depth == 0:
            return "..."
        case Mapping():
            return {str(echo(str(name))): echo(part, depth - 1) for name, part in islice(value.items(), 50)}
        case list() | tuple():
            return [echo(part, depth - 1) for part in value[:50]]
        case _:
            return echo(str(value))


def dotted(loc: Iterable[str | int]) -> str:
    """A field's path as people write it: `video.strength`."""
    return ".".join(str(part) for part in loc if part != "body")


def _path(loc: Loc) -> Loc:
    """The path of a field without the tags, in angle brackets, of a field that takes several shapes."""
    return tuple(part for part in loc if not str(part).startswith("<"))


def _sentence(problem: Any) -> str:
    name, given = dotted(problem["loc"]) or "The request", problem["input"]
    match problem["type"], problem.get("ctx", {}):
        case "missing", _:
            return f"{name} is missing."
        case "literal_error", ctx:
            return f"{name} is {given!r}; it must be one of {ctx['expected']}."
        case "multiple_of", ctx:
            return f"{name} is {given!r}; it must be a multiple of {ctx['multiple_of']}."
        case "model_type" | "model_attributes_type", _:
            return f"{name} is {given!r}; it must be an object."
        case _, {"ge": least}:
            return f"{name} is {given!r}; it must be at least {least}."
        case _, {"le": most}:
            return f"{name} is {given!r}; it must be at most {most}."
        case _:
            message = problem["msg"]
            return f"{name} is {given!r}: {message[0].lower()}{message[1:]}."


def _unknown(model: type[BaseModel], data: Mapping[str, Any]) -> Iterator[Loc]:
    """The paths in `data` that lead to no field, in nested objects and lists of objects too."""
    for name, value in data.items():
        field = model.model_fields.get(name)
        if field is None:
            yield (name,)
            continue
        parts = (field.annotation, *get_args(field.annotation))
        inner = next((bare for part in parts if _is_model(bare := getattr(part, "__origin__", part))), None)
        if inner is None:
            continue
        if isinstance(value, Mapping):
            yield from ((name, *rest) for rest in _unknown(inner, value))
        elif isinstance(value, list):
            items = ((i, item) for i, item in enumerate(value) if isinstance(item, Mapping))
            yield from ((name, i, *rest) for i, item in items for rest in _unknown(inner, item))


def _is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
