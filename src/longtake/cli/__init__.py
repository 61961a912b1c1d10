"""The command line: extend, plan, serve, client-env, models, keys, doctor.

Each command imports the modules that it needs when it runs, so that `longtake --help` is fast.
"""

import time
from pathlib import Path
from typing import Annotated

import typer

from longtake.cli import keys, models, serve
from longtake.cli.command import CommandLine, RequestCommand
from longtake.cli.console import (
    DataDirOption,
    DebugOption,
    JsonOption,
    MeasureOption,
    print_json,
    print_rows,
    progress_shown,
    reporting,
)
from longtake.cli.output import check_output, make_output_safe
from longtake.cli.requests import RequestOptions
from longtake.media.formats import Quality, WriteMode
from longtake.version import __version__
from longtake.video import Progress

app = typer.Typer(
    name="longtake",
    help="Keeps the camera rolling: extends any video with LTX models, on your own hardware.",
    cls=CommandLine,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models.app)
app.add_typer(keys.app)
app.command("serve", short_help="Run a server: fal.ai's HTTP API, a queue, and a playground.")(serve.serve)
app.command("client-env", short_help="Print how programs with fal's clients find a server.")(serve.client_env)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"longtake {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None: ...


@app.command(cls=RequestCommand, short_help="Write a longer video.")
def extend(
    ctx: typer.Context,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="OUT", help="The file to write: .mp4, .webm, .mov (ProRes 4444) or .gif."
        ),
    ],
    quality: Annotated[
        Quality | None, typer.Option(help="The picture quality of the file. (default: high)", show_default=False)
    ] = None,
    write_mode: Annotated[
        WriteMode | None,
        typer.Option(help="The time spent on making the file small. (default: balanced)", show_default=False),
    ] = None,
    inspect: Annotated[
        str | None,
        typer.Option(
            "--inspect",
            metavar="[PNG]",
            help="Measure the joint and draw it on a sheet: to this PNG or folder, or beside OUT if no value is given.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.")] = False,
) -> None:
    """Extend a video: write a file with the frames of the source and new frames that continue them."""
    options: RequestOptions = ctx.obj
    started = time.monotonic()
    with options.request(output, quality=quality, write_mode=write_mode) as (local, settings):
        from longtake import library
        from longtake.cli.inspection import check_sheet, sheet_path
        from longtake.cli.results import FinishedVideo

        video = local.endpoint.source_url(local.request)
        library.check_writable(output, video, overwrite=force, remedy="--force")
        local.model.check()
        sheet = None if inspect is None else sheet_path(inspect, output)
        if sheet is not None:
            check_sheet(sheet, force=force)
        with (
            library.open_job(local, settings) as job,
            progress_shown(quiet=options.json) as on_progress,
        ):
            on_progress(Progress("libraries", 0, 1))
            result = library.local_runner(settings).run(job, output, on_progress=on_progress)
        finished = FinishedVideo.of(result, sheet, time.monotonic() - started)
        if options.json:
            print_json(finished.to_json())
        else:
            print_rows("Finished", finished.rows())


@app.command(cls=RequestCommand)
def plan(ctx: typer.Context) -> None:
    """Show what `extend` would do with the same options. No model is loaded."""
    options: RequestOptions = ctx.obj
    with options.request() as (local, settings):
        from longtake import library
        from longtake.plan_text import plan_document, plan_sections

        with library.open_job(local, settings) as job:
            if options.json:
                print_json(plan_document(job.plan))
                return
            for title, rows in plan_sections(job.plan, job.source.facts, local.endpoint.source_url(local.request)):
                print_rows(title, rows)


@app.command()
def doctor(
    data_dir: DataDirOption = None, measure: MeasureOption = False, json: JsonOption = False, debug: DebugOption = False
) -> None:
    """Report what this machine can run and what is missing. The exit status is 1 if a small model in the package
    cannot run.
    """
    with reporting(as_json=json, debug=debug):
        from longtake.cli.doctor import examine
        from longtake.settings import settings

        report = examine(settings(), measures=measure)
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


def main() -> None:
    """Runs the command line with the arguments of this process."""
    make_output_safe()
    try:
        app()
    except SystemExit as end:
        if not end.code:
            check_output()
        raise
