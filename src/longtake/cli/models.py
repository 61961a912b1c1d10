"""The commands for models: `longtake models list`, `pull`, `rm` and `check`."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longtake.cli import completion
from longtake.cli.console import (
    DataDirOption,
    DebugOption,
    JsonOption,
    Rows,
    bytes_text,
    print_json,
    print_rows,
    progress_shown,
    reporting,
)
from longtake.errors import InvalidRequest

if TYPE_CHECKING:
    from longtake.models.checks import CheckReport
    from longtake.models.download import ModelStatus

app = typer.Typer(name="models", help="The models on this machine.", no_args_is_help=True)

ASK_FROM_BYTES = 10**9
"""Size in bytes of the smallest download for which the user is asked before it begins."""

PublishedModel = Annotated[
    str, typer.Argument(metavar="NAME", help="A model by name.", autocompletion=completion.published_models)
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command("list")
def list_models(data_dir: DataDirOption = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """List all models and show which of them are installed."""
    with reporting(as_json=json, debug=debug):
        from longtake.models import download
        from longtake.settings import settings

        models = download.list_models(settings())
        if json:
            print_json([model_json(model) for model in models])
        else:
            print_rows("Models", model_rows(models))


@app.command("pull")
def pull(
    name: PublishedModel,
    yes: YesOption = False,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Download a model's files from the Hugging Face hub. After an interruption the same command resumes the
    download. It asks before it downloads 1 GB or more.
    """
    with reporting(as_json=json, debug=debug):
        from longtake.models import download
        from longtake.models.registry import card
        from longtake.settings import settings

        user_settings, model = settings(), card(name)
        plan = download.plan_pull(model, user_settings)
        typer.echo(plan.sentence(), err=True)
        if plan.num_bytes >= ASK_FROM_BYTES and not yes:
            _ask(f"Download {bytes_text(plan.num_bytes)}?")
        with progress_shown(quiet=json) as on_progress:
            pulled = download.pull(model, user_settings, on_progress)
        if json:
            files = [str(folder / file.path) for file, folder in pulled.files]
            print_json({"name": name, "num_bytes": pulled.num_bytes, "files": files})
        else:
            typer.echo(f"{name} is complete.")


@app.command("rm")
def rm(
    name: PublishedModel,
    yes: YesOption = False,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Delete a model's downloaded files. It asks first. Files that another model on this machine uses stay."""
    with reporting(as_json=json, debug=debug):
        from longtake.models import removal
        from longtake.models.registry import card
        from longtake.settings import settings

        plan = removal.plan_removal(card(name), settings())
        num_bytes = plan.num_bytes
        typer.echo(plan.sentence(), err=True)
        if not yes:
            _ask(f"Delete {bytes_text(num_bytes)}?")
        removal.remove(plan)
        if json:
            print_json({"name": name, "num_bytes": num_bytes, "folders": list(map(str, plan.folders))})
        else:
            typer.echo(f"{name} is removed.")


def _ask(question: str) -> None:
    """Asks the user a yes/no question. Ends the command with status 1 if the answer is no.

    Raises InvalidRequest if standard input is not a terminal, because nobody can answer then.
    """
    if not sys.stdin.isatty():
        raise InvalidRequest(f"{question} Nobody can answer without a terminal; --yes gives the permission.")
    if not typer.confirm(question, err=True):
        typer.echo("Nothing was changed.", err=True)
        raise typer.Exit(1)


@app.command("check")
def check(
    name_or_path: Annotated[
        str,
        typer.Argument(
            metavar="NAME_OR_PATH",
            help="A model, or a checkpoint file or folder.",
            autocompletion=completion.models,
        ),
    ],
    data_dir: DataDirOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Check whether a model's files are complete and fit this program. No weights are loaded."""
    with reporting(as_json=json, debug=debug):
        from longtake.models import checks
        from longtake.settings import settings

        user_settings = settings()
        report = checks.check(name_or_path, user_settings)
        advice = checks.advice(report, user_settings)
        if json:
            print_json(check_json(report, advice))
        else:
            print_rows(report.target, check_rows(report))
            typer.echo(advice)
        if report.fits is False:
            raise typer.Exit(1)


def model_json(status: "ModelStatus") -> dict[str, Any]:
    """Returns the JSON object of one model in the list that `models list --json` prints."""
    return {
        "name": status.card.name,
        "title": status.card.title,
        "licence": status.card.licence,
        "installed": status.installed,
        "missing": list(status.missing),
        "num_bytes": status.num_bytes,
        "absent_bytes": status.absent_bytes,
        "parts": {part: str(path) for part, path in status.parts.items()},
        "adapters": {name: str(path) for name, path in status.adapters.items()},
    }


def model_rows(models: "Sequence[ModelStatus]") -> Rows:
    """Returns one row (name, value) for each model.

    The value has three lines: whether the model is installed, its title, and its licence.
    """
    rows = []
    for status in models:
        if status.installed:
            state = f"here, {bytes_text(status.num_bytes)}"
            if status.adapters:
                state += f", with its adapters {', '.join(status.adapters)}"
        else:
            state = f"here without its {', '.join(status.missing)}" if status.parts else "not here"
            if not status.card.embedded:
                size = bytes_text(status.absent_bytes)
                state += f"; `longtake models pull {status.card.name}` downloads about {size}"
        rows.append((status.card.name, f"{state}\n{status.card.title}\n{status.card.licence}"))
    return rows


def check_json(report: "CheckReport", advice: str) -> dict[str, Any]:
    """Returns the document that `models check --json` prints.

    advice: the sentence on what the user has to do.
    """
    parts = [
        {
            "part": part.part,
            "path": str(part.path),
            "num_parameters": part.num_parameters,
            "problem": part.problem,
            "compared": part.compared,
        }
        for part in report.parts
    ]
    document = {"target": report.target, "fits": report.fits, "missing": list(report.missing), "parts": parts}
    return document | {"advice": advice}


def check_rows(report: "CheckReport") -> Rows:
    """Returns one row (part, value) for each part of the checked model, such as the VAE. The missing parts come last.

    The value is the result of the check and the path of the part, or `missing`.
    """
    rows = [(part.part, f"{part.sentence()}\n{part.path}") for part in report.parts]
    return [*rows, *((part, "missing") for part in report.missing)]
