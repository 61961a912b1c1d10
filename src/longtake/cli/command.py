"""Typer commands whose options come from the request model of the chosen endpoint."""

from functools import cache
from itertools import pairwise
from typing import Any

import typer
from typer.core import TyperCommand

_ENDPOINT = "longtake.endpoint"
"""Key under which a command's context holds the value of `--endpoint`."""


class RequestCommand(TyperCommand):
    """A command with one more option per field of the chosen endpoint's request.

    The values of these options reach the command as the dictionary `ctx.obj`, by name. The options are made when the
    command is parsed or its help is shown, so `longtake --help` need not import the endpoints.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)
        *own, help_option = params
        for option in own:
            if option.name == "endpoint":
                option.help = option.help.replace("{names}", _endpoint_names())
        return [*own, *_request_params(ctx.meta.get(_ENDPOINT)), help_option]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_ENDPOINT] = last_value("--endpoint", args)
        return super().parse_args(ctx, with_value("--inspect", args))

    def invoke(self, ctx: Any) -> Any:
        ctx.obj = {param.name: ctx.params.pop(param.name) for param in _request_params(ctx.meta.get(_ENDPOINT))}
        return super().invoke(ctx)


def with_value(flag: str, args: list[str]) -> list[str]:
    """Returns the arguments with `flag=`, an empty value, in place of a `flag` that no value follows."""
    return [
        f"{flag}=" if arg == flag and following.startswith("-") else arg
        for arg, following in zip(args, [*args[1:], "-"], strict=True)
    ]


def last_value(flag: str, args: list[str]) -> str | None:
    """Returns the value that the arguments give `flag`; None if they do not.

    Of several values the last one counts, and `--flag=value` has priority over `--flag value`.
    """
    values = [value for arg, value in pairwise(args) if arg == flag]
    values += [arg.partition("=")[2] for arg in args if arg.startswith(f"{flag}=")]
    return values[-1] if values else None


@cache
def _endpoint_names() -> str:
    from longtake import endpoints

    names = ", ".join(endpoint.name for endpoint in endpoints.ENDPOINTS.values())
    return (
        f"{names}, an endpoint's id, or a part of one (default: {endpoints.DEFAULT}). With --help its options are shown"
    )


@cache
def _request_params(endpoint: str | None) -> tuple[Any, ...]:
    """Returns click's parameters for the options of an endpoint, named as on the command line.

    An unknown name gets the options of the default endpoint; the command itself then reports the error.
    """
    from longtake import endpoints
    from longtake.cli.options import signature
    from longtake.errors import InvalidRequest

    def request(**fields: Any) -> None: ...

    try:
        chosen = endpoints.endpoint(endpoint)
    except InvalidRequest:
        chosen = endpoints.endpoint(endpoints.DEFAULT)
    options = signature(chosen.id)
    # Typer reads options from a function's signature and annotations.
    vars(request)["__signature__"] = options
    request.__annotations__ = {name: parameter.annotation for name, parameter in options.parameters.items()}
    app = typer.Typer(add_completion=False)
    app.command()(request)
    return tuple(typer.main.get_command(app).params)
