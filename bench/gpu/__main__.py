"""Measures the published models at their true size on a GPU, with random weights and without any files.

    python -m bench.gpu levers|requests|acceleration|fp8|oracles [--quick] [--out FILE.json]
    python -m bench.gpu table FILE.json
    python -m bench.gpu floors

`levers` measures each part of the work by itself: model evaluations, VAE, text, adapters, frames. `requests` measures
whole requests. `acceleration` measures the sampling at each acceleration level, `fp8` how much 8-bit floats change a
video. `oracles` checks the package's numbers against those of the original implementations. Each figure is printed and
saved when it is there; a run with the same FILE.json goes on after them. After four and a half minutes no further
figure is begun, and those that are left are named.
`table` prints the figures of a file. `floors` counts the floating-point operations of the default requests, for which
it needs no GPU. `--quick` runs everything with small models on the CPU, to test this program.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from longtake.threads import prepare_threads

MODES = ("levers", "requests", "acceleration", "fp8", "oracles")
"""The commands that measure. Each is a module of this folder with a function `measure`."""


LIMIT_S = 270
"""Seconds after which a command begins no further figure."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line. Exits with status 1 if a figure could not be measured, or if a result is wrong."""
    prepare_threads()  # before torch is imported
    import torch

    from bench.gpu.device import Machine
    from bench.gpu.figures import Figures
    from bench.gpu.jobs import Bench

    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description="Measures the models at their true size.")
    commands = parser.add_subparsers(dest="command", required=True)
    for mode in MODES:
        command = commands.add_parser(mode)
        command.add_argument("--quick", action="store_true", help="small models on the CPU")
        command.add_argument("--out", type=Path, help="JSON file of the figures; an existing one is continued")
    commands.add_parser("table").add_argument("file", type=Path, help="JSON file of figures")
    commands.add_parser("floors").add_argument("--quick", action="store_true", help="small models")
    chosen = parser.parse_args(arguments)
    if chosen.command == "table":
        print(shown(chosen.file))
        return
    torch.set_grad_enabled(False)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("longtake").setLevel(logging.INFO)  # says how the models compute, and why
    machine = Machine.here(quick=chosen.quick)
    if chosen.command == "floors":
        from bench.gpu import floors

        with tempfile.TemporaryDirectory() as folder:
            print(floors.table(Bench(replace(machine, device=torch.device("cpu")), Path(folder))))
        return
    figures = Figures(chosen.out, machine.facts, LIMIT_S)
    with tempfile.TemporaryDirectory() as folder:
        import_module(f"bench.gpu.{chosen.command}").measure(Bench(machine, Path(folder)), figures)
    if figures.left:
        print(f"The time is up. The same command with the same --out measures what is left: {', '.join(figures.left)}")
    if figures.failed:
        sys.exit(f"These figures could not be measured: {', '.join(figures.failed)}")
    if figures.wrong:
        sys.exit(f"These results are wrong: {', '.join(figures.wrong)}")


def shown(path: Path) -> str:
    """Returns the table of a file of figures: that of the oracles if each figure checks a result."""
    from bench.gpu import figures, oracles

    found = figures.read_figures(path)[1].values()
    are_checks = bool(found) and all(figure.is_right is not None for figure in found)
    return oracles.table(path) if are_checks else figures.table(path)


if __name__ == "__main__":
    main()
