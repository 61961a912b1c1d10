"""Typer commands that have one option for each field of an endpoint's request, and the program's whole command line."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from longtake.cli.console import print_json
from longtake.cli.requests import RequestOptions, shared_options
from longtake.errors import InvalidRequest

_ENDPOINT = "longtake.endpoint"
"""The key under which a command's `ctx.meta` contains the value of the option `--endpoint`."""


_SHOWS_ALL = "longtake.shows_all"
"""The key under which `ctx.meta` contains True if the help shows every option."""

_ARGS = "longtake.args"
"""The key under which `ctx.meta` contains the arguments of the command line."""

SHORT_HELP = {
    *(
        "prompt",
        "negative_prompt",
        "seed",
        "lora",
        "resolution",
        "video_size",
        "aspect_ratio",
        "num_frames",
        "duration",
    ),
    *("frame_rate", "fps", "frames_per_second", "extend_direction", "end_image_url", "camera_lora", "generate_audio"),
    *("mode", "context"),
}
"""Names of the request's options that `--help` shows; `--help-all` shows the others, too."""


NO_NUMBER = "unable to parse string as an integer"
"""The end of pydantic's error message for a value that is not a whole number. It is replaced by a plainer sentence."""

LIMITS = {
    "Input should be greater than or equal to ": "It must be at least ",
    "Input should be less than or equal to ": "It must be at most ",
}
"""Beginnings of pydantic's error messages for a number out of its range, and those of the sentences that replace
them."""


class CommandLine(TyperGroup):
    """The group of all commands. With `--json`, usage errors (such as an unknown option) are also printed as JSON on
    standard output."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_ARGS] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.TyperException as error:
            # Only an error in the use of a command has this method. `reporting` has printed the other ones.
            if hasattr(error, "format_message"):
                name, value = _wrong_option(error, ctx.meta[_ARGS])
                reason = _plain(error.message)
                error.message = f"{value}. {reason}" if value else reason
                if "--json" in ctx.meta[_ARGS]:
                    loc = ("body",) if name is None else ("body", name)
                    print_json(InvalidRequest(usage_sentence(error), loc=loc, value=value).body())
            raise


def _plain(message: str) -> str:
    """Returns the message of a usage error in the words of this program's other errors."""
    reason = message.removeprefix("Value error, ")
    if reason.endswith(NO_NUMBER):
        return "It must be a whole number."
    for start, plain in LIMITS.items():
        if reason.startswith(start):
            return f"{plain}{reason.removeprefix(start)}."
    return reason


def _wrong_option(error: Any, args: list[str]) -> tuple[str | None, str | None]:
    """Returns (name, value) of the option or argument that caused a usage error.

    - name: None if the error is not about a single option or argument.
    - value: the option's value in `args`. None if the name is None, or `args` does not contain the option.

    error: click's usage error. Its attribute `param`, if present, is the option or argument that caused it.
    args: the arguments of the command line.
    """
    param = getattr(error, "param", None)
    if param is None:
        return None, None
    values = [value for flag in param.opts if (value := last_value(flag, args)) is not None]
    return param.name, values[0] if values else None


def usage_sentence(error: Any) -> str:
    """Returns the message of a usage error as a sentence. A full stop is added if it has no punctuation at its end.

    `error` is click's usage error, whose method `format_message` returns the message.
    """
    message = str(error.format_message()).strip()
    return message if message.endswith((".", "?", "!", ")")) else f"{message}."


class RequestCommand(TyperCommand):
    """A command that makes a request (`extend` or `plan`). It has options of three kinds:

    1. its own options
    2. options that both commands have: the parameters of `shared_options`
    3. one option for each field of the request.

    The user chooses the request's endpoint with `--endpoint`. When the command runs, `ctx.obj` is a RequestOptions with
    the values of the options of kinds 2 and 3. The options are created when the command is parsed or its
    help is shown, so that `longtake --help` does not import the endpoints.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)
        *own, help_option = params
        fields = _request_params(ctx.meta.get(_ENDPOINT))
        return [*own, *_shared_params(), *fields, help_option, _help_all_option()]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the descriptions of the options into the help. The request's options have a section of their own.

        With `--help-all` this section has all of the request's options. Otherwise it has only those in SHORT_HELP, and
        a line at the end of the help says how many are left out. The names of options are never cut.
        """
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": []}  # the first section
        hidden = 0
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            panel = getattr(param, "rich_help_panel", None)
            if record is None:
                continue
            if panel is not None and param.name not in SHORT_HELP and not ctx.meta.get(_SHOWS_ALL):
                hidden += 1
                continue
            title = panel or ("Arguments" if param.param_type_name == "argument" else "Options")
            groups.setdefault(title, []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)
        more = f"{hidden} more options of this endpoint: --help-all. " if hidden else ""
        formatter.write_paragraph()
        formatter.write_text(f"{more}Another endpoint's options: --endpoint NAME --help")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_ENDPOINT] = last_value("--endpoint", args)
        return super().parse_args(ctx, with_value("--inspect", args))

    def invoke(self, ctx: Any) -> Any:
        def values(params: Sequence[Any]) -> dict[str, Any]:
            return {param.name: ctx.params.pop(param.name) for param in params if param.expose_value}

        ctx.obj = RequestOptions(fields=values(_request_params(ctx.meta.get(_ENDPOINT))), **values(_shared_params()))
        return super().invoke(ctx)


def with_value(flag: str, args: list[str]) -> list[str]:
    """Returns `args` with `flag=`, a flag with an empty value, in place of each `flag` that has no value.

    A flag has no value if the next argument starts with `-`, or if the flag is the last argument. For example, the flag
    `--inspect` in `--inspect --json` becomes `--inspect=`.
    """
    return [
        f"{flag}=" if arg == flag and next_arg.startswith("-") else arg
        for arg, next_arg in zip(args, [*args[1:], "-"], strict=False)  # `args` may be empty
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


def _show_all(ctx: typer.Context, requested: bool) -> None:
    if requested:
        ctx.meta[_SHOWS_ALL] = True
        typer.echo(ctx.get_help())
        raise typer.Exit


@cache
def _help_all_option() -> Any:
    """Returns the option `--help-all`, which prints the help with every option, as click's parameter."""

    def command(
        help_all: Annotated[
            bool,
            typer.Option(
                "--help-all",
                help="Show this message with every option and exit.",
                is_eager=True,
                expose_value=False,
                callback=_show_all,
            ),
        ] = False,
    ) -> None: ...

    return _params(command)[0]


@cache
def _shared_params() -> tuple[Any, ...]:
    """Returns the options that `extend` and `plan` both have (see `shared_options`), as click's parameters."""
    params = _params(shared_options)
    for option in params:
        if option.name == "endpoint":
            option.help = option.help.replace("{names}", _endpoint_names())
    return params


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

    def request(**fields: Any) -> None: ...

    try:
        chosen = endpoints.endpoint(endpoint)
    except InvalidRequest:
        chosen = endpoints.endpoint(endpoints.DEFAULT)
    options = signature(chosen.id)
    # Typer reads options from a function's signature and annotations.
    vars(request)["__signature__"] = options
    request.__annotations__ = {name: parameter.annotation for name, parameter in options.parameters.items()}
    return _params(request)


def _params(function: Callable[..., None]) -> tuple[Any, ...]:
    """Returns the options that typer reads from the parameters of a function, as click's parameters."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(function)
    return tuple(typer.main.get_command(app).params)
