"""The simulated GPUs: how an operation on their tensors is checked, ordered, recorded and computed."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Literal

import torch
from torch import Tensor

from tests.simulated_gpu import memory
from tests.simulated_gpu.graphs import Graph, spoil
from tests.simulated_gpu.streams import Streams, place

Kind = Literal["sync", "to device", "to host", "between devices"]
"""What crosses from a GPU: nothing but a result for which the host waits ("sync"), or values that are copied."""

SYNCS = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::equal",
    "aten::bincount",
    "aten::repeat_interleave.Tensor",
    "aten::_linalg_check_errors",
}
"""Operations for which the host waits."""

INDEXING = {"aten::index.Tensor", "aten::index_put_", "aten::_index_put_impl_"}
"""Operations that copy indices in host memory to the GPU by themselves."""

WITH_NUMBERS = {"aten::fill_.Tensor"}
"""Operations that take single numbers in host memory, besides those that work point by point."""


@dataclass(frozen=True)
class Crossing:
    """One operation for which the host waits, or that copies between devices.

    operation: its name.
    waits: True if the host waits for it.
    num_bytes: the number of copied bytes.
    place: the line of the package that caused it, such as `runner.py:12`.
    """

    kind: Kind
    operation: str
    waits: bool
    num_bytes: int
    place: str


@dataclass
class Gpus:
    """The simulated GPUs of a machine.

    total: the bytes of each GPU's memory.
    count: the number of GPUs.
    forbidden: the numbers of GPUs on which nothing may be allocated.
    fails_at: a function of the number of an allocation, from 1. The memory runs out where it returns True.
    used, peak: the bytes of all tensors on GPUs, now and at most.
    crossings: the operations for which the host waited and the copies, up to now.
    device: the number of the present GPU.
    current: the number of each GPU's present stream.
    graph: the graph that is recorded now on the GPU with the number `recorded`.
    capture_stream: the stream on which graphs are recorded by default.
    """

    total: int = 80 * 10**9
    count: int = 2
    forbidden: frozenset[int] = frozenset()
    fails_at: Callable[[int], bool] = lambda number: False
    used: int = 0
    peak: int = 0
    allocations: int = 0
    crossings: list[Crossing] = field(default_factory=list)
    streams: Streams = field(default_factory=Streams)
    device: int = 0
    current: list[int] = field(default_factory=list)
    graph: Graph | None = None
    recorded: int | None = None
    capture_stream: Any = None

    def __post_init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self._pinned: dict[int, Tensor] = {}
        self.current += [self.streams.new() for _ in range(self.count)]
        self.defaults = tuple(self.current)

    def stored(self, tensor: Tensor, index: int) -> Tensor:
        """Returns a tensor on a GPU that takes over the memory of a new tensor in host memory."""
        size = tensor.nbytes
        self.allocations += 1
        if self.fails_at(self.allocations) or self.used + size > self.total:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes.")
        if index in self.forbidden:
            self.streams.fault(f"memory is allocated on GPU {index}")
        moved = memory.on_gpu(tensor, index, self._freed)
        key = memory.address(moved)
        if key:
            self._sizes[key] = size
            self.used += size
            self.peak = max(self.peak, self.used)
            self.streams.allocated(key, self.current[index])
        return moved

    def _freed(self, key: int) -> None:
        self.used -= self._sizes.pop(key, 0)
        self.streams.freed(key)

    def pin(self, tensor: Tensor) -> Tensor:
        """Makes the memory of a tensor in host memory count as pinned, as long as these GPUs exist."""
        self._pinned[memory.address(tensor)] = tensor
        return tensor

    def is_pinned(self, tensor: Tensor) -> bool:
        return not tensor.is_cuda and memory.address(tensor) in self._pinned

    def launch(self, op: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Carries out an operation whose arguments or result are on a GPU. Returns its result."""
        tensors = list(tensors_in((arguments, tuple(options.values()))))
        name = op.name()
        index = self._index_of(op, tensors, options)
        if _is_view(op):
            return op.redispatch(_HOST_KERNELS, *arguments, **options)
        if name in SYNCS or (name in INDEXING and any(one.dtype == torch.bool for one in tensors[1:])):
            self.crosses("sync", name, index, waits=True)
        graph = self._graph_on(index)
        written = written_by(op, arguments, options)
        self._order(index, [(one, any(one is other for other in written)) for one in tensors if one.is_cuda])
        if name in SYNCS:
            self.streams.host_waits(self.streams.snapshot(self.current[index]))

        def compute() -> Any:
            return op(*each(_to_host, arguments), **_without_device(each(_to_host, options)))

        if written:
            if any(not one.numel() for one in written):
                return self._resized(op, arguments, options, index)
            compute() if graph is None else graph.record(compute)
            return _written_result(op, written)
        result = compute() if graph is None else graph.record_new(compute, lambda one: [*tensors_in((one,))])
        return each(lambda tensor: self.stored(tensor, index), result)

    def _resized(self, op: Any, arguments: tuple[Any, ...], options: dict[str, Any], index: int) -> Any:
        """Carries out an operation whose results go to empty tensors, which it makes as large as they must be."""
        outputs = {name: one for name, one in options.items() if isinstance(one, Tensor) and not one.numel()}
        fresh = {name: torch.empty(0, dtype=one.dtype) for name, one in outputs.items()}
        op(*each(_to_host, arguments), **_without_device(each(_to_host, options)) | fresh)
        for name, one in outputs.items():
            _SET.redispatch(_HOST_KERNELS, one, self.stored(fresh[name], index))
        return _written_result(op, list(written_by(op, arguments, options)))

    def copy(self, target: Tensor, source: Tensor, *, can_run_ahead: bool) -> Tensor:
        """Copies the values of a tensor into another one, at least one of which is on a GPU. Returns `target`."""
        index = (target if target.is_cuda else source).device.index
        if source.is_cuda and target.is_cuda and source.device != target.device:
            self.crosses("between devices", "copy_", index, waits=False, num_bytes=source.nbytes)
            # Torch makes the streams of both GPUs wait for each other, before the copy and after it.
            self._meet(self.current[source.device.index], self.current[index])
            self._order(index, [(source, False), (target, True)])
            _to_host(target).copy_(_to_host(source))
            self._meet(self.current[source.device.index], self.current[index])
            return target
        host = next((tensor for tensor in (target, source) if not tensor.is_cuda), None)
        if host is not None and not host.numel():
            return target
        runs_ahead = host is not None and can_run_ahead and self.is_pinned(host)
        waits = host is not None and not runs_ahead and not (can_run_ahead and target.is_cuda)
        if host is not None:
            kind: Kind = "to device" if target.is_cuda else "to host"
            self.crosses(kind, "copy_", index, waits=waits, num_bytes=host.nbytes)
        work = self._order(index, [(one, one is target) for one in (target, source) if one.is_cuda])
        to, values = _to_host(target), _to_host(source)
        graph = self._graph_on(index)
        if graph is not None:
            graph.record(lambda: to.copy_(values))
            return target
        stream = self.current[index]
        kept = values.to(to.dtype, copy=True) if runs_ahead else values
        if runs_ahead and not target.is_cuda:
            spoil(to)
            self.streams.copies_later(stream, work, partial(_deliver, to, kept))
            return target
        to.copy_(values)
        if runs_ahead:
            self.streams.copies_later(stream, work, partial(_unless_equal, kept, values))
        elif waits:
            self.streams.host_waits(self.streams.snapshot(stream))
        return target

    def _meet(self, one: int, other: int) -> None:
        """Makes two streams wait for each other's present work."""
        clocks = self.streams.snapshot(one), self.streams.snapshot(other)
        self.streams.wait(one, clocks[1])
        self.streams.wait(other, clocks[0])

    def _graph_on(self, index: int) -> Graph | None:
        """Returns the graph that records the work of a GPU now; None if it is done."""
        return self.graph if index == self.recorded else None

    def crosses(self, kind: Kind, operation: str, index: int, *, waits: bool, num_bytes: int = 0) -> None:
        """Notes that the host waits for a GPU, or that something is copied from or to it.

        Raises RuntimeError, as torch does, if the host would wait while the GPU's work is recorded.
        """
        if waits and self._graph_on(index) is not None:
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing ({operation})")
        self.crossings.append(Crossing(kind, operation, waits, num_bytes, place()))

    def _order(self, index: int, uses: list[tuple[Tensor, bool]]) -> int:
        """Counts a piece of work of a GPU's present stream, and checks that what it uses is there. Returns its number.

        uses: the tensors that it uses, each with True if it is written.
        """
        memories = [(memory.address(tensor), is_written) for tensor, is_written in uses]
        graph = self._graph_on(index)
        if graph is not None:
            graph.uses += memories
            return 0
        stream = self.current[index]
        work = self.streams.begin(stream)
        self.streams.used(memories, stream)
        return work

    def _index_of(self, op: Any, tensors: list[Tensor], options: dict[str, Any]) -> int:
        """Returns the number of the GPU that carries out an operation.

        Raises RuntimeError, as torch does, if its tensors are on different devices. Only single numbers may be in host
        memory, and indices, which are copied.
        """
        devices = {tensor.device for tensor in tensors if tensor.is_cuda}
        for tensor in tensors:
            if tensor.is_cuda or (not tensor.ndim and (torch.Tag.pointwise in op.tags or op.name() in WITH_NUMBERS)):
                continue
            if op.name() in INDEXING and tensors[0].is_cuda:
                self.crosses("to device", op.name(), tensors[0].device.index, waits=True, num_bytes=tensor.nbytes)
            else:
                devices.add(tensor.device)
        if len(devices) > 1:
            found = " and ".join(sorted(map(str, devices)))
            raise RuntimeError(f"Expected all tensors to be on the same device, but found {found} ({op.name()})")
        device = devices.pop() if devices else options.get("device")
        return self.device if device is None or device.index is None else int(device.index)


