"""The options that the commands `extend` and `plan` share, and the request that they make of them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longtake.cli import completion
from longtake.cli.console import DataDirOption, DebugOption, JsonOption, reporting

if TYPE_CHECKING:
    from longtake.parameters import LocalRequest
    from longtake.settings import Settings


def shared_options(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="The video to extend: a path, a URL (http, https or file) or a data URI.",
            show_default=False,
        ),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint",
            help="The endpoint whose parameters are used: {names}.",
            show_default=False,
            autocompletion=completion.endpoints,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="A model by name (`longtake models list`). Default: the endpoint's own, or the "
            "embedded one if that is not installed.",
            autocompletion=completion.models,
        ),
    ] = None,
    json_input: Annotated[
        str | None,
        typer.Option(
            "--json-input",
            metavar="FILE",
            help="A file with a request as JSON, as for the HTTP API; - is standard input. "
            "Options override its fields.",
        ),
    ] = None,
    new_frames: Annotated[
        int | None,
        typer.Option(
            "--new-frames",
            min=1,
            max=1441,
            help="Keep the whole source and add this many frames. Default: 96, unless the endpoint's own count is set.",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Does nothing. Typer reads the shared options from its parameters."""


@dataclass(frozen=True)
class RequestOptions:
    """The values of the options of `extend` and `plan`, except those that only one of them has.

    fields: the options of the endpoint's request: name -> value, None for an option that is not used.
    The other attributes are the parameters of `shared_options`.
    """

    fields: Mapping[str, Any]
    source: str | None
    endpoint: str | None
    model: str | None
    json_input: str | None
    new_frames: int | None
    json: bool
    debug: bool

    @contextmanager
    def request(self, output: Path | None = None, **output_options: Any) -> Iterator[tuple["LocalRequest", "Settings"]]:
        """A context manager that yields the request that the options describe, and the settings of this process.

        If an option is wrong or the block raises an error, prints a sentence on standard error, with the name of the
        option at fault, and raises typer.Exit with the error's exit status. With `--debug` the error itself is raised.

        output: the file to write. Its suffix sets the type of the file.
        output_options: values of `quality` and `write_mode`.
        """
        with reporting(as_json=self.json, debug=self.debug):
            from longtake import endpoints, library
            from longtake.cli.options import json_input, naming_options
            from longtake.parameters import UserInput, local_request
            from longtake.settings import settings

            user_settings = settings()
            chosen = endpoints.endpoint(self.endpoint)
            with naming_options(chosen):
                options = {**self.fields, "new_frames": self.new_frames, **output_options}
                output_type = None if output is None else library.output_type(output)
                # A list option that is not used is an empty list.
                given = {name: value for name, value in options.items() if value not in ([], ())}
                user_input = UserInput(given, self.source, json_input(self.json_input), output_type)
                yield local_request(chosen, user_input, user_settings, self.model), user_settings
