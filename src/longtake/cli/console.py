"""What the command line says: progress and errors on standard error, facts and JSON on standard output."""

import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import typer

from longtake.errors import Cancelled, LongtakeError
from longtake.video import STAGES, OnProgress, Progress, ignore_progress

Rows = Sequence[tuple[str, str]]


@contextmanager
def reporting(*, as_json: bool, debug: bool) -> Iterator[None]:
    """Ends the command with one sentence and an exit status, whatever goes wrong in the block; no traceback.

    With `as_json` the error is on standard output too, in the wire's shape. `debug` lets a traceback through.
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
    """In the block Ctrl-C and a request to terminate end the work cleanly, as `Cancelled`."""
    asked = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except LongtakeError:
        # The terminal interrupts our child processes too, and one may be first to say that it ended.
        if asked:
            raise Cancelled from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def print_rows(title: str, rows: Rows) -> None:
    """A heading and lines of name and value."""
    typer.secho(title, bold=True)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        first, *more = value.split("\n")
        typer.echo(f"  {name:<{width}}  {first}".rstrip())
        for line in more:
            typer.echo(f"  {'':<{width}}  {line}")


def bytes_text(count: int) -> str:
    """123 B, 4.5 KB, 6.7 MB, 8.9 GB (powers of 1000)."""
    if count < 1000:
        return f"{count} B"
    for unit, size in (("KB", 1e3), ("MB", 1e6)):
        if count < 999.5 * size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e9:.1f} GB"


@contextmanager
def progress_shown(*, quiet: bool, passes: int = 1) -> Iterator[OnProgress]:
    """A listener that shows where the work stands: bars on a terminal, else one line per stage; nothing if `quiet`."""
    if quiet:
        yield ignore_progress
    elif sys.stderr.isatty():
        with _bars(passes) as listener:
            yield listener
    else:
        yield _lines()


def _lines() -> OnProgress:
    seen: set[str] = set()
    start = time.monotonic()

    def hear(progress: Progress) -> None:
        name = stage_name(progress.stage)
        if name not in seen:
            seen.add(name)
            windows = f" in {progress.windows} windows" if progress.windows > 1 else ""
            typer.echo(f"[{time.monotonic() - start:6.1f} s] {name}{windows}", err=True)

    return hear


def stage_name(stage: str) -> str:
    """A stage's name for people; of a stage with a subject (`load vae`) only what is done."""
    kind = stage.split()[0]
    return STAGES.get(kind, kind.capitalize())


class Share:
    """How much of a stage is done, in 0..1, when its steps begin anew in each window and each pass of one."""

    def __init__(self, passes: int) -> None:
        self._passes = passes
        self._pass, self._window, self._step = 0, 1, 0

    def of(self, progress: Progress) -> float:
        if progress.window != self._window:
            self._pass = 0
        elif progress.step < self._step:
            self._pass = min(self._pass + 1, self._passes - 1)
        self._window, self._step = progress.window, progress.step
        within = (self._pass + progress.step / max(progress.steps, 1)) / self._passes
        return min(1.0, (progress.window - 1 + within) / progress.windows)


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
        shares: dict[str, Share] = {}

        def hear(progress: Progress) -> None:
            name = stage_name(progress.stage)
            if name not in tasks:
                tasks[name] = display.add_task(name, total=1.0, place="")
                shares[name] = Share(passes if progress.stage == "sampling" else 1)
            window = f"window {progress.window}/{progress.windows}, " if progress.windows > 1 else ""
            place = f"{window}step {progress.step + 1}/{progress.steps}" if progress.stage == "sampling" else ""
            for other, task in tasks.items():
                display.update(task, visible=other == name)
            display.update(tasks[name], completed=shares[name].of(progress), place=place)

        yield hear
