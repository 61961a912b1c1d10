"""The command line: extend, plan, serve, models, keys, doctor. Every command imports what it needs when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from longtake.cli import serve
from longtake.cli.command import RequestCommand
from longtake.cli.console import print_json, print_rows, progress_shown, reporting
from longtake.cli.keys import app as keys_app
from longtake.media.formats import Quality, WriteMode
from longtake.version import __version__
from longtake.video import Progress

app = typer.Typer(
    name="longtake",
    help="Keeps the camera rolling: extends any video with LTX models, on your own hardware.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models_app = typer.Typer(name="models", help="The models on this machine.", no_args_is_help=True)
app.add_typer(models_app)
app.add_typer(keys_app)
app.command("serve")(serve.serve)
app.command("client-env")(serve.client_env)

SourceArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="SOURCE", help="The video to extend: a path, an http(s) URL or a data URI.", show_default=False
    ),
]
EndpointOption = Annotated[
    str | None,
    typer.Option("--endpoint", help="Whose parameters and counting to follow: {names}.", show_default=False),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="A model by name (`longtake models list`). Without it the endpoint's own, or the "
        "embedded one where that is not installed.",
    ),
]
JsonInputOption = Annotated[
    str | None,
    typer.Option(
        "--json-input",
        metavar="FILE",
        help="A request as JSON, as the HTTP API takes it; - is standard input. Options win over it.",
    ),
]
NewFramesOption = Annotated[
    int | None,
    typer.Option(
        "--new-frames",
        min=1,
        max=1441,
        help="Keep the whole source and add this many frames. Without this and the endpoint's own count: 96.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Let errors through with their traceback.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"longtake {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None: ...


@app.command(cls=RequestCommand)
def extend(
    ctx: typer.Context,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="OUT", help="The file to write: .mp4, .webm, .mov (ProRes 4444) or .gif."
        ),
    ],
    source: SourceArgument = None,
    endpoint: EndpointOption = None,
    model: ModelOption = None,
    json_input: JsonInputOption = None,
    new_frames: NewFramesOption = None,
    quality: Annotated[
        Quality | None, typer.Option(help="What may be lost in the file. (default: high)", show_default=False)
    ] = None,
    write_mode: Annotated[
        WriteMode | None,
        typer.Option(help="What time is spent to make it small. (default: balanced)", show_default=False),
    ] = None,
    inspect: Annotated[
        str | None,
        typer.Option(
            "--inspect",
            metavar="[PNG]",
            help="Measure the joint and draw it on a sheet: to this PNG or folder, "
            "or beside OUT where no value is given.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Extend a video: its own frames, then new ones that continue them, in one file."""
    with reporting(as_json=json, debug=debug):
        from longtake import endpoints, library
        from longtake.cli.inspection import check_sheet, sheet_path
        from longtake.cli.options import json_input as read_json
        from longtake.cli.show import Outcome
        from longtake.parameters import UserInput, local_request
        from longtake.settings import settings

        here = settings()
        beside = {"new_frames": new_frames, "quality": quality, "write_mode": write_mode}
        given = UserInput(ctx.obj | beside, source, read_json(json_input), library.output_type(output))
        call = local_request(endpoints.endpoint(endpoint), given, here, model)
        video = call.endpoint.source_url(call.request)
        library.check_writable(output, video, overwrite=force, remedy="--force")
        sheet = None if inspect is None else sheet_path(inspect, output)
        if sheet is not None:
            check_sheet(sheet, force=force)
        with (
            library.opened(call, here) as job,
            progress_shown(quiet=json, passes=job.plan.num_passes) as on_progress,
        ):
            on_progress(Progress("load", 0, 1))
            result = library.runner(here).run(job, output, on_progress=on_progress)
        outcome = Outcome.of(result, sheet)
        if json:
            print_json(outcome.to_json())
        else:
            print_rows("Finished", outcome.rows())


@app.command(cls=RequestCommand)
def plan(
    ctx: typer.Context,
    source: SourceArgument = None,
    endpoint: EndpointOption = None,
    model: ModelOption = None,
    json_input: JsonInputOption = None,
    new_frames: NewFramesOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what extend would do with the same options, without loading a model."""
    with reporting(as_json=json, debug=debug):
        from longtake import endpoints, library
        from longtake.cli.options import json_input as read_json
        from longtake.cli.plans import plan_sections
        from longtake.families import plan_to_json
        from longtake.parameters import UserInput, local_request
        from longtake.settings import settings

        here = settings()
        given = UserInput(ctx.obj | {"new_frames": new_frames}, source, read_json(json_input))
        call = local_request(endpoints.endpoint(endpoint), given, here, model)
        with library.opened(call, here) as job:
            if json:
                print_json(plan_to_json(job.plan))
                return
            for title, rows in plan_sections(job.plan, job.source.facts, call.endpoint.source_url(call.request)):
                print_rows(title, rows)


@app.command()
def doctor(json: JsonOption = False, debug: DebugOption = False) -> None:
    """Say what this machine can run, and why."""
    with reporting(as_json=json, debug=debug):
        from longtake.cli.doctor import examine
        from longtake.settings import settings

        report = examine(settings())
        if json:
            print_json(report.to_json())
        else:
            for title, rows in report.rows():
                print_rows(title, rows)
            typer.echo(
                "The embedded model runs here." if report.runs else "The embedded model cannot run here: see NO."
            )
        if not report.runs:
            raise typer.Exit(1)


@models_app.command("list")
def models_list(json: JsonOption = False, debug: DebugOption = False) -> None:
    """Every model, and whether it is here."""
    with reporting(as_json=json, debug=debug):
        from longtake.cli.show import model_json, model_rows
        from longtake.models.download import list_models
        from longtake.settings import settings

        models = list_models(settings())
        if json:
            print_json([model_json(model) for model in models])
        else:
            print_rows("Models", model_rows(models))


@models_app.command("pull")
def models_pull(name: str, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Fetch a model's files from the hub; what came before is taken up again."""
    with reporting(as_json=json, debug=debug):
        from longtake.models import download
        from longtake.models.registry import card
        from longtake.settings import settings

        here, model = settings(), card(name)
        planned = download.planned(model, here)
        typer.echo(planned.sentence(), err=True)
        with progress_shown(quiet=json) as on_progress:
            pulled = download.pull(model, here, on_progress)
        if json:
            files = [str(folder / file.path) for file, folder in pulled.files]
            print_json({"name": name, "num_bytes": pulled.num_bytes, "files": files})
        else:
            typer.echo(f"{name} is complete.")


@models_app.command("check")
def models_check(
    name_or_path: Annotated[
        str, typer.Argument(metavar="NAME_OR_PATH", help="A model, or a checkpoint file or folder.")
    ],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare a model's files with what the program expects, without loading weights."""
    with reporting(as_json=json, debug=debug):
        from longtake.cli.show import check_json, check_rows
        from longtake.models.checks import check
        from longtake.settings import settings

        report = check(name_or_path, settings())
        if json:
            print_json(check_json(report))
        else:
            print_rows(report.target, check_rows(report))
        if not report.fits:
            raise typer.Exit(1)


def main() -> None:
    """The entry point `longtake`."""
    app()
