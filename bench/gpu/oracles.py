"""Checks the package's numbers on the device: the cases of the numeric oracle in float32 and in bfloat16.

In float32 a case's error must be within the tolerance of the CPU's tests, or, where diffusers' own classes are further
off on this device, at most `MOST` times their error. In bfloat16 it must be at most `MOST` times their error for the
same inputs. TF32 is off.
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from bench.gpu.figures import Figure, Figures, table_of
from bench.gpu.jobs import Bench
from bench.oracle.case import Case, load_case, oracle_folder
from bench.oracle.cases import CHECKS, COMPILED, MOST, Check
from longtake.models.compiled import obstacle

DRAWS = 8
"""The number of inputs over which the errors in bfloat16 are averaged. The models of the oracle are so small that the
error for one input is partly chance."""

QUICK_DRAWS, QUICK_MOST = 1, 1.5
"""The number of inputs with `--quick`, and the largest error for so few."""

Results = Mapping[str, Tensor]


def measure(bench: Bench, figures: Figures) -> None:
    """Checks all cases and prints the table of all results."""
    device, root = bench.machine.device, oracle_folder()
    draws, most = (QUICK_DRAWS, QUICK_MOST) if bench.machine.quick else (DRAWS, MOST)
    lacking = "--quick compiles nothing" if bench.machine.quick else obstacle(device)
    checks = CHECKS if lacking else (*CHECKS, *COMPILED)
    with exact_float32():
        print(f"The oracle is {root}. {precision()}")
    for check in checks:
        if (root / check.folder).exists():
            figures.add(check.name, partial(result, check, root, device, draws, most))
    rows = [HEADS, ("---",) * len(HEADS), *(row(name, figure) for name, figure in figures.measured.items())]
    print("", *(f"| {' | '.join(cells)} |" for cells in rows), "", sep="\n")
    if lacking:
        print(f"Compiled blocks are not checked: {lacking}.")
    absent = [check.name for check in checks if not (root / check.folder).exists()]
    if absent:
        print(f"These cases are not in {root}: {', '.join(absent)}.")


@contextmanager
def exact_float32() -> Iterator[None]:
    """Context manager: inside its block no product, convolution or recurrent layer rounds float32 to TF32."""
    before = [part.fp32_precision for part in _parts().values()]
    for part in _parts().values():
        part.fp32_precision = "ieee"
    try:
        yield
    finally:
        for part, value in zip(_parts().values(), before, strict=True):
            part.fp32_precision = value


def precision() -> str:
    """Returns a sentence that says how the GPU multiplies float32 numbers now."""
    found = ", ".join(f"{name} {part.fp32_precision}" for name, part in _parts().items())
    return f"Float32 is computed without TF32 ({found})."


def _parts() -> Mapping[str, Any]:
    """Returns the parts of torch that can round float32 to TF32, by name."""
    backends: Any = torch.backends
    return {
        "products": backends.cuda.matmul,
        "convolutions": backends.cudnn.conv,
        "recurrent layers": backends.cudnn.rnn,
    }


def result(check: Check, root: Path, device: torch.device, draws: int, most: float) -> Figure:
    """Computes a case in float32 and in bfloat16, here and with diffusers' classes, and compares the errors.

    draws: the number of inputs for which it is computed in bfloat16.
    most: the largest error as a multiple of that of diffusers' classes.
    """
    started = time.perf_counter()
    case = load_case(root, check.folder)
    exact_case = case.on(device, torch.float32, "package" if check.way == "compiled" else check.way)
    exact = computed(check, exact_case)
    errors = {name: case.error(name, made) for name, made in exact.items()}
    limits = {name: case.tolerance(name) for name in exact}
    theirs: Results = {}
    if check.has_diffusers and any(errors[name] > limits[name] for name in exact):  # by the device's own rounding?
        theirs = computed(check, case.on(device, torch.float32, "diffusers"))
        found = {name: case.error(name, made) for name, made in theirs.items()}
        limits |= {name: max(limits[name], most * error) for name, error in found.items() if error < math.inf}
    worst = max(exact, key=lambda name: errors[name] / max(limits[name], 1e-12))
    details: dict[str, Any] = {"float32": errors[worst], "tolerance": case.tolerance(worst), "worst": worst}
    if theirs:
        details["diffusers in float32"] = case.error(worst, theirs[worst])
    is_right = errors[worst] <= limits[worst]
    if check.in_bfloat16:
        wanted = [exact, *(computed(check, exact_case.draw(number)) for number in range(1, draws))]
        here = all_draws(check, case.on(device, torch.bfloat16, check.way), draws)
        details["bfloat16"] = difference(here[0], case.expected)
        if check.has_diffusers:
            usual = all_draws(check, case.on(device, torch.bfloat16, "diffusers"), draws)
            details["here"], details["diffusers"] = (mean(map(difference, made, wanted)) for made in (here, usual))
            is_right = is_right and details["here"] <= most * details["diffusers"]
        else:
            is_right = is_right and details["bfloat16"] <= details["tolerance"]
    return Figure(time.perf_counter() - started, details=details, is_right=is_right)


def all_draws(check: Check, case: Case, draws: int) -> list[Results]:
    """Returns the results of a case for each of `draws` inputs (see `Case.draw`)."""
    return [computed(check, case.draw(number)) for number in range(draws)]


def computed(check: Check, case: Case) -> Results:
    """Returns the results of a case on the CPU, by name. TF32 is off.

    Compiled blocks have no float32 to round, and the compiler must see torch's own settings.
    """
    with nullcontext() if case.way == "compiled" else exact_float32(), torch.inference_mode():
        return {name: value.float().cpu() for name, value in check.compute(case)}


def difference(got: Results, wanted: Results) -> float:
    """Returns |got - wanted| / |wanted| in the Euclidean norm, averaged over all tensors of `got`."""
    return mean(
        float((value.double() - wanted[name].double()).norm() / wanted[name].double().norm().clamp(min=1e-12))
        for name, value in got.items()
    )


HEADS = ("case", "float32", "tolerance", "bfloat16", "mean here", "diffusers", "ratio", "")
"""The heads of the table."""


def table(path: Path) -> str:
    """Returns the results in a file as a table in Markdown.

    Its columns are the largest error in float32 with its tolerance; the error in bfloat16 against the oracle; the mean
    error in bfloat16 over several inputs here and with diffusers' classes, and the ratio of the two.
    """
    return table_of(path, HEADS, row)


def row(name: str, figure: Figure) -> tuple[str, ...]:
    """Returns the cells of a result in the table."""
    found = figure.details
    numbers = [f"{found[key]:.1e}" if key in found else "" for key in ("float32", "tolerance")]
    numbers += [f"{found[key]:.2e}" if key in found else "" for key in ("bfloat16", "here", "diffusers")]
    ratio = f"{found['here'] / found['diffusers']:.2f}" if found.get("diffusers") else ""
    return name, *numbers, ratio, "passed" if figure.is_right else "**failed**"