_SET = torch.ops.aten.set_.source_Tensor
_HOST_KERNELS = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)


@cache
def _is_view(op: Any) -> bool:
    """Returns True if an operation computes nothing: its results share the memory of an argument."""
    return op.name().startswith("aten::set_.") or any(
        one.alias_info is not None and not one.alias_info.is_write for one in op._schema.returns
    )


def written_by(op: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> list[Tensor]:
    """Returns the arguments that an operation writes, in their order."""
    places = _written_places(op)
    return list(tensors_in(arguments[at] if at < len(arguments) else options.get(name) for at, name in places))


@cache
def _written_places(op: Any) -> tuple[tuple[int, str], ...]:
    """Returns the number and the name of each argument that an operation writes."""
    every = enumerate(op._schema.arguments)
    return tuple((at, one.name) for at, one in every if one.alias_info is not None and one.alias_info.is_write)


def _written_result(op: Any, written: list[Tensor]) -> Any:
    """Returns the result of an operation that writes its arguments."""
    number = len(op._schema.returns)
    return None if number == 0 else written[0] if number == 1 else tuple(written)


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yields all tensors among values, also those in lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)


def each(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Returns a value with each tensor in it changed, also those in lists."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)(each(change, one) for one in value)
    if isinstance(value, dict):
        return {name: each(change, one) for name, one in value.items()}
    return value


def _to_host(tensor: Tensor) -> Tensor:
    return memory.on_host(tensor) if tensor.is_cuda else tensor


def _without_device(options: dict[str, Any]) -> dict[str, Any]:
    """Returns the options of an operation for the CPU."""
    kept = {name: value for name, value in options.items() if name != "pin_memory"}
    return {name: torch.device("cpu") if isinstance(value, torch.device) else value for name, value in kept.items()}


def _unless_equal(kept: Tensor, values: Tensor) -> str | None:
    is_same = torch.equal(*(one.reshape(-1).view(torch.uint8) for one in (kept, values.to(kept.dtype))))
    return None if is_same else "pinned memory changed before it was copied to the device"


def _deliver(target: Tensor, values: Tensor) -> None:
    with torch.inference_mode(target.is_inference()):
        target.copy_(values)
