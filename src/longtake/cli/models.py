"""The commands for models: `longtake models list`, `pull` and `check`."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
from longtake.models.registry import CARDS

if TYPE_CHECKING:
    from longtake.models.checks import CheckReport
    from longtake.models.download import ModelStatus

ASK_FROM_BYTES = 10**9
"""Size of a download in bytes from which `models pull` asks before it begins."""

app = typer.Typer(name="models", help="The models on this machine.", no_args_is_help=True)


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
    name: str,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Download gigabytes without a question.")] = False,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Download a model's files from the Hugging Face hub. After an interruption the same command resumes the
    download.
    """
    with reporting(as_json=json, debug=debug):
        from longtake.models import download
        from longtake.models.registry import card
        from longtake.settings import settings

        user_settings, model = settings(), card(name)
        plan = download.plan_pull(model, user_settings)
        typer.echo(plan.sentence(), err=True)
        if plan.num_bytes >= ASK_FROM_BYTES and not yes and not _agrees():
            return
        with progress_shown(quiet=json) as on_progress:
            pulled = download.pull(model, user_settings, on_progress)
        if json:
            files = [str(folder / file.path) for file, folder in pulled.files]
            print_json({"name": name, "num_bytes": pulled.num_bytes, "files": files})
        else:
            typer.echo(f"{name} is complete.")


def _agrees() -> bool:
    """Asks on the terminal whether to download, and returns the answer. Raises InvalidRequest without a terminal."""
    if not sys.stdin.isatty():
        raise InvalidRequest("A download of gigabytes needs your consent: without a terminal to ask at, give --yes.")
    return typer.confirm("Download it?", err=True)


@app.command("check")
def check(
    name_or_path: Annotated[
        str, typer.Argument(metavar="NAME_OR_PATH", help="A model, or a checkpoint file or folder.")
    ],
    data_dir: DataDirOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Check whether a model's files are complete and fit this program. No weights are loaded."""
    with reporting(as_json=json, debug=debug):
        from longtake.models import checks
        from longtake.settings import settings

        report = checks.check(name_or_path, settings())
        if json:
            print_json(check_json(report))
        else:
            print_rows(report.target, check_rows(report))
            typer.echo(advice(report))
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
        elif status.parts:
            state = f"here without its {', '.join(status.missing)}"
        else:
            state = "not here" if status.card.embedded else f"not here: `longtake models pull {status.card.name}`"
        rows.append((status.card.name, f"{state}\n{status.card.title}\n{status.card.licence}"))
    return rows


def check_json(report: "CheckReport") -> dict[str, Any]:
    """Returns the document that `models check --json` prints."""
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
    return {"target": report.target, "fits": report.fits, "missing": list(report.missing), "parts": parts}


def advice(report: "CheckReport") -> str:
    """Returns a sentence on what to do after `models check`."""
    if report.fits is not False:
        return (
            "Everything fits." if report.fits else "Nothing here contradicts the model; `longtake extend` can try it."
        )
    if report.target in CARDS and not CARDS[report.target].embedded:
        return (
            f"`longtake models pull {report.target}` fetches what is missing; delete the files that do not fit first."
        )
    return "Get the files that are missing or do not fit again from where they came from."


def check_rows(report: "CheckReport") -> Rows:
    """Returns one row (part, value) for each part of the checked model. The missing parts come last.

    The value is the result of the check and the path of the part, or `missing`.
    """
    rows = [(part.part, f"{part.sentence()}\n{part.path}") for part in report.parts]
    return [*rows, *((part, "missing") for part in report.missing)]
