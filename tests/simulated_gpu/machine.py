"""Makes torch see simulated GPUs: registers kernels for their tensors, and replaces what `torch.cuda` offers."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch._dynamo.variables.torch  # these two keep some of the functions that are replaced here
import torch._inductor.codecache
from torch import Tensor

from tests.simulated_gpu import memory
from tests.simulated_gpu.gpu import Gpus
from tests.simulated_gpu.graphs import Graph
from tests.simulated_gpu.streams import Clock

COMPOSITE = {"convolution", "linear", "matmul", "rms_norm", "scaled_dot_product_attention", "stft"}
"""Operations without a kernel of the CPU's own, which consist of other ones on a GPU than on a CPU."""

_present: list[Gpus] = []
"""The GPUs that the registered kernels work on: at most one object."""

_libraries: list[Any] = []
"""The registered kernels: at most one object. They stay for the whole process, and raise if there are no GPUs."""


def _gpus() -> Gpus:
    if not _present:
        raise RuntimeError("There is no simulated GPU now.")
    return _present[0]


def _register() -> None:
    """Registers a kernel for each operation that a CPU has, for tensors on GPUs."""
    if _libraries:
        return
    library = torch.library.Library("aten", "IMPL", "CUDA")
    special: dict[str, Callable[..., Any]] = {"copy_": _copy, "_to_copy": _to_copy}
    for full in torch._C._dispatch_get_all_op_names():
        namespace, _, name = full.partition("::")
        base, _, overload = name.partition(".")
        has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key(full, "CPU")
        if namespace == "aten" and (has_kernel or base in COMPOSITE) and name not in special:
            library.impl(name, _kernel(getattr(getattr(torch.ops.aten, base), overload or "default")))
    for name, run in special.items():
        library.impl(name, run)
    _libraries.append(library)


def _fill_caches() -> None:
    """Makes torch fill its caches of its own functions, while none of these functions is replaced.

    Torch fills each cache once in a process. A cache that was filled while functions are replaced would hold the
    replaced ones for ever. `with torch.device("meta"):`, for example, would then no longer change where `torch.empty`
    makes tensors, and transformers would load models with wrong numbers.
    """
    torch.utils._device._device_constructors()
    torch._dynamo.variables.torch.get_overridable_functions()  # fills those of torch.overrides too
    torch._dynamo.variables.torch.TorchInGraphFunctionVariable._get_handlers()


def _kernel(op: Any) -> Callable[..., Any]:
    def run(*arguments: Any, **options: Any) -> Any:
        return _gpus().launch(op, arguments, options)

    return run


