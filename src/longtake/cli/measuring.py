"""Short measurements of the device for `longtake doctor --measure`."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from longtake.models import memory
from longtake.models.registry import card
from longtake.models.video_transformer import TokenLevels
from longtake.runner import load_installed
from longtake.settings import Settings
from longtake.video import ignore_progress

LONGEST_S = 1.0
"""Each measurement is repeated until this many seconds have passed, and the fastest repetition counts."""

NUM_TOKENS = 512
"""`longtake doctor --measure` times an evaluation of the embedded model, a tiny model inside the package, with this
many tokens."""

COPIED_BYTES = 2**29
"""The bytes that are copied from the host to a GPU."""


@dataclass(frozen=True)
class Measured:
    """One measured figure of a device, such as its rate of matrix products.

    name: what was measured.
    text: the figure, followed by that of an H200 for comparison, the GPU for which the documentation states times.
    """

    name: str
    text: str


def measure(settings: Settings) -> Iterator[Measured]:
    """Yields the speed of the device that the settings name, one figure about every second: of matrix products, of its
    memory, of copies from the host, and of a tiny model.

    On a CPU, sizes are smaller and nothing is copied between host and device.
    """
    device = memory.choose_device(settings)
    yield Measured("matrix products", _products(device, memory.choose_dtype(settings, device, embedded=False)))
    yield Measured("memory", _memory(device))
    if device.type == "cuda":
        yield Measured("pinned host memory to the GPU", f"{_to_device(device, pinned=True)}; an H200 reached 55 GB/s")
        yield Measured(
            "ordinary host memory to the GPU", f"{_to_device(device, pinned=False)}; an H200 reached 19 GB/s"
        )
    yield Measured("embedded model", _evaluation(settings, device))


def _products(device: torch.device, dtype: torch.dtype) -> str:
    side = 8192 if device.type == "cuda" else 1024
    a, b = torch.ones(side, side, dtype=dtype, device=device), torch.ones(side, side, dtype=dtype, device=device)
    rate = 2 * side**3 / _fastest(lambda: a @ b, device) / 1e12
    return f"{rate:.3g} TFLOP/s in {str(dtype).removeprefix('torch.')}; an H200 reached 794 in bfloat16"


def _memory(device: torch.device) -> str:
    num_bytes = 2**30 if device.type == "cuda" else 2**26
    source = torch.ones(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    rate = 2 * num_bytes / _fastest(lambda: target.copy_(source), device) / 1e9
    return f"{rate:.3g} GB/s read and written; an H200 has 4800 and an H100 3350"


def _to_device(device: torch.device, *, pinned: bool) -> str:
    host = torch.empty(COPIED_BYTES, dtype=torch.uint8, pin_memory=pinned).fill_(1)
    target = torch.empty_like(host, device=device)
    return f"{host.nbytes / _fastest(lambda: target.copy_(host, non_blocking=True), device) / 1e9:.3g} GB/s"


def _evaluation(settings: Settings, device: torch.device) -> str:
    """Returns in words how long one evaluation of the transformer takes in the embedded model, a tiny model inside the
    package."""
    transformer: Any = load_installed(card("ltxv-tiny"), settings, ignore_progress).transformer
    config = transformer.config

    def ones(*shape: int) -> torch.Tensor:
        return torch.ones(shape, dtype=transformer.dtype, device=device)

    tokens, prompt = ones(1, NUM_TOKENS, config.in_channels), ones(1, 16, config.caption_channels)
    coords, levels = torch.ones(1, 3, NUM_TOKENS, device=device), TokenLevels.of(ones(1, NUM_TOKENS) / 2)
    with torch.inference_mode():
        seconds = _fastest(lambda: transformer(tokens, levels, coords, prompt, ones(1, 16)), device)
    return f"{1000 * seconds:.3g} ms for one evaluation with {NUM_TOKENS} tokens"


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    """Returns the seconds of the fastest of several calls of `work`, after one that is not counted."""
    found: list[float] = []
    begin = time.perf_counter()
    while len(found) < 2 or time.perf_counter() - begin < LONGEST_S:
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        found.append(time.perf_counter() - started)
    return min(found[1:])


def _wait(device: torch.device) -> None:
    """Waits until a CUDA GPU has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
