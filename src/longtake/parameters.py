"""A request by named parameters: the options of the command line, and the keywords of the library.

Each field of an endpoint's request is one parameter; a field of a nested object has its own name where no other field
of the request has it.
"""

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from longtake.endpoints import ENDPOINTS, Endpoint
from longtake.endpoints.fields import LoRAWeight, Seed, planned_loras
from longtake.endpoints.validation import dotted, parse
from longtake.errors import InvalidRequest
from longtake.media.formats import OutputType, Quality, WriteMode
from longtake.models.registry import ModelCard, card
from longtake.prepare import Overrides
from longtake.settings import Settings

NEW_FRAMES = 96
"""The number of frames added where nothing says how many: four seconds at 24 frames per second."""

MOST_NEW_FRAMES = 1441

LORA = "lora"
SEED = "seed"
"""Parameters that every endpoint takes here, also one whose requests have no field for them."""

RESERVED = frozenset(
    [
        "source",
        "output",
        "out",
        "endpoint",
        "model",
        "json_input",
        "new_frames",
        "quality",
        "write_mode",
        "inspect",
        "force",
        "json",
        "debug",
        "help",
        "overwrite",
        "on_progress",
    ]
)
"""Names that mean something else on the command line or in the library: a field of such a name is `request_<name>`."""


class Beside(BaseModel):
    """The parameters that are taken beside a request: of the file to write, and those that it has no field for."""

    new_frames: int | None = Field(None, strict=True, ge=1, le=MOST_NEW_FRAMES)
    quality: Quality | None = None
    write_mode: WriteMode | None = None
    seed: Seed = None
    lora: list[LoRAWeight] = []


Path = tuple[str, ...]


@dataclass(frozen=True)
class Parameter:
    """One parameter: the request's field at `loc`, under a name of its own."""

    loc: Path
    name: str
    info: FieldInfo

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def items(self) -> type[BaseModel] | None:
        """The model of a list's items; None for a field that is no list of objects."""
        (item,) = get_args(self.info.annotation) if self.is_list else (None,)
        return item if _is_model(item) else None

    @property
    def is_list(self) -> bool:
        return get_origin(self.info.annotation) is list

    @property
    def shapes(self) -> list[Any]:
        """The types that the field takes: the members of a union, else its one type; None left out."""
        return [shape for shape in _shapes(self.info.annotation) if shape is not type(None)]

    @property
    def is_size(self) -> bool:
        """True if it takes WIDTHxHEIGHT beside names."""
        return any(map(_is_model, self.shapes))

    @property
    def choices(self) -> list[str]:
        """The words that it takes: the values of a Literal, and of a size."""
        choices = [choice for shape in self.shapes if get_origin(shape) is Literal for choice in get_args(shape)]
        return [*choices, "WIDTHxHEIGHT"] if self.is_size else choices

    def value(self, given: Any) -> Any:
        """The value as the request has it: a list's items and a size may be given as text."""
        if self.items is not None:
            return [item(one, self.items, self.name) for one in _listed(given)]
        if self.is_list:
            return list(_listed(given))
        return _size(given, self) if self.is_size else given


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _shapes(annotation: Any) -> list[Any]:
    if get_origin(annotation) not in (Union, types.UnionType):
        return [annotation]
    return [part.__origin__ if get_origin(part) is Annotated else part for part in get_args(annotation)]


def _listed(given: Any) -> Sequence[Any]:
    return given if isinstance(given, list | tuple) else [given]


@cache
def parameters(endpoint: str) -> tuple[Parameter, ...]:
    """The parameters of the endpoint with this id, in the order of its request's fields; the source is none of them."""
    known = ENDPOINTS[endpoint]
    fields = [(loc, info) for loc, info in _leaves(known.Request) if loc != known.source_field]
    names = [loc[-1] for loc, _ in fields]
    made = []
    for loc, info in fields:
        name = loc[-1] if len(loc) == 1 or names.count(loc[-1]) == 1 else "_".join(loc)
        name = name.removesuffix("s") if get_origin(info.annotation) is list else name
        made.append(Parameter(loc, f"request_{name}" if name in RESERVED else name, info))
    return tuple(made)


