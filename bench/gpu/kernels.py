"""Sorts the work of a device during a call by its kind, such as matrix products: what is left to make faster."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from torch.profiler import ProfilerActivity, profile

from bench.gpu.device import Machine, synchronise

KINDS = (
    ("attention", re.compile(r"flash|fmha|attention|sdpa|sdp_", re.IGNORECASE)),
    ("fused by the compiler", re.compile(r"triton_")),
    ("copies", re.compile(r"memcpy|memset|copy|aten::to$|aten::cat|CatArray", re.IGNORECASE)),
    ("convolutions", re.compile(r"conv|implicit|[fd]prop", re.IGNORECASE)),
    ("matrix products", re.compile(r"gemm|gemv|nvjet|cutlass|xmma|aten::(add|b|_scaled_)?mm$", re.IGNORECASE)),
)
"""The kinds of work, each with a pattern of the names of kernels. The first pattern that is found in a name decides."""

OTHER = "other, point by point for the most part"
"""The kind of all other kernels."""


def kind_of(name: str) -> str:
    """Returns the kind of the kernel with this name."""
    return next((kind for kind, pattern in KINDS if pattern.search(name)), OTHER)


def shares(kernels: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Returns for each kind of work its share of the device's time, the largest first.

    kernels: the name and the time of each piece of work.
    """
    times: dict[str, float] = {}
    for name, time in kernels:
        kind = kind_of(name)
        times[kind] = times.get(kind, 0.0) + time
    total = sum(times.values()) or 1.0
    return {kind: times[kind] / total for kind in sorted(times, key=lambda kind: -times[kind])}


WAITS = re.compile(r".+ Sync|Stream Wait Event")
"""The names of events on a GPU's time line at which a stream or the host waits, in which the GPU does nothing."""


def device_work(events: Iterable[Any], machine: Machine) -> list[Any]:
    """Returns the events of a profile in which the device works. On a CPU they are those of torch's operations.

    A GPU's time line also has the regions that torch names, such as a call of compiled code with the gaps between its
    kernels, and the times in which something waits. These are left out.
    """
    kind = "CUDA" if machine.device.type == "cuda" else "CPU"
    of_device = [one for one in events if one.device_type.name == kind]
    if kind == "CPU":
        return of_device
    return [one for one in of_device if not one.is_user_annotation and not WAITS.fullmatch(one.name)]


def profiled(machine: Machine, work: Callable[[], object]) -> tuple[float, dict[str, float], int]:
    """Returns (seconds, shares, number) of the device's work in a call: the seconds in which it worked, the share of
    each kind, and the number of pieces of work.

    On a CPU the pieces of work are torch's operations, without those that they contain.
    """
    is_gpu = machine.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if is_gpu else ProfilerActivity.CPU]) as profiler:
        work()
        synchronise()
    found: Any = profiler.events()
    events = device_work(found, machine)
    if is_gpu:
        kernels = [(one.name, one.time_range.elapsed_us() / 1e6) for one in events]
    else:
        kernels = [(one.name, one.self_cpu_time_total / 1e6) for one in events]
    return sum(seconds for _, seconds in kernels), shares(kernels), len(kernels)
