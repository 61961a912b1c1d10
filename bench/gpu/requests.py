"""Measures whole requests: each endpoint at its defaults, the way the server carries them out, and diffusers' pipelines
for the same work."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from threading import Event, Lock
from typing import Any

import torch

from bench.gpu.device import StageClock, empty_memory, peak_gb, reset_peak, seconds_of, synchronise
from bench.gpu.figures import Figure, Figures
from bench.gpu.idle import Span, busy_spans, by_stage, gaps
from bench.gpu.jobs import CASES, Bench, Case
from bench.gpu.pipelines import PIPELINES, task
from bench.gpu.true_size import ADAPTER_RANK, write_adapter
from longtake.models.registry import ModelCard
from longtake.runner import Runner
from longtake.threads import Pool
from longtake.turn import Turn
from longtake.video import OnProgress
from longtake.warming import warm_up

IDLE = ("0.9.8",)
"""The cases of which it is also measured how long the device does nothing in a small request."""


FEW_STEPS = 8
"""The number of steps of the request of 0.9.7. Its default, 40, would take more than a minute longer, and its model has
the sizes of 0.9.8's."""


def measure(bench: Bench, figures: Figures) -> None:
    """Measures the requests. Those that say least come last, so that a short time gives most figures."""
    for name in ("0.9.8", "2.3"):
        with figures.attempt(name):
            _first_and_warm(bench, figures, CASES[name])
        figures.add(f"{name}: diffusers' pipeline", partial(_pipeline, bench, CASES[name]))
        empty_memory()
    with figures.attempt("0.9.7"):
        _few_steps(bench, figures, replace(CASES["0.9.7"], named={"num_inference_steps": FEW_STEPS}))


def _first_and_warm(bench: Bench, figures: Figures, case: Case) -> None:
    start = f"{case.name}: start, the model loaded and prepared"
    first, warm = f"{case.name}: first request after start", f"{case.name}: warm request"
    idle: dict[str, Callable[[Bench, Case, Runner], Figure]] = {}
    if case.name in IDLE:
        idle = {
            f"{case.name}: the device idles in a warm request at 480p": _idle,
            f"{case.name}: the device idles in three warm requests at 480p, in a slot": _idle_in_a_row,
        }
    if not figures.lack(start, first, warm, *idle):
        return
    with _runner(bench, case) as runner:
        digests = list[str]()

        def made() -> Figure:
            figure = request(bench, case, runner)
            digests.append(digest(bench, case))
            return figure

        def second() -> Figure:
            if not digests:  # a stopped run made the first request, or it failed
                made()
            forget_prompts(runner, bench.card(case))
            figure = made()
            return replace(figure, details={**figure.details, "same file as the first": len({*digests}) == 1})

        if figures.seconds(start) is None:
            figures.add(start, lambda: _start(bench, case, runner))
        else:  # a stopped run measured it
            _start(bench, case, runner)
        figures.add(first, made)
        figures.add(warm, second)
        for name, measured in idle.items():
            small = replace(case, named={"resolution": "480p"})
            figures.add(name, partial(measured, bench, small, runner))
    empty_memory()


def _start(bench: Bench, case: Case, runner: Runner) -> Figure:
    """Prepares a runner for requests, as a server does when it starts. Loading takes less time than it does from
    files."""
    reset_peak()
    with bench.job(case) as job:
        seconds = seconds_of(lambda: warm_up(runner, job.card, [job.plan], bench.settings()))
    return Figure(seconds, peak_gb=peak_gb())


def _few_steps(bench: Bench, figures: Figures, case: Case) -> None:
    name = f"{case.name}: first request after start, with {FEW_STEPS} steps"
    if figures.lack(name):
        with _runner(bench, case) as runner:

            def first() -> Figure:
                _start(bench, case, runner)
                return request(bench, case, runner)

            figures.add(name, first)


@contextmanager
def _runner(bench: Bench, case: Case) -> Iterator[Runner]:
    """Context manager that gives a runner without a model, and the adapters of the case's model on the disk."""
    card = bench.card(case)
    if card.loras:
        write_adapter(card, bench.settings(), bench.source, 4 if bench.machine.quick else ADAPTER_RANK)
    runner = bench.runner()
    try:
        yield runner
    finally:
        runner.release()


