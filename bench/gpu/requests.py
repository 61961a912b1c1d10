"""Measures whole requests: each endpoint at its defaults, the way the server carries them out, and diffusers' pipelines
for the same work."""

import time
from typing import Any

import torch

from bench.gpu.device import StageClock, empty_memory, peak_gb, reset_peak, seconds_of, synchronise
from bench.gpu.figures import Figure, Figures
from bench.gpu.jobs import CASES, Bench, Case
from bench.gpu.pipelines import PIPELINES, task
from bench.gpu.true_size import ADAPTER_RANK, write_adapter
from longtake.runner import Runner

FIRST, WARM = "first request after start", "warm request"


def measure(bench: Bench, figures: Figures) -> None:
    """Measures the requests. The dear ones come last, so that a short time gives most figures."""
    _case(bench, figures, CASES["0.9.8"], (FIRST, WARM))
    _case(bench, figures, CASES["2.3"], (FIRST, WARM))
    # The model of 0.9.7 has the sizes of 0.9.8's, so one request with 40 steps is enough.
    _case(bench, figures, CASES["0.9.7"], (WARM,))


def _case(bench: Bench, figures: Figures, case: Case, kinds: tuple[str, ...]) -> None:
    names = [f"{case.name}: {kind}" for kind in kinds]
    if figures.lack(*names):
        card = bench.card(case)
        if card.loras:
            write_adapter(card, bench.settings(), bench.source, 4 if bench.machine.quick else ADAPTER_RANK)
        runner = bench.runner()
        for name in names:
            figures.add(name, lambda: request(bench, case, runner))
        runner.release()
    if case.name in PIPELINES:
        figures.add(f"{case.name}: diffusers' pipeline, warm", lambda: _pipeline(bench, case))
        empty_memory()


def request(bench: Bench, case: Case, runner: Runner) -> Figure:
    """Carries out a request with a runner. The figure has its stages, its steps and its peaks.

    The runner keeps its model, so only the first request loads it. Loading takes less time than it does from files.
    """
    synchronise()
    clock, started = StageClock(), time.perf_counter()
    with bench.job(case) as job:
        result = runner.run(job, bench.folder / f"{case.name}.mp4", on_progress=clock)
    clock.stop()
    seconds, plan, facts = time.perf_counter() - started, result.plan, result.facts
    peaks = clock.peaks_gb
    details: dict[str, Any] = {
        "output": f"{facts.width}x{facts.height}, {plan.new_frames} new frames after {plan.context_frames}",
        "evaluations": plan.evaluations,
        "stages": clock.stages,
        "steps": clock.steps,
    }
    if peaks:
        details["peaks"] = peaks
    return Figure(seconds, peak_gb=max(peaks.values()) if peaks else None, details=details)


def _pipeline(bench: Bench, case: Case) -> Figure:
    """Does the work of a case with diffusers' pipeline, after the same work once without a measurement."""
    with task(bench, case) as work, torch.inference_mode():
        run = PIPELINES[case.name](work)
        if not bench.machine.quick:
            run()
        reset_peak()
        return Figure(seconds_of(run), peak_gb=peak_gb())