def _leaves(model: type[BaseModel], parent: Path = ()) -> Iterator[tuple[Path, FieldInfo]]:
    for name, info in model.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _leaves(annotation, (*parent, name))
        else:
            yield (*parent, name), info


def item(given: Any, items: type[BaseModel], name: str) -> dict[str, Any]:
    """One item of a list: an object, or text of the first field's value and then `,name=value` for the others.

    A comma counts only before a field's name, so that URLs may hold commas.
    """
    if isinstance(given, Mapping):
        return dict(given)
    text = str(given)
    first, *others = items.model_fields
    head, *rest = re.split(rf",(?=(?:{'|'.join(others)})=)", text.removeprefix(f"{first}="))
    if not head:
        raise InvalidRequest(f"{name} {text!r} names no {first}; it is written {item_syntax(items)}.", value=text)
    return {first: head} | dict(part.split("=", 1) for part in rest)


def item_syntax(items: type[BaseModel]) -> str:
    """`PATH[,scale=...][,weight_name=...]`"""
    first, *others = items.model_fields
    return first.upper() + "".join(f"[,{name}=...]" for name in others)


def _size(given: Any, parameter: Parameter) -> Any:
    """A size as the request has it, from WIDTHxHEIGHT, a name, a pair or an object."""
    if isinstance(given, list | tuple) and len(given) == 2:
        return {"width": given[0], "height": given[1]}
    if isinstance(given, Mapping):
        return given
    if sides := re.fullmatch(r"(\d{1,9})[xX](\d{1,9})", str(given)):
        return {"width": int(sides[1]), "height": int(sides[2])}
    if given not in parameter.choices:
        raise InvalidRequest(
            f"{parameter.name} is {given!r}; it must be {', '.join(parameter.choices[:-1])}, or as in 1280x720.",
            loc=("body", *parameter.loc),
            value=given,
        )
    return given


def request_data(
    endpoint: Endpoint[Any, Any], given: Mapping[str, Any], base: Mapping[str, Any], source: str | None
) -> dict[str, Any]:
    """A request as JSON values: `base`, and over it the parameters that are given, by name, and the source.

    Raises InvalidRequest for a name that the endpoint does not have, naming the endpoints that have it.
    """
    known = {one.name: one for one in parameters(endpoint.id)}
    values: dict[Path, Any] = {} if source is None else {endpoint.source_field: source}
    for name, value in given.items():
        if value is None or (isinstance(value, list | tuple) and not value):
            continue
        if name not in known:
            raise _unknown(name, value, endpoint)
        values[known[name].loc] = known[name].value(value)
    data = dict(base)
    for (*parents, name), value in values.items():
        place = data
        for parent in parents:
            inner = place.get(parent, {})
            if not isinstance(inner, Mapping):
                raise InvalidRequest(f"{parent} is {inner!r}; it must be an object.", loc=("body", parent), value=inner)
            place[parent] = place = dict(inner)
        place[name] = value
    if _at(data, endpoint.source_field) is None:
        name = dotted(endpoint.source_field)
        raise InvalidRequest(
            f"No source is named: give the video's path or URL, or {name} in a request's JSON.",
            loc=("body", *endpoint.source_field),
        )
    return data


def _unknown(name: str, value: Any, endpoint: Endpoint[Any, Any]) -> InvalidRequest:
    others = [one.name for one in ENDPOINTS.values() if any(each.name == name for each in parameters(one.id))]
    if others:
        return InvalidRequest(
            f"{name} is not an option of {endpoint.name}; these endpoints have it: {', '.join(others)}.",
            loc=("body", name),
            value=value,
        )
    near = get_close_matches(name, [one.name for one in parameters(endpoint.id)], 1)
    hint = f"; perhaps {near[0]} is meant" if near else ""
    return InvalidRequest(f"{name} is not an option of {endpoint.name}{hint}.", loc=("body", name), value=value)


