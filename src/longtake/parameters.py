"""Named parameters of a request: the options of the command line and the keyword arguments of the library.

Each field of an endpoint's request is one parameter. A nested field keeps its own name if no other field has it;
otherwise the parent's name comes first, as in `video_reverse_video`. The name of a list loses its plural s, so `loras`
becomes `lora`: each use of the option `--lora` adds one item.
"""

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from os import PathLike, fspath
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from longtake.endpoints import ENDPOINTS, Endpoint
from longtake.endpoints.fields import LoRAWeight, Seed, planned_loras
from longtake.endpoints.validation import dotted, parse, value_at
from longtake.errors import InvalidRequest
from longtake.media.formats import OutputType, Quality, WriteMode
from longtake.models.choice import ModelChoice, named_model
from longtake.planning import Overrides, check_family
from longtake.settings import Settings

NEW_FRAMES = 96
"""Default number of new frames: 4 seconds at 24 frames per second."""

MOST_NEW_FRAMES = 1441
"""Largest value of `new_frames`: the largest `num_frames` of any endpoint."""

LORA = "lora"
"""The parameter for LoRAs. Every endpoint has it, even if its request has no field `loras`."""

SEED = "seed"
"""The parameter for the seed. Every endpoint has it, even if its request has no field `seed`."""

_RESERVED_INPUT = ("source", "output", "out", "endpoint", "model", "json_input", "data_dir", "new_frames", "quality")
_RESERVED_REST = ("write_mode", "inspect", "force", "json", "debug", "help", "help_all", "overwrite", "on_progress")
RESERVED = frozenset((*_RESERVED_INPUT, *_RESERVED_REST))
"""Names that have another meaning on the command line or in the library. If a request has a field with such a name, its
parameter is named `request_<name>`."""


class LocalParameters(BaseModel):
    """Parameters that the command line and the library have for every endpoint.

    If the endpoint's request itself has a field `seed` or LoRAs, that field is used instead of the one here.

    new_frames: number of frames to add to the end, or the start, of the complete source. With None, the request's own
        number of frames is used if the user sets it, otherwise 96.
    quality, write_mode: settings of the output file; None means that the request decides.
    seed: None means that a random seed is drawn.
    lora: the LoRAs to apply.
    """

    new_frames: int | None = Field(None, strict=True, ge=1, le=MOST_NEW_FRAMES)
    quality: Quality | None = None
    write_mode: WriteMode | None = None
    seed: Seed = None
    lora: list[LoRAWeight] = []


FieldPath = tuple[str, ...]
"""The path of a field in a request, from the outermost name: ("video", "strength")."""


@dataclass(frozen=True)
class Parameter:
    """One parameter, which sets one field of a request.

    loc: path of the field.
    name: name of the parameter, with underscores.
    info: pydantic's definition of the field.
    """

    loc: FieldPath
    name: str
    info: FieldInfo

    @property
    def flag(self) -> str:
        """The option of the command line, such as `--num-frames`."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def items(self) -> type[BaseModel] | None:
        """The class of the list's items if the field is a list of JSON objects; otherwise None."""
        (item,) = get_args(self.info.annotation) if self.is_list else (None,)
        return item if _is_model(item) else None

    @property
    def is_list(self) -> bool:
        return get_origin(self.info.annotation) is list

    @property
    def types(self) -> list[Any]:
        """The types that the field accepts, without the type of None."""
        return [kind for kind in _union_members(self.info.annotation) if kind is not type(None)]

    @property
    def is_size(self) -> bool:
        """True if the field accepts a size in pixels, written WIDTHxHEIGHT, as well as names of sizes."""
        return any(map(_is_model, self.types))

    @property
    def names(self) -> list[str]:
        """The texts that the field accepts if it accepts only certain ones (a Literal), otherwise an empty list."""
        return [choice for kind in self.types if get_origin(kind) is Literal for choice in get_args(kind)]

    @property
    def choices(self) -> list[str]:
        """The values that help texts list for the field: its `names`, then WIDTHxHEIGHT if it also accepts sizes.

        The list is empty if the field is not limited to certain values.
        """
        return [*self.names, "WIDTHxHEIGHT"] if self.is_size else self.names

    def json_value(self, value: Any) -> Any:
        """Returns a user's value in the form that the request's JSON has.

        The value for a list may be a single item. An item that is an object may be text such as PATH,scale=0.5, and a
        size may be text such as 1280x720. Raises InvalidRequest if such a text cannot be read.
        """
        if self.items is not None:
            return [list_item(one, self.items, self.name) for one in _as_list(value)]
        if self.is_list:
            return list(_as_list(value))
        if isinstance(value, PathLike):
            return fspath(value)
        return _size(value, self) if self.is_size else value


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _union_members(annotation: Any) -> list[Any]:
    if get_origin(annotation) not in (Union, types.UnionType):
        return [annotation]
    return [part.__origin__ if get_origin(part) is Annotated else part for part in get_args(annotation)]


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


