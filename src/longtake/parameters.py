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

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from longtake.endpoints import ENDPOINTS, Endpoint
from longtake.endpoints.fields import LoRAWeight, Seed, planned_loras
from longtake.endpoints.validation import parse
from longtake.errors import InvalidRequest
from longtake.media.formats import OutputType, Quality, WriteMode
from longtake.models.registry import ModelCard, card
from longtake.prepare import Extras
from longtake.settings import Settings

NEW_FRAMES = 96
"""The number of frames added where nothing says how many: four seconds at 24 frames per second."""

LORA = "lora"
SEED = "seed"
"""Parameters that every endpoint takes here, also one whose requests have no field for them."""


class _Beside(BaseModel):
    """The parameters that are taken beside a request."""

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
        """The model of a list's items; None for a field that is no list."""
        annotation = self.info.annotation
        return get_args(annotation)[0] if get_origin(annotation) is list else None

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
            return [item(one, self.items, self.flag) for one in _listed(given)]
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
    fields = [(loc, info) for loc, info in _leaves(known.Request) if loc != known.source]
    names = [loc[-1] for loc, _ in fields]
    made = []
    for loc, info in fields:
        name = loc[-1] if len(loc) == 1 or names.count(loc[-1]) == 1 else "_".join(loc)
        one = Parameter(loc, name, info)
        made.append(one if one.items is None else Parameter(loc, name.removesuffix("s"), info))
    return tuple(made)


def _leaves(model: type[BaseModel], parent: Path = ()) -> Iterator[tuple[Path, FieldInfo]]:
    for name, info in model.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _leaves(annotation, (*parent, name))
        else:
            yield (*parent, name), info


def item(given: Any, items: type[BaseModel], flag: str) -> dict[str, Any]:
    """One item of a list: an object, or text of the first field's value and then `,name=value` for the others.

    A comma counts only before a field's name, so that URLs may hold commas.
    """
    if isinstance(given, Mapping):
        return dict(given)
    text = str(given)
    first, *others = items.model_fields
    head, *rest = re.split(rf",(?=(?:{'|'.join(others)})=)", text.removeprefix(f"{first}="))
    if not head:
        raise InvalidRequest(f"{flag} {text!r} names no {first}; it is written {item_syntax(items)}.", given=text)
    return {first: head} | dict(part.split("=", 1) for part in rest)


def item_syntax(items: type[BaseModel]) -> str:
    """`PATH[,scale=...][,weight_name=...]`"""
    first, *others = items.model_fields
    return first.upper() + "".join(f"[,{name}=...]" for name in others)


def _size(given: Any, parameter: Parameter) -> Any:
    """A size as the request has it, from WIDTHxHEIGHT, a name, a pair or an object."""
    if isinstance(given, list | tuple) and len(given) == 2:
        return {"width": given[0], "height": given[1]}
    if not isinstance(given, str):
        return given
    if sides := re.fullmatch(r"(\d{1,9})[xX](\d{1,9})", given):
        return {"width": int(sides[1]), "height": int(sides[2])}
    if given not in parameter.choices:
        raise InvalidRequest(
            f"{parameter.flag} is {given!r}; it must be {', '.join(parameter.choices[:-1])}, or as in 1280x720.",
            loc=("body", *parameter.loc),
            given=given,
        )
    return given


def request_data(
    endpoint: Endpoint[Any, Any], given: Mapping[str, Any], base: Mapping[str, Any], source: str | None
) -> dict[str, Any]:
    """A request as JSON values: `base`, and over it the parameters that are given, by name, and the source.

    Raises InvalidRequest for a name that the endpoint does not have, naming the endpoints that have it.
    """
    known = {one.name: one for one in parameters(endpoint.id)}
    values: dict[Path, Any] = {} if source is None else {endpoint.source: source}
    for name, value in given.items():
        if value is None or value == []:
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
                raise InvalidRequest(f"{parent} is {inner!r}; it must be an object.", loc=("body", parent), given=inner)
            place[parent] = place = dict(inner)
        place[name] = value
    if _at(data, endpoint.source) is None:
        raise InvalidRequest(
            f"No source is named: give the video's path or URL as SOURCE, or {'.'.join(endpoint.source)} in "
            "--json-input.",
            loc=("body", *endpoint.source),
        )
    return data