def _at(data: Any, loc: Path) -> Any:
    for name in loc:
        data = data.get(name) if isinstance(data, Mapping) else None
    return data


@dataclass(frozen=True)
class UserInput:
    """The input of the user of this machine.

    `parameters` by name: those of the endpoint, and those of `Beside`. `base` is a request as JSON values, over which
    `parameters` and `source` win. `output`: the type of the file to write.
    """

    parameters: Mapping[str, Any]
    source: str | None = None
    base: Mapping[str, Any] = field(default_factory=dict)
    output: OutputType | None = None


@dataclass(frozen=True)
class LocalRequest:
    """A request of this machine's user: the model to do it with, and what is asked beyond the request's fields."""

    endpoint: Endpoint[Any, Any]
    request: BaseModel
    card: ModelCard
    overrides: Overrides


def local_request(
    endpoint: Endpoint[Any, Any], given: UserInput, settings: Settings, model: str | None = None
) -> LocalRequest:
    """The request that is asked for. Raises InvalidRequest for what cannot be asked, by name.

    Where nothing says how many frames there are, the whole source is kept and NEW_FRAMES are added; where nothing says
    how fast they play, the source's own rate stays.
    """
    named = {name: value for name, value in given.parameters.items() if value is not None}
    beside = _beside(named, endpoint)
    _check_file(endpoint, named, given.output, beside)
    data = request_data(endpoint, named, given.base, given.source)
    counted = endpoint.count_field is not None and endpoint.count_field in data
    if counted and beside.new_frames is not None:
        raise InvalidRequest(
            f"Both {endpoint.count_field} and new_frames are given; give one of them.",
            loc=("body", str(endpoint.count_field)),
            value=data[str(endpoint.count_field)],
        )
    if endpoint.match_rate_field is not None and any(name in named for name in endpoint.rate_fields):
        data.setdefault(endpoint.match_rate_field, False)
    overrides = Overrides(
        new_frames=None if counted else beside.new_frames or NEW_FRAMES,
        own_rate=not any(name in data for name in (*endpoint.rate_fields, endpoint.match_rate_field)),
        seed=beside.seed,
        adapters=planned_loras(beside.lora),
        output=given.output,
        quality=beside.quality,
        write_mode=beside.write_mode,
    )
    request = parse(endpoint.Request, data, forbid_unknown=True)
    return LocalRequest(endpoint, request, endpoint.card(settings) if model is None else card(model), overrides)


def _beside(named: dict[str, Any], endpoint: Endpoint[Any, Any]) -> Beside:
    """Takes the parameters out of `named` that belong beside the endpoint's request."""
    own = {one.name for one in parameters(endpoint.id)}
    values = {name: named.pop(name) for name in Beside.model_fields if name in named and name not in own}
    if LORA in values:
        values[LORA] = [item(one, LoRAWeight, LORA) for one in _listed(values[LORA])]
    return parse(Beside, values, forbid_unknown=True)


def _check_file(
    endpoint: Endpoint[Any, Any], named: Mapping[str, Any], output: OutputType | None, beside: Beside
) -> None:
    """Raises InvalidRequest where a parameter contradicts the wanted format of the file."""
    fields = endpoint.output_fields
    wanted = (
        (fields.type, output, "the file's suffix"),
        (fields.quality, beside.quality, "quality"),
        (fields.write_mode, beside.write_mode, "write_mode"),
    )
    for name, value, by in wanted:
        option = None if name is None else named.get(name)
        if name is not None and None not in (option, value) and option != value:
            raise InvalidRequest(
                f"{name} is {option!r}, and {by} asks for {value!r}; give one of them.",
                loc=("body", name),
                value=option,
            )
