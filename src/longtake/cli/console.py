"""Terminal output: progress and errors on standard error, results on standard output, as text or as JSON."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from longtake.cli.output import holds
from longtake.errors import FolderNotMade, InvalidRequest, LongtakeError, StoppedBySignal, is_out_of_memory, os_reason
from longtake.imports import TORCH_MODULES, import_sentence
from longtake.printable import printable_lines
from longtake.video import OnProgress, Progress, ignore_progress

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
MeasureOption = Annotated[bool, typer.Option("--measure", help="Also measure the device for some seconds.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


DATA_DIR = "LONGTAKE_DATA_DIR"
"""The environment variable that the option `--data-dir` sets."""


def _use_data_dir(ctx: typer.Context, folder: Path | None) -> None:
    """Sets the environment variable LONGTAKE_DATA_DIR to the value of `--data-dir` until the command has ended.

    folder: the value of the option; None if the option is not used, which changes nothing.
    """
    if folder is None:
        return
    before = os.environ.get(DATA_DIR)
    os.environ[DATA_DIR] = str(folder)

    def restore() -> None:
        if before is None:
            del os.environ[DATA_DIR]
        else:
            os.environ[DATA_DIR] = before

    ctx.call_on_close(restore)


def _folder(name: str) -> Path:
    """Returns the folder that an option names. Raises BadParameter for an empty name, which an unset shell variable
    gives."""
    if not name:
        raise typer.BadParameter("The name is empty; it must name a folder.")
    return Path(name)


DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="FOLDER",
        parser=_folder,
        help="Folder of the server's data and of temporary files, as LONGTAKE_DATA_DIR; not of models and LoRAs.",
        show_default=False,
        expose_value=False,
        callback=_use_data_dir,
    ),
]

LINE_EVERY_S = 10.0
"""Seconds between two progress lines during one stage of the work. Without a terminal, lines replace the bar."""

Rows = Sequence[tuple[str, str]]
"""A printed table: (name, value) pairs. A value may contain line breaks."""


@contextmanager
def reporting(*, as_json: bool, debug: bool) -> Iterator[None]:
    """Runs the block and reports its errors: prints a sentence on standard error and raises typer.Exit with the error's
    exit status. Before the block, environment variables that look like settings but are none are named there, too.

    SIGINT (Ctrl-C) and SIGTERM are reported as the error `StoppedBySignal`. typer.Exit and typer.Abort are not
    reported, but are passed on unchanged.

    as_json: True also prints the error on standard output, as {"detail": [...]} like the errors of the HTTP API.
    debug: True does not catch errors other than SIGINT and SIGTERM, so that Python prints their traceback.
    """
    try:
        with interruptible():
            _name_unknown_settings()
            yield
    except (typer.Exit, typer.Abort):
        raise
    except StoppedBySignal as error:
        _end(error, as_json)
    except FolderNotMade as error:
        if debug:
            raise
        _end(InvalidRequest(_folder_sentence(error)), as_json)
    except LongtakeError as error:
        if debug:
            raise
        _end(error, as_json)
    except Exception as error:
        if debug:
            raise
        _end(LongtakeError(_sentence(error)), as_json)


def _name_unknown_settings() -> None:
    from longtake.settings import unknown_settings

    for name, text in unknown_settings().items():
        typer.echo(f"{name}: {text}.", err=True)


def _end(error: LongtakeError, as_json: bool) -> None:
    if as_json:
        print_json({"detail": [error.detail()]})
    typer.secho("Error: ", fg="red", bold=True, nl=False, err=True)
    option = "".join(f"{note}: " for note in getattr(error, "__notes__", []))
    typer.echo(f"{option}{printable_lines(error.message)}", err=True)
    raise typer.Exit(error.exit_code)


def _folder_sentence(error: FolderNotMade) -> str:
    """Returns a sentence for the user: which folder cannot be created, why, and which setting names another one.

    The message of the error itself does not contain the path, because clients of a server may read that message.
    """
    if error.folder is None:
        return error.message
    names = f"--data-dir or {DATA_DIR}" if error.setting == DATA_DIR else error.setting
    return f"The folder {error.folder} cannot be created: {error.reason}. Name another one with {names}."


def _sentence(error: Exception) -> str:
    """Returns a sentence for the user about an error that is not a LongtakeError."""
    if is_out_of_memory(error):
        return (
            "The memory ran out; LONGTAKE_OFFLOAD=group or LONGTAKE_QUANTISE=fp8 need less, as do a lower --resolution "
            "and fewer frames (`longtake doctor` shows what there is)."
        )
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'A file'}: {os_reason(error)}."
    if isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] in TORCH_MODULES:
        return import_sentence(error)
    text = f"{type(error).__name__}: {error}".rstrip(": .")
    return f"Something failed inside longtake ({text}); run with --debug for the traceback."


@contextmanager
def interruptible() -> Iterator[None]:
    """Makes SIGINT and SIGTERM raise `KeyboardInterrupt` in the block, so that the block can clean up.

    The error with which the block then ends is replaced by `StoppedBySignal`, which names the signal.
    """
    received: int | None = None

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = number
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except (Exception, KeyboardInterrupt):
        # Ctrl-C also ends the child processes, and a question to the user. The error is then often only a consequence.
        if received is None:
            raise
        raise StoppedBySignal(received) from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def print_json(document: Any) -> None:
    """Prints a document as indented JSON. Values of types that JSON does not have are converted by `str`.

    If the encoding of standard output lacks a character of the document, all of the document's characters beyond ASCII
    are written as JSON's escapes.
    """
    text = json.dumps(document, indent=2, ensure_ascii=False, default=str)
    typer.echo(text if holds(text) else json.dumps(document, indent=2, default=str))


def print_rows(title: str, rows: Rows) -> None:
    """Prints a heading and rows on standard output. A row is (name, value); the values are aligned in a column."""
    typer.secho(title, bold=True)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        first, *more = printable_lines(value).split("\n")
        typer.echo(f"  {name:<{width}}  {first}".rstrip())
        for line in more:
            typer.echo(f"  {'':<{width}}  {line}")


def bytes_text(count: int) -> str:
    """Returns a number of bytes as text: `123 B`, `4.5 KB`, `6.7 MB` or `8.9 GB`. 1 KB is 1000 bytes."""
    if count < 1000:
        return f"{count} B"
    for unit, size in (("KB", 1e3), ("MB", 1e6)):
        if count < 999.5 * size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e9:.1f} GB"


@contextmanager
def progress_shown(*, quiet: bool) -> Iterator[OnProgress]:
    """Yields a callback that shows the progress of a job on standard error.

    On a terminal it shows a bar for the current stage. Otherwise it prints a line when a stage begins, and every 10
    seconds.

    quiet: True shows nothing.
    """
    if quiet:
        yield ignore_progress
    elif sys.stderr.isatty():
        with _bars() as on_progress:
            yield on_progress
    else:
        lines, ended = ProgressLines(), threading.Event()

        def watch() -> None:
            while not ended.wait(LINE_EVERY_S / 10):
                lines.tick()

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield lines
        finally:
            ended.set()


class ProgressLines:
    """A progress callback that prints a line when a stage begins, with the seconds since the object was created.

    While a stage goes on, another line is printed every 10 seconds (LINE_EVERY_S), with the share that is finished and
    an estimate of the seconds that are left, unless they should be over. `tick` must be called at least once a second,
    from any thread, so that these lines also appear while the callback is not called.

    clock: returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = self._printed = self._reported = clock()
        self._begun: dict[str, float] = {}
        self._last: Progress | None = None
        self._lock = threading.Lock()

    def __call__(self, progress: Progress) -> None:
        with self._lock:
            self._last = progress
            name, now = progress.title, self._clock()
            self._reported = now
            if name not in self._begun:
                self._begun[name] = now
                self._print(name + (f" in {progress.windows} windows" if progress.windows > 1 else ""), now)
            else:
                self._print_if_due(progress, now)

    def tick(self) -> None:
        """Prints a line about the present stage if none was printed for 10 seconds."""
        with self._lock:
            if self._last is not None:
                self._print_if_due(self._last, self._clock())

    def _print_if_due(self, progress: Progress, now: float) -> None:
        if now - self._printed < LINE_EVERY_S:
            return
        name = progress.title
        share, rest = progress.share, ", still at work"
        if 0 < share < 1:
            left = (self._reported - self._begun[name]) * (1 / share - 1) - (now - self._reported)
            rest = f": {share:.0%}" + (f", about {left:.0f} s left" if left >= 1 else "")
        place = place_text(progress)
        self._print(f"{name}{rest}" + (f" ({place})" if place else ""), now)

    def _print(self, text: str, now: float) -> None:
        self._printed = now
        typer.echo(f"[{now - self._start:6.1f} s] {text}", err=True)


