"""The measuring device: seconds, floating-point operations and peak memory of work on a GPU or a CPU."""

import gc
import hashlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import longtake
from longtake.video import Progress


def source_digest() -> str:
    """Returns a short digest of the package's source, so that figures of different sources are not mixed."""
    digest = hashlib.sha256()
    for path in sorted(Path(longtake.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def synchronise() -> None:
    """Waits until the GPU has done all its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def empty_memory() -> None:
    """Frees the GPU memory of what nothing refers to any more, also in torch's cache."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def reset_peak() -> None:
    """Begins a new measurement of the peak memory."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_gb() -> float | None:
    """Returns the largest GPU memory in 10^9 bytes since `reset_peak`; None without a GPU."""
    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None


def seconds_of(work: Callable[[], object]) -> float:
    """Returns the seconds of one call, from a GPU without work to a GPU without work."""
    synchronise()
    started = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - started


LONG_ENOUGH_S = 1.0
"""Seconds of calls after which `median_seconds` makes no further one. Long work takes nearly the same time again."""


def median_seconds(work: Callable[[], object], rounds: int) -> float:
    """Returns the median seconds of at most `rounds` calls, and of fewer if they are long. The caller has warmed up."""
    seconds = [seconds_of(work)]
    while len(seconds) < rounds and sum(seconds) < LONG_ENOUGH_S:
        seconds.append(seconds_of(work))
    return statistics.median(seconds)


def uncompiled() -> Any:
    """Returns a context manager in whose block compiled functions run without their compiled code."""
    return torch.compiler.set_stance("force_eager")


def flop(work: Callable[[], object]) -> int:
    """Returns the floating-point operations of all matrix products, convolutions and attentions in a call.

    It runs without compiled code, because torch refuses to run that while it counts.
    """
    with uncompiled(), FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


@dataclass(frozen=True)
class Machine:
    """The machine that is measured.

    device: the device of the models.
    quick: True for small sizes, with which the program itself is tested.
    """

    device: torch.device
    quick: bool

    @classmethod
    def here(cls, *, quick: bool) -> "Machine":
        """Returns this machine. With `quick` it is the CPU, otherwise the GPU if there is one."""
        return cls(torch.device("cuda" if torch.cuda.is_available() and not quick else "cpu"), quick)

    @property
    def together(self) -> str | None:
        """The devices that can share out the four predictions of 2.3, as the setting `device` names them; None on a
        machine with one GPU."""
        count = min(4, torch.cuda.device_count())
        if self.device.type == "cpu":
            return "cpu+cpu"
        return "+".join(f"cuda:{number}" for number in range(count)) if count > 1 else None

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the models."""
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    @property
    def rounds(self) -> int:
        """The largest number of measured rounds."""
        return 1 if self.quick else 3

    @property
    def name(self) -> str:
        """The device in words."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"

    @property
    def facts(self) -> dict[str, Any]:
        """The device and the versions that figures depend on."""
        import diffusers
        import transformers

        memory = None
        if self.device.type == "cuda":
            memory = round(torch.cuda.get_device_properties(self.device).total_memory / 1e9, 1)
        return {
            "device": self.name,
            "memory_gb": memory,
            "quick": self.quick,
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
            "source": source_digest(),
        }

    @cached_property
    def rate(self) -> float:
        """The measured floating-point operations per second of a large matrix product in `dtype`."""
        side = 512 if self.quick else 8192
        a = torch.randn(side, side, dtype=self.dtype, device=self.device)

        def products() -> None:
            for _ in range(10):
                a @ a

        products()
        return 10 * 2 * side**3 / median_seconds(products, self.rounds)

    def copy_rates(self) -> dict[str, float]:
        """Returns the bytes per second of copies between host and device, with pinned memory and without."""
        count = 2**20 if self.quick else 2**30
        device = torch.empty(count, dtype=torch.uint8, device=self.device)
        pageable = torch.ones(count, dtype=torch.uint8)  # memory that nothing has written is one page for all addresses
        pinned: Any = pageable.pin_memory() if self.device.type == "cuda" else pageable
        ways: dict[str, Callable[[], object]] = {
            "pinned host to device": lambda: device.copy_(pinned, non_blocking=True),
            "device to pinned host": lambda: pinned.copy_(device, non_blocking=True),
            "pageable host to device": lambda: device.copy_(pageable),
        }
        for way in ways.values():
            way()
        return {name: count / median_seconds(way, self.rounds) for name, way in ways.items()}


@dataclass(frozen=True)
class Mark:
    """A point in time on the device's own clock, which the host does not wait for."""

    stage: str
    event: Any
    host_s: float

    @classmethod
    def now(cls, stage: str) -> "Mark":
        event = None
        if torch.cuda.is_available():
            event = torch.cuda.Event(enable_timing=True)
            event.record()
        return cls(stage, event, time.perf_counter())

    def seconds_to(self, later: "Mark") -> float:
        """Returns the seconds until a later mark. Call it only after `synchronise`."""
        if self.event is None:
            return later.host_s - self.host_s
        return float(self.event.elapsed_time(later.event)) / 1000


class StageClock:
    """A progress callback that measures stages and sampling steps on the device's clock.

    It does not make the device wait, so that work that overlaps still overlaps. A stage lasts from its first report to
    that of the next stage; the time before the first report is `prepare`.
    """

    def __init__(self) -> None:
        self._marks = [Mark.now("prepare")]
        self._peaks: dict[str, float] = {}
        self._last: Progress | None = None
        reset_peak()

    def __call__(self, progress: Progress) -> None:
        if progress != self._last:  # a report is repeated while something else is waited for
            self._mark(progress.kind)
        self._last = progress

    def _mark(self, stage: str) -> None:
        before = self._marks[-1].stage
        if stage != before:
            found = peak_gb()
            if found is not None:
                self._peaks[before] = max(found, self._peaks.get(before, 0.0))
            reset_peak()
        self._marks.append(Mark.now(stage))

    def stop(self) -> None:
        """Ends the measurement."""
        self._mark("end")
        synchronise()

    @property
    def stages(self) -> dict[str, float]:
        """The seconds of each stage, in the order of their beginning."""
        found: dict[str, float] = {}
        for mark, later in zip(self._marks, self._marks[1:], strict=False):
            found[mark.stage] = found.get(mark.stage, 0.0) + mark.seconds_to(later)
        return found

    @property
    def starts(self) -> list[tuple[str, float]]:
        """The beginnings of the stages on the host's clock `perf_counter`, in order; one for each report."""
        return [(mark.stage, mark.host_s) for mark in self._marks]

    @property
    def steps(self) -> list[float]:
        """The seconds of each sampling step."""
        pairs = zip(self._marks, self._marks[1:], strict=False)
        return [mark.seconds_to(later) for mark, later in pairs if mark.stage == "sampling"]

    @property
    def peaks_gb(self) -> dict[str, float]:
        """The largest GPU memory of each stage in 10^9 bytes; empty without a GPU."""
        return self._peaks
