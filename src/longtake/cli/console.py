"""Terminal output: progress and errors on standard error, facts and JSON on standard output."""

import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import typer

from longtake.errors import Cancelled, LongtakeError
from longtake.video import STAGES, OnProgress, Progress, ignore_progress

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

Rows = Sequence[tuple[str, str]]
"""Lines of a name and a value; a value may have several lines."""


@contextmanager
def reporting(*, as_json: bool, debug: bool) -> Iterator[None]:
    """Turns any error of the block into one sentence on standard error and an exit status.

    With `as_json` the error is also printed on standard output, in the shape of the HTTP API. With `debug` errors
    other than an interruption pass through with their traceback.
    """
    try:
        with interruptible():
            yield
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        _end(Cancelled(), as_json)
    except LongtakeError as error:
        if debug:
            raise
        _end(error, as_json)
    except Exception as error:
        if debug:
            raise
        _end(LongtakeError(_sentence(error)), as_json)


def _end(error: LongtakeError, as_json: bool) -> None:
    if as_json:
        print_json({"detail": [error.detail()]})
    typer.secho("Error: ", fg="red", bold=True, nl=False, err=True)
    typer.echo(error.message, err=True)
    raise typer.Exit(error.exit_code)


def _sentence(error: Exception) -> str:
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return (
            "The memory ran out; LONGTAKE_OFFLOAD=group or LONGTAKE_QUANTISE=fp8 need less, as do a lower --resolution "
            "and fewer frames (`longtake doctor` shows what there is)."
        )
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'A file'}: {error.strerror}."
    text = f"{type(error).__name__}: {error}".rstrip(": .")
    return f"Something failed inside longtake ({text}); run with --debug for the traceback."


@contextmanager
def interruptible() -> Iterator[None]:
    """Turns SIGINT and SIGTERM into `KeyboardInterrupt` during the block, so that the block can clean up.

    Raises `Cancelled` if the block ends with a `LongtakeError` after a signal.
    """
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except LongtakeError:
        # Ctrl-C reaches the child processes too. The error is then often that one of them has ended.
        if interrupted:
            raise Cancelled from None
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def print_json(document: Any) -> None:
    """Prints a document as indented JSON; values that JSON does not know are printed as text."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def print_rows(title: str, rows: Rows) -> None:
    """Prints a heading, then one line per name and value."""
    typer.secho(title, bold=True)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        first, *more = value.split("\n")
        typer.echo(f"  {name:<{width}}  {first}".rstrip())
        for line in more:
            typer.echo(f"  {'':<{width}}  {line}")


def bytes_text(count: int) -> str:
    """Returns a count of bytes as text in powers of 1000: 123 B, 4.5 KB, 6.7 MB, 8.9 GB."""
    if count < 1000:
        return f"{count} B"
    for unit, size in (("KB", 1e3), ("MB", 1e6)):
        if count < 999.5 * size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e9:.1f} GB"


@contextmanager
def progress_shown(*, quiet: bool, passes: int = 1) -> Iterator[OnProgress]:
    """Yields a callback that shows progress: bars on a terminal, else one line per stage; nothing if `quiet`.

    `passes` is the number of sampling passes per window.
    """
    if quiet:
        yield ignore_progress
    elif sys.stderr.isatty():
        with _bars(passes) as on_progress:
            yield on_progress
    else:
        yield _lines()


def _lines() -> OnProgress:
    seen: set[str] = set()
    start = time.monotonic()

    def on_progress(progress: Progress) -> None:
        name = stage_name(progress.stage)
        if name not in seen:
            seen.add(name)
            windows = f" in {progress.windows} windows" if progress.windows > 1 else ""
            typer.echo(f"[{time.monotonic() - start:6.1f} s] {name}{windows}", err=True)

    return on_progress


def stage_name(stage: str) -> str:
    """Returns the text shown for a `Progress.stage`. Only its first word counts: `load vae` is `Loading the model`."""
    kind = stage.split()[0]
    return STAGES.get(kind, kind.capitalize())


class StageShare:
    """Computes how much of a stage is finished. Its steps are counted anew in each window and each pass of a window."""

    def __init__(self, passes: int) -> None:
        self._passes = passes
        self._pass, self._window, self._step = 0, 1, 0

    def of(self, progress: Progress) -> float:
        """Returns the share in 0..1 at this progress. Progress must be passed in the order it is reported."""
        if progress.window != self._window:
            self._pass = 0
        elif progress.step < self._step:
            self._pass = min(self._pass + 1, self._passes - 1)
        self._window, self._step = progress.window, progress.step
        window_share = (self._pass + progress.step / max(progress.steps, 1)) / self._passes
        return min(1.0, (progress.window - 1 + window_share) / progress.windows)


@contextmanager
def _bars(passes: int) -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Display

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        TaskProgressColumn(),
        TextColumn("{task.fields[place]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Display(*columns, console=Console(stderr=True), transient=True) as display:
        tasks: dict[str, TaskID] = {}
        shares: dict[str, StageShare] = {}

        def on_progress(progress: Progress) -> None:
            name = stage_name(progress.stage)
            if name not in tasks:
                tasks[name] = display.add_task(name, total=1.0, place="")
                shares[name] = StageShare(passes if progress.stage == "sampling" else 1)
            window = f"window {progress.window}/{progress.windows}, " if progress.windows > 1 else ""
            place = f"{window}step {progress.step + 1}/{progress.steps}" if progress.stage == "sampling" else ""
            for other, task in tasks.items():
                display.update(task, visible=other == name)
            display.update(tasks[name], completed=shares[name].of(progress), place=place)

        yield on_progress
