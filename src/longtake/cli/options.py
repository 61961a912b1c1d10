"""The request models as command line options: one option per field, and what was given as one request."""

import inspect
import json
import re
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from longtake.endpoints import ENDPOINTS, ltx23
from longtake.endpoints.shared import source_field
from longtake.errors import InvalidRequest

COUNTS_NEW = (ltx23.ENDPOINT,)
"""The endpoints whose `num_frames` are the new ones."""

Loc = tuple[str, ...]

INSTEAD: Mapping[Loc, str] = {
    ("num_frames",): "ltx-2.3-22b counts the new ones, as --new-frames does, the others all: without it --new-frames "
    "counts there.",
    ("loras",): "ltx-2.3-22b takes them here too, though its requests have no field for them.",
    ("frame_rate",): "Without it the video plays at the source's own rate.",
}
"""What the command line does of its own with a field, beyond its description; its default is not told then."""


@dataclass(frozen=True)
class RequestOption:
    """One option: the field at `loc` of the request models in `fields`, by the endpoint's id."""

    loc: Loc
    name: str
    fields: Mapping[str, FieldInfo]

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def items(self) -> type[BaseModel] | None:
        """The model of a list's items; None for a field that is no list."""
        annotation = next(iter(self.fields.values())).annotation
        return get_args(annotation)[0] if get_origin(annotation) is list else None

    @property
    def is_size(self) -> bool:
        """Whether it takes WIDTHxHEIGHT beside names."""
        return any(map(_is_model, _shapes(next(iter(self.fields.values())).annotation)))

    def value(self, given: Any) -> Any:
        """What was given as the request has it."""
        if self.items is not None:
            return [item(text, self.items, self.flag) for text in given]
        return _size(given, self) if self.is_size else given

    def help(self) -> str:
        """The field's description, then its limits and default: per endpoint where they differ."""
        description = next(iter(self.fields.values())).description or ""
        if self.items is not None:
            description = f"{_item_syntax(self.items)}; repeat it for several. {description}"
        facts = {
            label(endpoint): _facts(field, self.loc in INSTEAD and endpoint not in COUNTS_NEW)
            for endpoint, field in self.fields.items()
        }
        if len(set(facts.values())) == 1:
            told = next(iter(facts.values()))
        else:
            told = " | ".join(f"{name}: {text}" for name, text in facts.items())
        return " ".join(filter(None, (description, told and f"({told})", INSTEAD.get(self.loc))))


def label(endpoint: str) -> str:
    """The middle part of an endpoint's id, as people tell them apart."""
    return endpoint.split("/")[1]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _shapes(annotation: Any) -> list[Any]:
    """What a field takes: the members of a union, else its one type."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return [annotation]
    return [part.__origin__ if get_origin(part) is Annotated else part for part in get_args(annotation)]


def _leaves(model: type[BaseModel], parent: Loc = ()) -> Iterator[tuple[Loc, FieldInfo]]:
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _leaves(annotation, (*parent, name))
        else:
            yield (*parent, name), field


@cache
def request_options() -> tuple[RequestOption, ...]:
    """All options, in the order of the models' fields. A nested field has its own name where no other has it."""
    fields: dict[Loc, dict[str, FieldInfo]] = {}
    for endpoint, module in ENDPOINTS.items():
        for loc, field in _leaves(module.Request):
            if loc != source_field(module.Request):
                fields.setdefault(loc, {})[endpoint] = field
    names = [loc[-1] for loc in fields]
    options = []
    for loc, by_endpoint in fields.items():
        name = loc[-1] if len(loc) == 1 or names.count(loc[-1]) == 1 else "_".join(loc)
        option = RequestOption(loc, name, by_endpoint)
        options.append(option if option.items is None else RequestOption(loc, name.removesuffix("s"), by_endpoint))
    return tuple(options)


def signature() -> inspect.Signature:
    """The options as parameters of a typer command, each None where it is not given."""
    everywhere = len(ENDPOINTS)
    parameters = []
    for option in request_options():
        known = [label(endpoint) for endpoint in option.fields]
        panel = "Request" if len(known) == everywhere else f"Request, only {' and '.join(known)}"
        kind = _kind(option)
        flags = f"{option.flag}/--no-{option.flag[2:]}" if kind is bool else option.flag
        metavar = "LORA" if option.items is not None else "SIZE" if option.is_size else None
        info = typer.Option(flags, help=_escaped(option.help()), rich_help_panel=panel, metavar=metavar)
        annotation: Any = Annotated[list[str] | None if option.items else kind | None, info]
        parameters.append(
            inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        )
    return inspect.Signature(parameters)


def _kind(option: RequestOption) -> Any:
    """The type of an option's value: bool, int, float, str, or a Literal of what any endpoint takes.

    Ranges stay with the request model, which says what is wrong in its own words.
    """
    if option.items is not None or option.is_size:
        return str
    kinds = [_without_none(field.annotation) for field in option.fields.values()]
    if all(get_origin(kind) is Literal for kind in kinds):
        choices = tuple(dict.fromkeys(choice for kind in kinds for choice in get_args(kind)))
        return Literal[choices]
    return kinds[0]


