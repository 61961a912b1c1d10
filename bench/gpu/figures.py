"""The figures of a run, which are printed and saved one by one, so that a stopped run can be continued."""

import json
import math
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.gpu.device import empty_memory
from longtake.atomic import replacing


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    seconds: the measured time.
    floor_s: the least time that the matrix products, convolutions and attentions in it can take on this device; None if
        they are not counted.
    peak_gb: the largest GPU memory in 10^9 bytes; None if it was not measured.
    details: other facts by name: numbers, texts, lists of numbers, or numbers by name.
    is_right: False if a result that was checked is wrong; None if the figure checks nothing.
    """

    seconds: float
    floor_s: float | None = None
    peak_gb: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    is_right: bool | None = None

    def cells(self) -> tuple[str, str, str, str, str]:
        """Returns the figure as the texts of a table's row."""
        over = f"{self.seconds / self.floor_s:.2f}" if self.floor_s else ""
        floor = f"{self.floor_s:.3g}" if self.floor_s else ""
        peak = f"{self.peak_gb:.1f}" if self.peak_gb is not None else ""
        return f"{self.seconds:.3g}", floor, over, peak, "; ".join(map(_words, self.details.items()))


def _words(detail: tuple[str, Any]) -> str:
    name, value = detail
    if isinstance(value, Mapping):
        return f"{name}: {', '.join(f'{key} {_number(one)}' for key, one in value.items())}"
    if isinstance(value, list):
        median = f" (median {_number(statistics.median(value))})" if len(value) > 4 else ""
        return f"{name}: {' '.join(map(_number, value[:20]))}{' ...' if len(value) > 20 else ''}{median}"
    return f"{name} {_number(value)}"


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


class Figures:
    """The figures of a run, and the file in which they are saved.

    path: the JSON file. If it exists, its figures are those of an earlier run that is continued. With None nothing is
        saved.
    facts: the device and the versions of this run.
    limit_s: the seconds after which no further figure is begun.

    The attribute `failed` has the errors of the figures that this run could not measure, by the figures' names. They
    are saved, too, and a run that is continued tries these figures again. The attribute `left` has the names of the
    figures for which no time was left.

    Exits with a sentence if the file is of another machine.
    """

    def __init__(self, path: Path | None, facts: Mapping[str, Any], limit_s: float = math.inf) -> None:
        self._path, self._facts, self._started = path, dict(facts), time.monotonic()
        self._ends_at = self._started + limit_s
        self._figures: dict[str, Figure] = {}
        self.failed: dict[str, str] = {}
        self.left: list[str] = []
        if path is not None and path.exists():
            self._facts, self._figures = read_figures(path)
            if self._facts != dict(facts):
                sys.exit(f"{path} has figures of another machine or size ({self._facts}); name another file with --out")

    def lack(self, *names: str) -> bool:
        """Returns True if one of these figures has not been measured yet, and there is time left for it."""
        missing = [name for name in names if name not in self._figures]
        if time.monotonic() < self._ends_at:
            return bool(missing)
        self.left += [name for name in missing if name not in self.left]
        return False

    def seconds(self, name: str) -> float | None:
        """Returns the seconds of a figure; None if it has not been measured yet."""
        return self._figures[name].seconds if name in self._figures else None

    @property
    def measured(self) -> Mapping[str, Figure]:
        """All figures that have been measured, also those of the run that this one continues."""
        return self._figures

    @property
    def wrong(self) -> list[str]:
        """The names of the figures whose results are wrong."""
        return [name for name, figure in self._figures.items() if figure.is_right is False]

    @property
    def beside(self) -> Path | None:
        """The file beside the figures in which a mode can keep what a continued run needs; None if nothing is saved."""
        return None if self._path is None else self._path.with_suffix(".kept")

    def add(self, name: str, measure: Callable[[], Figure]) -> None:
        """Measures a figure, prints it and saves it. If the file has it already or no time is left, nothing is done.

        If the measurement fails, the error is printed and saved, and the run continues with the next figure.
        """
        if not self.lack(name):
            return
        with self.attempt(name):
            self._figures[name] = figure = measure()
            self.failed.pop(name, None)
            self._save()
            seconds, floor, over, peak, details = figure.cells()
            floor = f", floor {floor} s, ratio {over}" if floor else ""
            peak = f", peak {peak} GB" if peak else ""
            self._print(f"{name}: {seconds} s{floor}{peak}{f'; {details}' if details else ''}")

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Context manager for work that may fail without ending the run, such as loading the model of several figures.

        An error in its block is printed, and saved as the text of the figure `name`. The run continues after the block.
        """
        try:
            yield
        except Exception as error:  # one figure that cannot be measured must not end the run on a lent machine
            self.failed[name] = f"{type(error).__name__}: {str(error).strip()[:300]}"
            traceback.print_exc(limit=-6)
            self._print(f"{name}: failed: {self.failed[name]}")
            self._save()
        if name in self.failed:  # after the handler, nothing refers any more to the tensors of the work that failed
            empty_memory()

    def _print(self, text: str) -> None:
        print(f"[{time.monotonic() - self._started:.0f} s] {text}", flush=True)

    def _save(self) -> None:
        if self._path is None:
            return
        figures = {name: asdict(figure) for name, figure in self._figures.items()}
        document = {"machine": self._facts, "figures": figures, "failed": self.failed}
        with replacing(self._path) as new:
            new.write_text(json.dumps(document, indent=1), encoding="utf-8")


def read_figures(path: Path) -> tuple[dict[str, Any], dict[str, Figure]]:
    """Returns what a file of figures holds: the facts about the machine, and the figures by name."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return document["machine"], {name: Figure(**values) for name, values in document["figures"].items()}


def table(path: Path) -> str:
    """Returns the figures of a file as a table in Markdown, for docs/benchmarks.md."""
    heads = ("what", "seconds", "floor", "ratio", "peak GB", "")
    return table_of(path, heads, lambda name, figure: (name, *figure.cells()))


def table_of(path: Path, heads: Sequence[str], row: Callable[[str, Figure], Sequence[str]]) -> str:
    """Returns the figures of a file as a table in Markdown, below a line that names the machine.

    heads: the heads of the columns.
    row: returns the cells of a figure, from its name and the figure. A figure that failed has its error in the last
        one.
    """
    facts, figures = read_figures(path)
    machine = ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
    failed = json.loads(path.read_text(encoding="utf-8")).get("failed", {})
    rows = [heads, ["---"] * len(heads), *(row(name, figure) for name, figure in figures.items())]
    blank = [""] * (len(heads) - 2)
    rows += [(name, *blank, f"failed: {' '.join(error.split())}") for name, error in failed.items()]
    return "\n".join([f"Machine: {machine}.", "", *(f"| {' | '.join(cells)} |" for cells in rows)])