def _unknown(name: str, value: Any, endpoint: Endpoint[Any, Any]) -> InvalidRequest:
    flag = f"--{name.replace('_', '-')}"
    others = [one.name for one in ENDPOINTS.values() if any(each.name == name for each in parameters(one.id))]
    if others:
        return InvalidRequest(
            f"{flag} is not an option of {endpoint.name}; {', '.join(others)} have it (choose with --endpoint).",
            loc=("body", name),
            given=value,
        )
    near = get_close_matches(name, [one.name for one in parameters(endpoint.id)], 1)
    hint = f"; perhaps {near[0]} is meant" if near else ""
    return InvalidRequest(f"{name} is not an option of {endpoint.name}{hint}.", loc=("body", name), given=value)


def _at(data: Any, loc: Path) -> Any:
    for name in loc:
        data = data.get(name) if isinstance(data, Mapping) else None
    return data


@dataclass(frozen=True)
class OutputFile:
    """The wanted format of the file to write; None leaves it to the request."""

    type: OutputType | None = None
    quality: Quality | None = None
    write_mode: WriteMode | None = None


@dataclass(frozen=True)
class Given:
    """The input of the user of this machine: parameters by name, and what belongs to no parameter.

    `base` is a request as JSON values, over which `parameters` and `source` win. `new_frames`: the whole source is kept
    and so many frames are added.
    """

    parameters: Mapping[str, Any]
    source: str | None = None
    base: Mapping[str, Any] = field(default_factory=dict)
    new_frames: int | None = None
    file: OutputFile = OutputFile()


@dataclass(frozen=True)
class LocalRequest:
    """A request of this machine's user: the model to do it with, and what is asked beyond the request's fields."""

    endpoint: Endpoint[Any, Any]
    request: BaseModel
    card: ModelCard
    extras: Extras


def local_request(
    endpoint: Endpoint[Any, Any], given: Given, settings: Settings, model: str | None = None
) -> LocalRequest:
    """The request that is asked for. Raises InvalidRequest for what cannot be asked, by name.

    Where nothing says how many frames there are, the whole source is kept and NEW_FRAMES are added; where nothing says
    how fast they play, the source's own rate stays.
    """
    named = {name: value for name, value in given.parameters.items() if value is not None}
    beside, file = _beside(named, endpoint), given.file
    _check_file(endpoint, named, file)
    data = request_data(endpoint, named, given.base, given.source)
    counted = endpoint.count is not None and endpoint.count in data
    if counted and given.new_frames is not None:
        raise InvalidRequest(
            f"Both --{str(endpoint.count).replace('_', '-')} and --new-frames are given; give one of them.",
            loc=("body", str(endpoint.count)),
            given=data[str(endpoint.count)],
        )
    extras = Extras(
        new_frames=None if counted else given.new_frames or NEW_FRAMES,
        own_rate=not any(name in data for name in endpoint.rates),
        seed=beside.seed,
        adapters=planned_loras(beside.lora),
        output=file.type,
        quality=file.quality,
        write_mode=file.write_mode,
    )
    request = parse(endpoint.Request, data, forbid_unknown=True)
    return LocalRequest(endpoint, request, endpoint.card(settings) if model is None else card(model), extras)


def _beside(given: dict[str, Any], endpoint: Endpoint[Any, Any]) -> _Beside:
    """Takes the parameters out of `given` that the endpoint's requests have no field for."""
    own = {one.name for one in parameters(endpoint.id)}
    loras = [item(one, LoRAWeight, f"--{LORA}") for one in _listed(given.pop(LORA, ()))] if LORA not in own else []
    seed = given.pop(SEED, None) if SEED not in own else None
    return parse(_Beside, {LORA: loras, SEED: seed})


def _check_file(endpoint: Endpoint[Any, Any], given: Mapping[str, Any], file: OutputFile) -> None:
    """Raises InvalidRequest where a parameter contradicts what is said of the file to write."""
    fields = endpoint.output
    said = (
        (fields.type, file.type, "OUT's suffix"),
        (fields.quality, file.quality, "--quality"),
        (fields.write_mode, file.write_mode, "--write-mode"),
    )
    for name, value, by in said:
        option = None if name is None else given.get(name)
        if name is not None and None not in (option, value) and option != value:
            raise InvalidRequest(
                f"--{name.replace('_', '-')} is {option!r}, and {by} asks for {value!r}; give one of them.",
                loc=("body", name),
                given=option,
            )