def _without_none(annotation: Any) -> Any:
    return next(kind for kind in _shapes(annotation) if kind is not type(None))


def _facts(field: FieldInfo, has_own_default: bool) -> str:
    limits = {
        name: getattr(limit, name)
        for limit in field.metadata
        for name in ("ge", "le", "multiple_of")
        if getattr(limit, name, None) is not None
    }
    facts = []
    if "ge" in limits and "le" in limits:
        facts.append(f"{limits['ge']:g} to {limits['le']:g}")
    if "multiple_of" in limits:
        facts.append(f"a multiple of {limits['multiple_of']}")
    choices = _choices(field.annotation)
    if choices:
        facts.append(" or ".join(choices))
    if field.is_required():
        facts.append("required")
    elif field.default not in (None, []) and not has_own_default:
        default = ("no", "yes")[field.default] if isinstance(field.default, bool) else field.default
        facts.append(f"default: {default}")
    return "; ".join(facts)


def _choices(annotation: Any) -> list[str]:
    """What may be written: the values of a Literal, and of a size."""
    shapes = _shapes(annotation)
    choices = [choice for shape in shapes if get_origin(shape) is Literal for choice in get_args(shape)]
    return [*choices, "WIDTHxHEIGHT"] if any(map(_is_model, shapes)) else choices


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")


def _item_syntax(items: type[BaseModel]) -> str:
    first, *others = items.model_fields
    return first.upper() + "".join(f"[,{name}=...]" for name in others)


def item(text: str, items: type[BaseModel], flag: str) -> dict[str, str]:
    """One item of a list, written as the first field's value and then `,name=value` for the others.

    A comma counts only before a field's name, so that URLs may hold commas.
    """
    first, *others = items.model_fields
    head, *rest = re.split(rf",(?=(?:{'|'.join(others)})=)", text.removeprefix(f"{first}="))
    if not head:
        raise InvalidRequest(f"{flag} {text!r} names no {first}; it is written {_item_syntax(items)}.", given=text)
    return {first: head} | dict(part.split("=", 1) for part in rest)


def _size(text: str, option: RequestOption) -> str | dict[str, int]:
    """A size as the request has it, from WIDTHxHEIGHT or a name."""
    if sides := re.fullmatch(r"(\d{1,9})[xX](\d{1,9})", text):
        return {"width": int(sides[1]), "height": int(sides[2])}
    choices = _choices(next(iter(option.fields.values())).annotation)
    if text not in choices:
        raise InvalidRequest(
            f"{option.flag} is {text!r}; it must be {', '.join(choices[:-1])}, or as in 1280x720.",
            loc=("body", *option.loc),
            given=text,
        )
    return text


def request_data(
    given: Mapping[str, Any], base: Mapping[str, Any], source: str | None, endpoint: str
) -> dict[str, Any]:
    """A request as JSON values: `base`, and over it the options that were given, by name, and the source.

    Raises InvalidRequest for an option that the endpoint does not have, naming those that have it.
    """
    source_loc = source_field(ENDPOINTS[endpoint].Request)
    values: dict[Loc, Any] = {} if source is None else {source_loc: source}
    for option in request_options():
        value = given.get(option.name)
        if value is None or (option.items is not None and not value):
            continue
        if endpoint not in option.fields:
            others = " and ".join(option.fields)
            raise InvalidRequest(
                f"{option.flag} is not an option of {endpoint}; {others} has it (choose with --endpoint).",
                loc=("body", *option.loc),
                given=value,
            )
        values[option.loc] = option.value(value)
    data = dict(base)
    for (*parents, name), value in values.items():
        place = data
        for parent in parents:
            inner = place.get(parent, {})
            if not isinstance(inner, Mapping):
                raise InvalidRequest(f"{parent} is {inner!r}; it must be an object.", loc=("body", parent), given=inner)
            place[parent] = place = dict(inner)
        place[name] = value
    if _at(data, source_loc) is None:
        raise InvalidRequest(
            f"No source is named: give the video's path or URL as SOURCE, or {'.'.join(source_loc)} in --json-input.",
            loc=("body", *source_loc),
        )
    return data


def _at(data: Any, loc: Loc) -> Any:
    for name in loc:
        data = data.get(name) if isinstance(data, Mapping) else None
    return data


def json_input(name: str | None) -> dict[str, Any]:
    """The request in a JSON file, or on standard input for `-`; nothing where none is named."""
    if name is None:
        return {}
    place = "Standard input" if name == "-" else f"The file {name}"
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        document = json.loads(text)
    except OSError as error:
        raise InvalidRequest(f"{place} cannot be read: {error.strerror}.", given=name) from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{place} is not JSON: {error}.", given=name) from None
    if not isinstance(document, dict):
        raise InvalidRequest(
            f"{place} must hold a request as a JSON object, not {type(document).__name__}.", given=name
        )
    return document