def request(bench: Bench, case: Case, runner: Runner) -> Figure:
    """Carries out a request with a runner. The figure has its stages, its steps and its peaks.

    The runner keeps its model, so only the first request loads it, unless the runner was prepared before.
    """
    synchronise()
    clock, started = StageClock(), time.perf_counter()
    with bench.job(case) as job:
        result = runner.run(job, output(bench, case), on_progress=clock)
    clock.stop()
    seconds, plan, facts = time.perf_counter() - started, result.plan, result.facts
    peaks = clock.peaks_gb
    details: dict[str, Any] = {
        "output": f"{facts.width}x{facts.height}, {plan.new_frames} new frames after {plan.context_frames}",
        "evaluations": plan.evaluations,
        "computed in": runner.load(bench.card(case)).arithmetic,
        "stages": clock.stages,
        "steps": clock.steps,
    }
    if result.notes:
        details["notes"] = " ".join(result.notes)
    if peaks:
        details["peaks"] = peaks
    return Figure(seconds, peak_gb=max(peaks.values()) if peaks else None, details=details)


def forget_prompts(runner: Runner, card: ModelCard) -> None:
    """Empties the cache of encoded prompts of a runner's model, because the prompts of users differ."""
    model: Any = runner.load(card)
    model.text.cache.clear()


def digest(bench: Bench, case: Case) -> str:
    """Returns a digest of the file that the last request of a case made. Requests with equal seeds make equal files."""
    return hashlib.sha256(output(bench, case).read_bytes()).hexdigest()


def output(bench: Bench, case: Case) -> Path:
    """Returns the path of the file that the requests of a case make."""
    return bench.folder / f"{case.name}.mp4"


def _idle(bench: Bench, case: Case, runner: Runner) -> Figure:
    """Measures how long the device does nothing in a small request, which is what a second one could use meanwhile."""
    path = bench.folder / "idle.mp4"
    with bench.job(case) as job:
        runner.run(job, path)  # the first one at this size, for which libraries prepare themselves
    forget_prompts(runner, bench.card(case))
    clock = StageClock()
    with bench.job(case) as job:
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


class _TimedTurn(Turn):
    """A turn on the device that records its begin and end on the clock `perf_counter`.

    spans: gets the begin and the end.
    device: the lock of the device.
    is_soon_free: set when the turn soon ends.
    """

    def __init__(self, spans: list[Span], device: Lock, is_soon_free: Event) -> None:
        super().__init__(device, lambda state: is_soon_free.set() if state == "soon free" else None)
        self._spans = spans
        self._began_at: float | None = None

    def begin(self, on_progress: OnProgress) -> bool:
        has_waited = super().begin(on_progress)
        self._began_at = time.perf_counter()
        return has_waited

    def end(self) -> None:
        if self._began_at is not None:
            self._spans.append((self._began_at, time.perf_counter()))
            self._began_at = None
        super().end()


def _idle_in_a_row(bench: Bench, case: Case, runner: Runner) -> Figure:
    """Measures how long the device does nothing in three requests that a slot carries out one after the other.

    The next request is prepared when the device is soon free, and the video of the last one is written meanwhile.

    The time before the first turn on the device and after the last one is not counted.
    """
    device, turns = Lock(), list[Span]()

    def one(number: int, is_soon_free: Event) -> None:
        turn = _TimedTurn(turns, device, is_soon_free)
        try:
            with bench.job(case) as job:
                runner.run(job, bench.folder / f"row-{number}.mp4", turn=turn)
        finally:
            is_soon_free.set()
            turn.end()

    def work() -> None:
        with Pool(3) as pool:
            running = []
            for number in range(3):
                is_soon_free = Event()
                running.append(pool.submit(one, number, is_soon_free))
                is_soon_free.wait()
            for request in running:
                request.result()

    busy, _ = busy_spans(bench.machine, work)
    begin, end = turns[0][0], turns[-1][1]
    found = gaps([span for span in busy if span[1] > begin and span[0] < end], (begin, end))
    details: dict[str, Any] = {
        "of seconds": end - begin,
        "between two turns": [after[0] - before[1] for before, after in pairwise(turns)],
        "longest": sorted((stop - start for start, stop in found), reverse=True)[:8],
    }
    return Figure(sum(stop - start for start, stop in found), details=details)


def _pipeline(bench: Bench, case: Case) -> Figure:
    """Does the work of a case with diffusers' pipeline, once."""
    with task(bench, case) as work, torch.inference_mode():
        run = PIPELINES[case.name](work)
        reset_peak()
        return Figure(seconds_of(run), peak_gb=peak_gb())