@cache
def parameters(endpoint: str) -> tuple[Parameter, ...]:
    """Returns the parameters of an endpoint, in the order of its request's fields.

    The field with the source's URL is left out: the command line and the library have a separate argument for it.

    endpoint: the endpoint's full id, not its short name. Raises KeyError if no endpoint has this id.
    """
    found = ENDPOINTS[endpoint]
    fields = [(loc, info) for loc, info in _leaves(found.Request) if loc != found.source_field]
    names = [loc[-1] for loc, _ in fields]
    result = []
    for loc, info in fields:
        name = loc[-1] if len(loc) == 1 or names.count(loc[-1]) == 1 else "_".join(loc)
        name = name.removesuffix("s") if get_origin(info.annotation) is list else name
        result.append(Parameter(loc, f"request_{name}" if name in RESERVED else name, info))
    return tuple(result)


def _leaves(model: type[BaseModel], parent: FieldPath = ()) -> Iterator[tuple[FieldPath, FieldInfo]]:
    for name, info in model.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _leaves(annotation, (*parent, name))
        else:
            yield (*parent, name), info


def list_item(value: Any, items: type[BaseModel], name: str) -> dict[str, Any]:
    """Returns one item of a list as a JSON object.

    value: an object, or text such as PATH,scale=0.5: the value of the first field, then other fields by name. A comma
        begins the next field only if the name of a field and `=` follow, because URLs can contain commas.
    items: class of the list's items.
    name: name of the parameter, for error messages.

    Raises InvalidRequest if the text has no value for the first field of `items`.
    """
    if isinstance(value, Mapping):
        return dict(value)
    text = str(value)
    first, *others = items.model_fields
    head, *rest = re.split(rf",(?=(?:{'|'.join(others)})=)", text.removeprefix(f"{first}="))
    if not head:
        raise InvalidRequest(f"{name} {text!r} names no {first}; it is written {item_syntax(items)}.", value=text)
    return {first: head} | dict(part.split("=", 1) for part in rest)


def item_syntax(items: type[BaseModel]) -> str:
    """Returns, for messages, how users write an item of class `items` as text: `PATH[,scale=...][,weight_name=...]`."""
    first, *others = items.model_fields
    return first.upper() + "".join(f"[,{name}=...]" for name in others)


def _size(value: Any, parameter: Parameter) -> Any:
    """Returns a size in the form that the request's JSON has: a name, or an object with width and height in pixels.

    value: a name, text such as 1280x720, a pair (width, height) or an object.
    parameter: the parameter that gets the size. Its `choices` are the names that are allowed.

    Raises InvalidRequest for any other text.
    """
    if isinstance(value, list | tuple) and len(value) == 2:
        return {"width": value[0], "height": value[1]}
    if isinstance(value, Mapping):
        return value
    if sides := re.fullmatch(r"(\d{1,9})[xX](\d{1,9})", str(value)):
        return {"width": int(sides[1]), "height": int(sides[2])}
    if value not in parameter.choices:
        raise InvalidRequest(
            f"{parameter.name} is {value!r}; it must be {', '.join(parameter.choices[:-1])}, or as in 1280x720.",
            loc=("body", *parameter.loc),
            value=value,
        )
    return value


def request_data(
    endpoint: Endpoint[Any, Any], named: Mapping[str, Any], base: Mapping[str, Any], source: str | None
) -> dict[str, Any]:
    """Returns a request as JSON values: a copy of `base` in which the parameters and the source replace values.

    named: parameters by name. None is ignored, and so is an empty list if the endpoint does not need the parameter.
    base: a request as JSON values, perhaps incomplete.
    source: path or URL of the video; None leaves the source of `base`.

    The result is not validated. Raises InvalidRequest if the endpoint has no parameter of a name in `named`; the
    message names endpoints that have it. Also raises InvalidRequest if there is no source.
    """
    known = {one.name: one for one in parameters(endpoint.id)}
    values: dict[FieldPath, Any] = {} if source is None else {endpoint.source_field: source}
    for name, value in named.items():
        if value is None or (_is_empty_list(value) and not (name in known and known[name].info.is_required())):
            continue
        if name not in known:
            raise _unknown(name, value, endpoint)
        values[known[name].loc] = known[name].json_value(value)
    data = dict(base)
    for (*parents, name), value in values.items():
        place = data
        for parent in parents:
            inner = place.get(parent, {})
            if not isinstance(inner, Mapping):
                raise InvalidRequest(f"{parent} is {inner!r}; it must be an object.", loc=("body", parent), value=inner)
            place[parent] = place = dict(inner)
        place[name] = value
    *parents, last = endpoint.source_field
    holder = value_at(data, parents)
    # A holder of another type is a mistake that the validation reports.
    if holder is None or (isinstance(holder, Mapping) and holder.get(last) is None):
        name = dotted(endpoint.source_field)
        raise InvalidRequest(
            f"No source is named: give the video's path or URL, or {name} in a request's JSON.",
            loc=("body", *endpoint.source_field),
        )
    return data


