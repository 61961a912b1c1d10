"""Measures how long the device does nothing while a request is carried out: what overlapping two requests could use."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from time import perf_counter
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from bench.gpu.device import Machine, synchronise
from bench.gpu.kernels import device_work

Span = tuple[float, float]
"""The begin and the end of some time, in seconds."""

SHORTEST_S = 0.01
"""A gap between the device's work that is at least this long could take a part of another request."""


def busy_spans(machine: Machine, work: Callable[[], object]) -> tuple[list[Span], Span]:
    """Returns when the device worked during a call, and the time of the whole call, on the clock `perf_counter`.

    On a CPU the spans are those of torch's operations.
    """
    is_gpu = machine.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if is_gpu else ProfilerActivity.CPU]) as profiler:
        synchronise()
        begin = perf_counter()
        torch.ones(1, device=machine.device).add_(1)  # the first work, which relates both clocks
        work()
        synchronise()
        end = perf_counter()
    events: Any = profiler.events()
    spans = [one.time_range for one in device_work(events, machine)]
    found = [(span.start / 1e6, span.end / 1e6) for span in spans]
    if not found:
        raise RuntimeError("the profiler has seen no work of the device, so it cannot say when the device did nothing")
    offset = begin - min(start for start, _ in found)
    return merged((start + offset, stop + offset) for start, stop in found), (begin, end)


def merged(spans: Iterable[Span]) -> list[Span]:
    """Returns the times that are in at least one of the spans, in order and without overlaps."""
    result: list[Span] = []
    for start, stop in sorted(spans):
        if result and start <= result[-1][1]:
            result[-1] = result[-1][0], max(stop, result[-1][1])
        else:
            result.append((start, stop))
    return result


def gaps(busy: Sequence[Span], whole: Span) -> list[Span]:
    """Returns the times of `whole` in which the device did nothing, those of at least SHORTEST_S seconds.

    busy: when it worked, in order and without overlaps.
    """
    edges = [(whole[0], whole[0]), *busy, (whole[1], whole[1])]
    found = [(before[1], after[0]) for before, after in pairwise(edges)]
    return [(start, stop) for start, stop in found if stop - start >= SHORTEST_S]


def by_stage(found: Iterable[Span], starts: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Returns the seconds of the gaps that begin in each stage of a request.

    starts: the beginnings of the stages in order, as (stage, seconds). A stage may begin several times.
    """
    seconds: dict[str, float] = {}
    for start, stop in found:
        stage = next((name for name, begin in reversed(starts) if begin <= start), starts[0][0])
        seconds[stage] = seconds.get(stage, 0.0) + stop - start
    return seconds
