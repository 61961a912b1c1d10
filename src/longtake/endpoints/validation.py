"""Validates JSON as an endpoint's request. Problems are reported as sentences or as entries of fal's `detail` list."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, TypeGuard, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from longtake.errors import InvalidRequest, Loc, LongtakeError, echo, entry
from longtake.media.data_uri import shortened

Request = TypeVar("Request", bound=BaseModel)


def parse(model: type[Request], data: Mapping[str, Any], *, forbid_unknown: bool = False) -> Request:
    """Returns `data` as a validated request of class `model`.

    Raises InvalidRequest if fields are wrong. The message has one sentence for each wrong field; `loc` and `value` are
    those of the first one.

    forbid_unknown: True also raises InvalidRequest if `data` has a name that is not a field of the request. On the
        command line such names are typing errors; HTTP clients may send them.
    """
    unknown = next(_unknown(model, data), None) if forbid_unknown else None
    if unknown:
        path, near = unknown
        hint = f"; perhaps {near} is meant" if near else ""
        raise InvalidRequest(f"{dotted(path)} is not a field of this endpoint{hint}.", loc=("body", *path))
    try:
        return model.model_validate(data)
    except ValidationError as error:
        wrong = [found | {"loc": _path(found["loc"])} for found in error.errors(include_url=False)]
        first, sentences = wrong[0], [_sentence(found) for found in wrong[:MOST_PROBLEMS]]
        if len(wrong) > MOST_PROBLEMS:
            sentences.append(_others(len(wrong)))
        raise InvalidRequest(" ".join(sentences), loc=("body", *first["loc"]), value=first["input"]) from None


@contextmanager
def errors_at(field: Loc, value: str, *, in_message: bool = False) -> Iterator[None]:
    """Context manager. A LongtakeError that its block raises gets the path and the value of the wrong field.

    field: path of the field. It becomes the error's location (`loc`) if the error has none.
    value: the field's value. It becomes the error's value, cut to 80 characters, if the error has none.
    in_message: True also puts the field's path at the beginning of the error's message.
    """
    try:
        yield
    except LongtakeError as error:
        error.loc = error.loc or ("body", *field)
        error.value = shortened(value) if error.value is None else error.value
        if in_message:
            error.message = f"{'.'.join(map(str, field))}: {error.message}"
            error.args = (error.message,)
        raise


MOST_PROBLEMS = 50
"""The largest number of problems of one request that are reported. A further sentence counts the others."""


def problems(model: type[BaseModel], data: Any) -> list[dict[str, Any]]:
    """Returns the entries of fal's `detail` list for `data`, {loc, msg, type, url, input} for each wrong field.

    The `type` of an entry is pydantic's error type. The list is empty if `data` is a valid request of class `model`.

    Only the first 50 problems (MOST_PROBLEMS) have an entry of their own. If there are more, one more entry with the
    type `too_many_problems` tells their number.
    """
    try:
        model.model_validate(data)
    except ValidationError as error:
        found = [
            problem(loc=one["loc"], msg=msg, type=one["type"], input=one["input"], ctx=ctx)
            for one in error.errors(include_url=False)[:MOST_PROBLEMS]
            for msg, ctx in [_message_and_facts(one)]
        ]
        if error.error_count() > MOST_PROBLEMS:
            found.append(problem(loc=(), msg=_others(error.error_count()), type="too_many_problems", input=None))
        return found
    return []


def _others(count: int) -> str:
    return f"There are {count - MOST_PROBLEMS} more problems."


def _message_and_facts(error: Any) -> tuple[str, Mapping[str, Any] | None]:
    """Returns (message, facts) of one of pydantic's errors.

    - If a value should be a JSON object and is not: a message of this program's own, because pydantic's message
      contains the name of a class; facts is None.
    - Otherwise: pydantic's message, and as facts the error's `ctx`, such as limits; None if it has none.
    """
    if error["type"] in ("model_type", "model_attributes_type"):
        return "Input should be a valid dictionary", None
    return error["msg"], error.get("ctx")


def problem(
    *, loc: Loc, msg: str, type: str, input: Any, ctx: Mapping[str, Any] | None = None, place: str = "body"
) -> dict[str, Any]:
    """Returns one entry of fal's `detail` list: {loc, msg, type, url, input}, and `ctx` if it is not empty.

    The entry's `loc` is `place` followed by the path. Its `url` is the address at which fal explains this `type`.

    loc: path of the wrong field below `place`.
    msg: one sentence for the user.
    type: fal's or pydantic's name of this kind of error.
    input: the wrong value.
    ctx: facts for clients, such as limits.
    place: the part of the HTTP request with the field: body, query, path or header.

    Long texts and lists in the entry are shortened.
    """
    return entry([place, *_path(loc)], msg, type, input, ctx)


def value_at(value: Any, path: Iterable[str | int]) -> Any:
    """Returns the value at a path of field names in a JSON value; None if there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def dotted(loc: Iterable[str | int]) -> str:
    """Returns a field's path as text with dots, without the leading `body`: `video.strength`."""
    return ".".join(str(part) for part in loc if part != "body")


def _path(loc: Loc) -> Loc:
    """Returns a field's path without the tags that pydantic adds if the field's type is a union.

    In this project every such tag begins with `<`, for example `<preset>`.
    """
    return tuple(part for part in loc if not str(part).startswith("<"))


def _sentence(problem: Any) -> str:
    name, value = dotted(problem["loc"]) or "The request", echo(repr(problem["input"]))
    match problem["type"], problem.get("ctx", {}):
        case "missing", _:
            return f"{name} is missing."
        case "literal_error", ctx:
            return f"{name} is {value}; it must be one of {ctx['expected']}."
        case "multiple_of", ctx:
            return f"{name} is {value}; it must be a multiple of {ctx['multiple_of']}."
        case "model_type" | "model_attributes_type", _:
            return f"{name} is {value}; it must be an object."
        case _, {"ge": least}:
            return f"{name} is {value}; it must be at least {least}."
        case _, {"le": most}:
            return f"{name} is {value}; it must be at most {most}."
        case _:
            message = problem["msg"]
            return f"{name} is {value}: {message[0].lower()}{message[1:]}."


def _unknown(model: type[BaseModel], data: Mapping[str, Any]) -> Iterator[tuple[Loc, str | None]]:
    """Yields (path, near) for each name in `data`, and in the objects inside it, that is not a field of `model`.

    near: the field with the most similar name; None if no name is similar.
    """
    for name, value in data.items():
        field = model.model_fields.get(name)
        if field is None:
            yield (name,), next(iter(get_close_matches(name, model.model_fields, 1)), None)
            continue
        parts = (field.annotation, *get_args(field.annotation))
        inner = next((bare for part in parts if _is_model(bare := getattr(part, "__origin__", part))), None)
        if inner is None:
            continue
        if isinstance(value, Mapping):
            yield from (((name, *rest), near) for rest, near in _unknown(inner, value))
        elif isinstance(value, list):
            items = ((i, item) for i, item in enumerate(value) if isinstance(item, Mapping))
            yield from (((name, i, *rest), near) for i, item in items for rest, near in _unknown(inner, item))


def _is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