def _is_empty_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and not value


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


@dataclass(frozen=True)
class UserInput:
    """The arguments of one call of the command line or the library.

    parameters: name -> value, of the endpoint and of LocalParameters, which every endpoint has. None is ignored.
    source: path or URL of the video; None means that `base` has it.
    base: a request as JSON values; `parameters` and `source` replace its values.
    output: type of the output file; None means that the request decides.
    """

    parameters: Mapping[str, Any]
    source: str | None = None
    base: Mapping[str, Any] = field(default_factory=dict)
    output: OutputType | None = None


@dataclass(frozen=True)
class LocalRequest:
    """A request from the command line or the library.

    request: the validated request, of the endpoint's class `Request`.
    model: the model that carries it out.
    overrides: values that replace options of the request, such as the number of new frames (see `Overrides`).
    """

    endpoint: Endpoint[Any, Any]
    request: BaseModel
    model: ModelChoice
    overrides: Overrides


def local_request(
    endpoint: Endpoint[Any, Any], user_input: UserInput, settings: Settings, model: str | None = None
) -> LocalRequest:
    """Returns the request for a user's input.

    model: name of the model; None means the endpoint's published model, or its stand-in if that is not installed.

    Two defaults differ from those of HTTP requests:
    - If the user sets no number of frames, 96 new frames are added to the whole source.
    - If the user sets no frame rate, the output has the source's rate.

    Raises InvalidRequest; its message names the wrong parameter.
    """
    named = {name: value for name, value in user_input.parameters.items() if value is not None}
    local = _pop_local(named, endpoint)
    _check_output(endpoint, named, user_input.output, local)
    data = request_data(endpoint, named, user_input.base, user_input.source)
    counted = endpoint.count_field is not None and endpoint.count_field in data
    if counted and local.new_frames is not None:
        raise InvalidRequest(
            f"Both {endpoint.count_field} and new_frames are given; give one of them.",
            loc=("body", str(endpoint.count_field)),
            value=data[str(endpoint.count_field)],
        )
    if endpoint.match_rate_field is not None and any(name in named for name in endpoint.rate_fields):
        data.setdefault(endpoint.match_rate_field, False)
    overrides = Overrides(
        new_frames=None if counted else local.new_frames or NEW_FRAMES,
        own_rate=not any(name in data for name in (*endpoint.rate_fields, endpoint.match_rate_field)),
        seed=local.seed,
        adapters=planned_loras(local.lora),
        output=user_input.output,
        quality=local.quality,
        write_mode=local.write_mode,
    )
    request = parse(endpoint.Request, data, forbid_unknown=True)
    choice = endpoint.model_choice(settings) if model is None else named_model(model, settings)
    check_family(endpoint, choice.card)
    return LocalRequest(endpoint, request, choice, overrides)


def _pop_local(named: dict[str, Any], endpoint: Endpoint[Any, Any]) -> LocalParameters:
    """Takes the parameters that all endpoints have on the command line and in the library out of `named`. Returns them
    as a validated object.

    A parameter whose name the endpoint's request has, too, stays in `named`. Parameters that are not taken out, or that
    `named` lacks, have their default values in the object.

    named: the user's values by name of the parameter. This mapping is changed.
    """
    own = {one.name for one in parameters(endpoint.id)}
    values = {name: named.pop(name) for name in LocalParameters.model_fields if name in named and name not in own}
    if LORA in values:
        values[LORA] = [list_item(one, LoRAWeight, LORA) for one in _as_list(values[LORA])]
    return parse(LocalParameters, values, forbid_unknown=True)


def _check_output(
    endpoint: Endpoint[Any, Any], named: Mapping[str, Any], output: OutputType | None, local: LocalParameters
) -> None:
    """Raises InvalidRequest if the user sets the file type, the quality or the write mode (the encoder's speed) twice,
    with different values, such as the type gif for a file `out.mp4`.

    named: the endpoint's own parameters, by name. Their values are compared with `output` and `local`.
    output: the type that the file's suffix means; None if there is no file name.
    local: the parameters that all endpoints have on the command line and in the library.
    """
    fields = endpoint.output_fields
    wanted = (
        (fields.type, output, "the file's suffix"),
        (fields.quality, local.quality, "quality"),
        (fields.write_mode, local.write_mode, "write_mode"),
    )
    for name, value, by in wanted:
        option = None if name is None else named.get(name)
        if name is not None and None not in (option, value) and option != value:
            raise InvalidRequest(
                f"{name} is {option!r}, and {by} asks for {value!r}; give one of them.",
                loc=("body", name),
                value=option,
            )
