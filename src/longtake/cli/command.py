"""Typer commands that have one option for each field of the chosen endpoint's request."""

from functools import cache
from itertools import pairwise
from typing import Any

import typer
from typer.core import TyperCommand

_ENDPOINT = "longtake.endpoint"
"""The key under which a command's `ctx.meta` contains the value of the option `--endpoint`."""


class RequestCommand(TyperCommand):
    """A command that also has one option for each field of the request of an endpoint.

    The user chooses the endpoint with `--endpoint`. When the command runs, `ctx.obj` contains the values of these
    options: option name -> value, None for an option that is not used. The options are created when the command is
    parsed or its help is shown, so that `longtake --help` does not import the endpoints.
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
    """Returns `args`, but replaces each `flag` that has no value by `flag=`, a flag with an empty value.

    A flag has no value if the next argument starts with `-`, or if the flag is the last argument.
    """
    return [
        f"{flag}=" if arg == flag and next_arg.startswith("-") else arg
        for arg, next_arg in zip(args, [*args[1:], "-"], strict=True)
    ]


def last_value(flag: str, args: list[str]) -> str | None:
    """Returns the value of the option `flag` in the arguments `args`, or None if `args` does not contain the option.

    If `args` contains the option several times, the result is:
    - the last value written as `--flag=value`, if there is one;
    - otherwise the last value written as `--flag value`.
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
    """Returns the options for the request of an endpoint, as click's parameters.

    `endpoint` is the value of `--endpoint`; None is the default endpoint. For an unknown name the options of the
    default endpoint are returned, and the command itself reports the error later.
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
