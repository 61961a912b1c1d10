"""The parameters of an endpoint as options of a command, and a request in a JSON file."""

import inspect
import json
import sys
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from longtake.endpoints import ENDPOINTS, Endpoint
from longtake.endpoints.fields import LORAS, LoRAWeight
from longtake.errors import InvalidRequest
from longtake.parameters import LORA, NEW_FRAMES, SEED, Parameter, item_syntax, parameters


@cache
def signature(endpoint: str) -> inspect.Signature:
    """The options of the endpoint with this id as parameters of a typer command, each None where it is not given.

    Those that only other endpoints have are hidden: a request that names one is refused in words.
    """
    known = ENDPOINTS[endpoint]
    own = {one.name: one for one in parameters(endpoint)}
    others = {one.name: one for other in ENDPOINTS for one in parameters(other) if one.name not in own}
    options = [_option(one, known) for one in own.values()]
    for name, parameter in _beside(known).items():
        if name not in own:
            others.pop(name, None)
            options.append(parameter)
    options += [_option(one, known, hidden=True) for one in others.values()]
    return inspect.Signature(options)


def _option(one: Parameter, endpoint: Endpoint[Any, Any], *, hidden: bool = False) -> inspect.Parameter:
    kind = _kind(one)
    info = typer.Option(
        f"{one.flag}/--no-{one.flag[2:]}" if kind is bool else one.flag,
        help=_escaped(help_text(one, endpoint)),
        rich_help_panel=f"Request of {endpoint.name}",
        metavar="LORA" if one.items is not None else "SIZE" if one.is_size else None,
        hidden=hidden,
    )
    return _parameter(one.name, list[str] if one.is_list else kind, info)


def _beside(endpoint: Endpoint[Any, Any]) -> dict[str, inspect.Parameter]:
    """The options for what an endpoint's requests may have no field for."""
    panel = f"Request of {endpoint.name}"
    text = f"{item_syntax(LoRAWeight)}; repeat it for several. {LORAS}; the API has no field for them here."
    loras = typer.Option("--lora", help=_escaped(text), rich_help_panel=panel, metavar="LORA")
    seed = typer.Option("--seed", help="The seed; the API has no field for it here.", rich_help_panel=panel)
    return {LORA: _parameter(LORA, list[str], loras), SEED: _parameter(SEED, int, seed)}


def _parameter(name: str, kind: Any, info: Any) -> inspect.Parameter:
    annotation: Any = Annotated[kind | None, info]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _kind(one: Parameter) -> Any:
    """The type of an option's value: bool, int, float, or text where a field takes anything else.

    Ranges and choices stay with the request model, which says what is wrong in its own words.
    """
    shape = one.shapes[0] if len(one.shapes) == 1 else str
    return shape if shape in (bool, int, float) else str


def help_text(one: Parameter, endpoint: Endpoint[Any, Any]) -> str:
    """The field's description, then its limits and default, then what the command line does without it."""
    description = one.info.description or ""
    if one.items is not None:
        description = f"{item_syntax(one.items)}; repeat it for several. {description}"
    instead = ""
    if one.loc == (endpoint.count_field,):
        instead = f"Without it and --new-frames {NEW_FRAMES} frames are added to the whole source."
    elif one.loc[0] in endpoint.rate_fields:
        instead = "Without it the video plays at the source's own rate."
    facts = _facts(one, own_default=bool(instead))
    return " ".join(filter(None, (description, facts and f"({facts})", instead)))


def _facts(one: Parameter, *, own_default: bool) -> str:
    field = one.info
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
    if one.choices:
        facts.append(" or ".join(one.choices))
    if field.is_required():
        facts.append("required")
    elif field.default not in (None, [], "") and not own_default:
        default = ("no", "yes")[field.default] if isinstance(field.default, bool) else field.default
        facts.append(f"default: {default}")
    return "; ".join(facts)


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")


def json_input(name: str | None) -> dict[str, Any]:
    """The request in a JSON file, or on standard input for `-`; nothing where none is named."""
    if name is None:
        return {}
    place = "Standard input" if name == "-" else f"The file {name}"
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        document = json.loads(text)
    except OSError as error:
        raise InvalidRequest(f"{place} cannot be read: {error.strerror}.", value=name) from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{place} is not JSON: {error}.", value=name) from None
    if not isinstance(document, dict):
        raise InvalidRequest(
            f"{place} must hold a request as a JSON object, not {type(document).__name__}.", value=name
        )
    return document
