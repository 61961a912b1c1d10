"""Commands that take a request: their options come from the endpoint's request, made only when they are needed."""

from functools import cache
from itertools import pairwise
from typing import Any

import typer
from typer.core import TyperCommand

_ENDPOINT = "longtake.endpoint"


class RequestCommand(TyperCommand):
    """A command with one option more per field of the chosen endpoint's request; they reach it as `ctx.obj`, by name.

    They are made when the command itself is parsed or explained, not for `longtake --help`.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)
        *own, help_option = params
        for option in own:
            if option.name == "endpoint":
                option.help = option.help.replace("{names}", _names())
        return [*own, *_request_params(ctx.meta.get(_ENDPOINT)), help_option]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_ENDPOINT] = _named("--endpoint", args)
        return super().parse_args(ctx, with_value("--inspect", args))

    def invoke(self, ctx: Any) -> Any:
        ctx.obj = {param.name: ctx.params.pop(param.name) for param in _request_params(ctx.meta.get(_ENDPOINT))}
        return super().invoke(ctx)


def with_value(flag: str, args: list[str]) -> list[str]:
    """The arguments with an empty value after a `flag` that stands alone."""
    return [
        f"{flag}=" if arg == flag and after.startswith("-") else arg
        for arg, after in zip(args, [*args[1:], "-"], strict=True)
    ]


def _named(flag: str, args: list[str]) -> str | None:
    """The value that the arguments give to `flag`, the last one counting; None where it is not given."""
    values = [after for arg, after in pairwise(args) if arg == flag]
    values += [arg.partition("=")[2] for arg in args if arg.startswith(f"{flag}=")]
    return values[-1] if values else None


@cache
def _names() -> str:
    from longtake import endpoints

    names = ", ".join(one.name for one in endpoints.ENDPOINTS.values())
    return (
        f"{names}, an endpoint's id, or a part of one (default: {endpoints.DEFAULT}). With --help its options are shown"
    )


@cache
def _request_params(endpoint: str | None) -> tuple[Any, ...]:
    """The parameter objects for an endpoint's options, made by typer from their signature. Of a name that fits no
    endpoint they are the default's; the command then says what is wrong."""
    from longtake import endpoints
    from longtake.cli.options import signature
    from longtake.errors import InvalidRequest

    def request(**fields: Any) -> None: ...

    try:
        chosen = endpoints.endpoint(endpoint)
    except InvalidRequest:
        chosen = endpoints.endpoint(endpoints.DEFAULT)
    options = signature(chosen.id)
    vars(request)["__signature__"] = options
    request.__annotations__ = {name: parameter.annotation for name, parameter in options.parameters.items()}
    made = typer.Typer(add_completion=False)
    made.command()(request)
    return tuple(typer.main.get_command(made).params)