def _copy(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    return _gpus().copy(target, source, can_run_ahead=non_blocking)


def _to_copy(
    source: Tensor,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
    non_blocking: bool = False,
    memory_format: torch.memory_format | None = None,
) -> Tensor:
    order = torch.preserve_format if memory_format is None else memory_format
    target = torch.empty_like(source, dtype=dtype, device=device, memory_format=order)
    if not target.is_cuda and non_blocking:
        _gpus().pin(target)
    return _gpus().copy(target, source, can_run_ahead=non_blocking)


class Stream:
    """Stands for `torch.cuda.Stream`."""

    def __init__(self, device: Any = None, priority: int = 0, *, number: int | None = None) -> None:
        self.device = torch.device("cuda", _index(device))
        self.number = _gpus().streams.new() if number is None else number

    def synchronize(self) -> None:
        _gpus().crosses("sync", "stream.synchronize", self.device.index, waits=True)
        _gpus().streams.host_waits(self._clock())

    def wait_stream(self, other: "Stream") -> None:
        _gpus().streams.wait(self.number, other._clock())

    def wait_event(self, event: "Event") -> None:
        event.wait(self)

    def record_event(self, event: "Event | None" = None) -> "Event":
        event = Event() if event is None else event
        event.record(self)
        return event

    def _clock(self) -> Clock:
        return _gpus().streams.snapshot(self.number)


class Event:
    """Stands for `torch.cuda.Event`."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.clock: Clock = {}
        self.device, self.seconds = 0, 0.0

    def record(self, stream: Stream | None = None) -> None:
        stream = stream or current_stream()
        self.clock, self.device, self.seconds = stream._clock(), stream.device.index, time.perf_counter()

    def wait(self, stream: Stream | None = None) -> None:
        _gpus().streams.wait((stream or current_stream()).number, self.clock)

    def synchronize(self) -> None:
        _gpus().crosses("sync", "event.synchronize", self.device, waits=True)
        _gpus().streams.host_waits(self.clock)

    def elapsed_time(self, later: "Event") -> float:
        return (later.seconds - self.seconds) * 1000


def current_stream(device: Any = None) -> Stream:
    return Stream(device, number=_gpus().current[_index(device)])


def default_stream(device: Any = None) -> Stream:
    return Stream(device, number=_gpus().defaults[_index(device)])


@contextmanager
def stream_context(stream: Stream | None) -> Iterator[None]:
    """Stands for `torch.cuda.stream`: makes a stream and its GPU the present ones."""
    if stream is None:
        yield
        return
    gpus, index = _gpus(), stream.device.index
    before = gpus.device, gpus.current[index]
    gpus.device, gpus.current[index] = index, stream.number
    try:
        yield
    finally:
        gpus.device, gpus.current[index] = before


class CUDAGraph(Graph):
    """Stands for `torch.cuda.CUDAGraph`."""

    device = 0

    def replay(self) -> None:
        stream = _gpus().current[self.device]
        _gpus().streams.begin(stream)
        _gpus().streams.used(self.uses, stream)
        super().replay()


@contextmanager
def graph_context(graph: CUDAGraph, stream: Stream | None = None, capture_error_mode: str = "global") -> Iterator[None]:
    """Stands for `torch.cuda.graph`: records the work of the stream's GPU on that stream. As in torch, its default is
    one stream for all, on the GPU that was the present one when it was first needed."""
    synchronize()
    gpus = _gpus()
    if stream is None:
        stream = gpus.capture_stream = gpus.capture_stream or Stream()
    with stream_context(stream):
        usual = default_stream(stream.device)
        graph.device = gpus.device
        gpus.graph, gpus.recorded = graph, gpus.device
        try:
            yield
        finally:
            gpus.graph, gpus.recorded = None, None
            usual.wait_stream(current_stream())


@contextmanager
def device_context(device: Any) -> Iterator[None]:
    """Stands for `torch.cuda.device`."""
    before, _gpus().device = _gpus().device, _index(device)
    try:
        yield
    finally:
        _gpus().device = before


def set_device(device: Any) -> None:
    _gpus().device = _index(device)


def synchronize(device: Any = None) -> None:
    _gpus().crosses("sync", "torch.cuda.synchronize", _index(device), waits=True)
    _gpus().streams.host_waits_for_all()


def _index(device: Any) -> int:
    index = device if device is None or isinstance(device, int) else torch.device(device).index
    return _gpus().device if index is None else int(index)


class Generator(torch.Generator):
    """A random generator of a CPU that can be made for a GPU."""

    def __new__(cls, device: Any = "cpu") -> "Generator":
        made: Generator = super().__new__(cls)
        return made


def _pinning(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Returns a function of torch that makes a tensor, whose option `pin_memory` works."""

    def run(*arguments: Any, pin_memory: bool = False, **options: Any) -> Tensor:
        made = function(*arguments, **options)
        return _gpus().pin(made) if pin_memory else made

    return run


def _with_index(device: Any) -> Any:
    """Returns a device with the number of the GPU, if it is one."""
    is_gpu = isinstance(device, (str, torch.device)) and torch.device(device).type == "cuda"
    return torch.device("cuda", _index(device)) if is_gpu else device


def _numbering(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Returns a function or a method of torch that also knows GPUs without a number."""

    def run(first: Any, *arguments: Any, **options: Any) -> Tensor:
        changed = {name: _with_index(value) for name, value in options.items()}
        return function(first, *map(_with_index, arguments), **changed)

    return run


def _pin_memory(tensor: Tensor, *_: Any) -> Tensor:
    if tensor.is_cuda:
        raise RuntimeError("cannot pin a tensor that is on a GPU; only dense CPU tensors can be pinned")
    return tensor if _gpus().is_pinned(tensor) else _gpus().pin(tensor.clone())


def _record_stream(tensor: Tensor, stream: Stream) -> None:
    _gpus().streams.record(memory.address(tensor), stream.number)


def _capturing(compile: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function like `torch.compile`. Torch captures the work in graphs, with all its checks, but the kernels
    of the CPU do the captured work, so its bits are those of the work itself."""
    to = Tensor.to

    def compile_for_gpus(function: Callable[..., Any], *, options: Any = None, **rest: Any) -> Callable[..., Any]:
        captured = compile(function, backend="eager", **rest)

        def run(*arguments: Any, **named: Any) -> Any:
            with pytest.MonkeyPatch.context() as own:
                own.setattr(Tensor, "to", to)  # torch cannot capture the function that replaces it
                return captured(*arguments, **named)

        return run

    return compile_for_gpus


def can_simulate() -> bool:
    """Returns True if GPUs can be simulated: torch has no kernels for true ones, and runs on Linux."""
    return torch.version.cuda is None and torch.version.hip is None and sys.platform == "linux"


@contextmanager
def simulated_gpus(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] = (9, 0), **facts: Any
) -> Iterator[Gpus]:
    """Context manager: inside its block, torch has GPUs. Raises AssertionError at its end if their work had faults.

    capability: the compute capability of the GPUs.
    facts: the arguments of `Gpus`.
    """
    gpus = Gpus(**facts)
    properties = SimpleNamespace(
        name="Simulated GPU",
        total_memory=gpus.total,
        major=capability[0],
        minor=capability[1],
        multi_processor_count=132,
    )
    replaced: dict[str, Any] = {
        "_lazy_init": lambda: None,
        "_initialized": True,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: gpus.count,
        "current_device": lambda: gpus.device,
        "set_device": set_device,
        "device": device_context,
        "get_device_properties": lambda device=None: properties,
        "get_device_capability": lambda device=None: capability,
        "get_device_name": lambda device=None: properties.name,
        "mem_get_info": lambda device=None: (gpus.total - gpus.used, gpus.total),
        "memory_allocated": lambda device=None: gpus.used,
        "max_memory_allocated": lambda device=None: gpus.peak,
        "reset_peak_memory_stats": lambda device=None: setattr(gpus, "peak", gpus.used),
        "empty_cache": lambda: None,
        "manual_seed_all": lambda seed: None,
        "get_rng_state": lambda device=None: torch.default_generator.get_state(),
        "set_rng_state": lambda state, device=None: torch.default_generator.set_state(state),
        "Stream": Stream,
        "Event": Event,
        "stream": stream_context,
        "current_stream": current_stream,
        "default_stream": default_stream,
        "synchronize": synchronize,
        "CUDAGraph": CUDAGraph,
        "graph": graph_context,
    }
    _fill_caches()
    for name, value in replaced.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch, "compile", _capturing(torch.compile))
    for name in ("empty", "empty_like", "zeros"):
        monkeypatch.setattr(torch, name, _pinning(getattr(torch, name)))
    monkeypatch.setattr(torch, "Generator", Generator)
    for owner, name in ((Tensor, "to"), (torch, "tensor"), (torch, "as_tensor")):
        monkeypatch.setattr(owner, name, _numbering(getattr(owner, name)))
    monkeypatch.setattr(Tensor, "pin_memory", _pin_memory)
    monkeypatch.setattr(Tensor, "is_pinned", lambda tensor, *_: gpus.is_pinned(tensor))
    monkeypatch.setattr(Tensor, "record_stream", _record_stream)
    monkeypatch.setattr(torch.accelerator, "empty_host_cache", lambda: None, raising=False)
    _register()
    memory.present_as_devices(is_present=True)
    _present.append(gpus)
    try:
        yield gpus
        gpus.streams.host_waits_for_all()
    finally:
        _present.remove(gpus)
        memory.present_as_devices(is_present=False)
    assert not gpus.streams.faults, "\n".join(sorted({*gpus.streams.faults}))