def place_text(progress: Progress) -> str:
    """Returns how far the sampling is, as text such as `window 2/3, pass 1/2, step 4/8`.

    A window is a group of frames that are sampled together, a pass is a run through the sampling steps. Returns an
    empty text for all stages but sampling.
    """
    if progress.stage != "sampling":
        return ""
    window = f"window {progress.window}/{progress.windows}, " if progress.windows > 1 else ""
    sampling_pass = f"pass {progress.pass_number}/{progress.passes}, " if progress.passes > 1 else ""
    return f"{window}{sampling_pass}step {progress.step + 1}/{progress.steps}"


@contextmanager
def _bars() -> Iterator[OnProgress]:
    """Yields a callback that shows a progress bar for the current stage. The bar disappears after the block.

    The bar moves to and fro while the share that is done is not known yet.
    """
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Display

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        TextColumn("{task.fields[percent]:>4}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Display(*columns, console=Console(stderr=True), transient=True) as display:
        tasks: dict[str, TaskID] = {}

        def on_progress(progress: Progress) -> None:
            name, share = progress.title, progress.share
            if name not in tasks:
                tasks[name] = display.add_task(name, total=None, percent="")
            for other, task in tasks.items():
                display.update(task, visible=other == name)
            place = place_text(progress)
            display.update(
                tasks[name],
                description=f"Sampling {place}" if place else name,  # short, so that 80 columns have room for all
                completed=share,
                total=1.0 if share else None,
                percent=f"{share:.0%}" if share else "",
            )

        yield on_progress
