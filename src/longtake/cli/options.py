"""Makes command line options from the parameters of an endpoint, and reads requests from JSON files."""

import inspect
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from longtake.cli.completion import fixed
from longtake.endpoints import ENDPOINTS, Endpoint
from longtake.endpoints.fields import LORAS, LoRAWeight
from longtake.errors import InvalidRequest, LongtakeError
from longtake.parameters import LORA, NEW_FRAMES, SEED, Parameter, item_syntax, parameters


@cache
def signature(endpoint: str) -> inspect.Signature:
    """Returns the options of the endpoint with this id, as the signature of a typer command.

    The default of each option is None. The options of the other endpoints are included but hidden from the help, so
    that a later check can name the endpoints that have such an option. Raises KeyError for an unknown id.
    """
    chosen = ENDPOINTS[endpoint]
    own = {parameter.name: parameter for parameter in parameters(endpoint)}
    extra = {name: option for name, option in _extra_options(chosen).items() if name not in own}
    foreign = {parameter.name: parameter for other in ENDPOINTS for parameter in parameters(other)}
    hidden = [parameter for name, parameter in foreign.items() if name not in own and name not in extra]
    return inspect.Signature(
        [
            *(_option(parameter, chosen) for parameter in own.values()),
            *extra.values(),
            *(_option(parameter, chosen, hidden=True) for parameter in hidden),
        ]
    )


def _option(parameter: Parameter, endpoint: Endpoint[Any, Any], *, hidden: bool = False) -> inspect.Parameter:
    value_type = _value_type(parameter)
    info = typer.Option(
        f"{parameter.flag}/--no-{parameter.flag[2:]}" if value_type is bool else parameter.flag,
        help=help_text(parameter, endpoint),
        rich_help_panel=f"Request of {endpoint.name}",
        metavar="LORA" if parameter.items is not None else "SIZE" if parameter.is_size else None,
        hidden=hidden,
        autocompletion=fixed(parameter.names),
    )
    return _keyword(parameter.name, list[str] if parameter.is_list else value_type, info)


def _extra_options(endpoint: Endpoint[Any, Any]) -> dict[str, inspect.Parameter]:
    """Returns the options `--lora` and `--seed` by name.

    The command line has them for every endpoint, even if the endpoint's request has no such field. Only the heading
    above them in the help depends on `endpoint`.
    """
    panel = f"Request of {endpoint.name}"
    text = f"{item_syntax(LoRAWeight)}; repeat it for several. {LORAS}; the API has no field for them here."
    loras = typer.Option("--lora", help=text, rich_help_panel=panel, metavar="LORA")
    seed = typer.Option("--seed", help="The seed; the API has no field for it here.", rich_help_panel=panel)
    return {LORA: _keyword(LORA, list[str], loras), SEED: _keyword(SEED, int, seed)}


def _keyword(name: str, value_type: Any, info: Any) -> inspect.Parameter:
    annotation: Any = Annotated[value_type | None, info]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _value_type(parameter: Parameter) -> Any:
    """Returns the type of an option's value: bool, int or float, or str for all other fields.

    The request model checks ranges and choices later, so that errors are worded as in the HTTP API.
    """
    shape = parameter.types[0] if len(parameter.types) == 1 else str
    return shape if shape in (bool, int, float) else str


def help_text(parameter: Parameter, endpoint: Endpoint[Any, Any]) -> str:
    """Returns the help text of an option: the field's description, its limits and its default.

    For the frame count and the frame rate the text also says what the command line does if the option is not used.
    """
    description = parameter.info.description or ""
    if parameter.items is not None:
        description = f"{item_syntax(parameter.items)}; repeat it for several. {description}"
    without = ""
    if parameter.loc == (endpoint.count_field,):
        without = f"Without it and --new-frames {NEW_FRAMES} frames are added to the whole source."
    elif parameter.loc[0] in endpoint.rate_fields:
        without = "Without it the video plays at the source's own rate."
    facts = _limits_and_default(parameter, show_default=not without)
    return " ".join(filter(None, (description, facts and f"({facts})", without)))


def _limits_and_default(parameter: Parameter, *, show_default: bool) -> str:
    field = parameter.info
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
    if parameter.choices:
        facts.append(" or ".join(parameter.choices))
    if field.is_required():
        facts.append("required")
    elif field.default not in (None, [], "") and show_default:
        default = ("no", "yes")[field.default] if isinstance(field.default, bool) else field.default
        facts.append(f"default: {default}")
    return "; ".join(facts)


@contextmanager
def naming_options(endpoint: Endpoint[Any, Any]) -> Iterator[None]:
    """Context manager: if its block raises an error about a field of a request, adds the name of the option that sets
    the field, such as `--fps`, to the error as a note. Other errors get no note.

    endpoint: the endpoint of the request.
    """
    try:
        yield
    except LongtakeError as error:
        loc = tuple(str(part) for part in error.loc if part != "body")
        flags: dict[tuple[str, ...], str] = {
            one.loc: one.flag for other in ENDPOINTS for one in parameters(other) if len(one.loc) == 1
        }
        flags |= {endpoint.source_field: "SOURCE"} | {one.loc: one.flag for one in parameters(endpoint.id)}
        flag = next((flags[loc[:end]] for end in range(len(loc), 0, -1) if loc[:end] in flags), None)
        if flag is not None:
            error.add_note(flag)
        raise


def json_input(name: str | None) -> dict[str, Any]:
    """Returns the request in the JSON file `name`. The name `-` is standard input. None returns an empty request.

    Raises InvalidRequest if the file cannot be read or does not contain a JSON object.
    """
    if name is None:
        return {}
    place = "Standard input" if name == "-" else f"The file {name!r}"
    try:
        # From bytes, Python recognises UTF-8 and UTF-16, which Windows' shells write, and a mark at the beginning.
        document = json.loads(sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes())
    except OSError as error:
        raise InvalidRequest(f"{place} cannot be read: {error.strerror}.", value=name) from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{place} is not JSON: {error}.", value=name) from None
    if not isinstance(document, dict):
        raise InvalidRequest(f"{place} must hold a request as a JSON object: {{...}}.", value=name)
    return document
