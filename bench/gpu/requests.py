"""Measures whole requests: each endpoint at its defaults, the way the server carries them out, and diffusers' pipelines
for the same work."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from bench.gpu.device import StageClock, empty_memory, peak_gb, reset_peak, seconds_of, synchronise
from bench.gpu.figures import Figure, Figures
from bench.gpu.idle import busy_spans, by_stage, gaps
from bench.gpu.jobs import CASES, Bench, Case
from bench.gpu.pipelines import PIPELINES, task
from bench.gpu.true_size import ADAPTER_RANK, write_adapter
from longtake.runner import Runner


def measure(bench: Bench, figures: Figures) -> None:
    """Measures the requests. The dear ones come last, so that a short time gives most figures."""
    for name in ("0.9.8", "2.3"):
        _first_and_warm(bench, figures, CASES[name])
    _idle(bench, figures, replace(CASES["0.9.8"], named={"resolution": "480p"}))
    # The model of 0.9.7 has the sizes of 0.9.8's, so one request with 40 steps is enough.
    _loaded(bench, figures, CASES["0.9.7"])


def _first_and_warm(bench: Bench, figures: Figures, case: Case) -> None:
    first, warm = f"{case.name}: first request after start", f"{case.name}: warm request"
    if figures.lack(first, warm):
        is_continued = not figures.lack(first)
        with _runner(bench, case) as runner:

            def second() -> Figure:
                if is_continued:  # a stopped run made the first request
                    request(bench, case, runner)
                return request(bench, case, runner)

            figures.add(first, lambda: request(bench, case, runner))
            figures.add(warm, second)
    figures.add(f"{case.name}: diffusers' pipeline, warm", lambda: _pipeline(bench, case))
    empty_memory()


def _loaded(bench: Bench, figures: Figures, case: Case) -> None:
    name = f"{case.name}: first request with a loaded model"
    if figures.lack(name):
        with _runner(bench, case) as runner:

            def first() -> Figure:
                runner.load(bench.card(case))
                return request(bench, case, runner)

            figures.add(name, first)


@contextmanager
def _runner(bench: Bench, case: Case) -> Iterator[Runner]:
    """Context manager that gives a runner without a model, and the adapters of the case's model on the disk."""
    card = bench.card(case)
    if card.loras:
        write_adapter(card, bench.settings(), bench.source, 4 if bench.machine.quick else ADAPTER_RANK)
    runner = bench.runner()
    yield runner
    runner.release()


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


def _idle(bench: Bench, figures: Figures, case: Case) -> None:
    """Measures how long the device does nothing in a small request, which is what a second one could use meanwhile."""
    name = f"{case.name}: the device idles in a warm request at 480p"
    if not figures.lack(name):
        return

    def idle() -> Figure:
        clock = StageClock()
        with bench.job(case) as job:
            path = bench.folder / "idle.mp4"
            busy, whole = busy_spans(bench.machine, lambda: runner.run(job, path, on_progress=clock))
        found, seconds = gaps(busy, whole), whole[1] - whole[0]
        idle_s = sum(stop - start for start, stop in found)
        details: dict[str, Any] = {
            "of seconds": seconds,
            "by stage": by_stage(found, clock.starts),
            "longest": sorted((stop - start for start, stop in found), reverse=True)[:8],
            "overlapping is worth at most, times": seconds / (seconds - idle_s),
        }
        return Figure(idle_s, details=details)

    with _runner(bench, case) as runner:
        runner.load(bench.card(case))
        if not bench.machine.quick:
            request(bench, case, runner)
        figures.add(name, idle)


def _pipeline(bench: Bench, case: Case) -> Figure:
    """Does the work of a case with diffusers' pipeline, after the same work once without a measurement."""
    with task(bench, case) as work, torch.inference_mode():
        run = PIPELINES[case.name](work)
        if not bench.machine.quick:
            run()
        reset_peak()
        return Figure(seconds_of(run), peak_gb=peak_gb())
