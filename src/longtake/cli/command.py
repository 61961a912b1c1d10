"""Commands that take a request: their options come from the request models, made only when they are needed."""

from functools import cache
from typing import Any

import typer
from typer.core import TyperCommand


class RequestCommand(TyperCommand):
    """A command with one option more per field of the endpoints' requests; they reach it as `ctx.obj`, by name.

    They are made when the command itself is parsed or explained, not for `longtake --help`.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        *own, help_option = super().get_params(ctx)
        return [*own, *_request_params(), help_option]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_value("--inspect", args))

    def invoke(self, ctx: Any) -> Any:
        ctx.obj = {param.name: ctx.params.pop(param.name) for param in _request_params()}
        return super().invoke(ctx)


def with_value(flag: str, args: list[str]) -> list[str]:
    """The arguments with an empty value after a `flag` that stands alone."""
    return [
        f"{flag}=" if arg == flag and after.startswith("-") else arg
        for arg, after in zip(args, [*args[1:], "-"], strict=True)
    ]


@cache
def _request_params() -> tuple[Any, ...]:
    """The parameter objects for the request's options, made by typer from their signature."""
    from longtake.cli.options import signature

    def request(**fields: Any) -> None: ...

    options = signature()
    vars(request)["__signature__"] = options
    request.__annotations__ = {name: parameter.annotation for name, parameter in options.parameters.items()}
    made = typer.Typer(add_completion=False)
    made.command()(request)
    return tuple(typer.main.get_command(made).params)
