"""A transformer and its copies on other devices, which make independent predictions at the same time.

Guidance combines several predictions in each step. None of them needs another one, so each device makes some of them.
All devices belong to one process, and each copy has a thread of its own, because `torch.compile` keeps state for each
thread.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial, singledispatch
from typing import Any, TypeVar

import torch
from torch import Tensor

from longtake.models import memory
from longtake.threads import Pool

log = logging.getLogger(__name__)

HOST = torch.device("cpu")

T = TypeVar("T")
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Copy:
    """A copy of a transformer on another device, with a thread of its own. The thread ends when nothing refers to the
    copy any more.

    transformer: the copy.
    device: its device.

    The constructor raises OSError if the system allows no more threads.
    """

    transformer: Any
    device: torch.device
    _thread: Pool = field(default_factory=lambda: Pool(1, "replica"), repr=False)

    def __post_init__(self) -> None:
        self._thread.submit(_nothing)  # starts the thread now, so that no request fails because of it

    def start(self, work: Callable[..., T], *arguments: Any) -> "Future[T]":
        """Starts work(*arguments) in the copy's thread, with the copy's device and the caller's way of recording
        gradients."""
        modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        return self._thread.submit(_in_modes, modes, self.device, partial(work, *arguments))


def _nothing() -> None:
    """Does nothing."""


def _in_modes(modes: tuple[bool, bool], device: torch.device, work: Callable[[], T]) -> T:
    """Returns work().

    modes: whether torch is in inference mode, and whether it records gradients. Both belong to a thread.
    device: the current GPU while it works, if it is one.
    """
    has_inference, has_grad = modes
    with memory.current_gpu(device), torch.inference_mode(has_inference), torch.set_grad_enabled(has_grad):
        return work()


@dataclass(frozen=True)
class Replicas:
    """A transformer and its copies on other devices. Usually there are no copies.

    transformer: the transformer on the first device, where the inputs are and the results go.
    device: the first device.
    copies: the copies of the transformer, each on a device of its own.
    """

    transformer: Any
    device: torch.device = HOST
    copies: tuple[Copy, ...] = ()

    @property
    def count(self) -> int:
        """The number of devices."""
        return 1 + len(self.copies)

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """All devices; the first one is that of the inputs and results."""
        return (self.device, *(copy.device for copy in self.copies))

    def everywhere(self, value: T) -> tuple[T, ...]:
        """Returns a value for each device: the value itself, which is on the first one, and copies of it.

        value: its tensors may be in mappings, sequences and dataclasses.
        """
        return (value, *(moved(value, copy.device) for copy in self.copies))

    def log_idle(self, most: int) -> None:
        """Logs which devices have nothing to do in a request whose steps combine at most this number of predictions."""
        idle = self.devices[most:]
        if idle:
            needs = "1 prediction" if most == 1 else f"{most} predictions"
            verb = "has" if len(idle) == 1 else "have"
            log.info("The request needs %s in a step, so %s %s no work.", needs, " and ".join(map(str, idle)), verb)

    def run(self, work: Callable[[Any, ItemT], ResultT], items: Sequence[ItemT]) -> list[ResultT]:
        """Returns work(transformer, item) for each item, in their order. Item i is worked on by device i modulo the
        number of devices, with the transformer there, and the devices work at the same time.

        work: computes a result from an item's tensors, which are on the transformer's device. Of the items of one
            device it gets one after the other.
        items: their tensors are on the first device, or already on the device that works on the item. They may be in
            mappings, sequences and dataclasses; those of the results may, too.

        If the work on an item raises an exception, it is raised when all devices have ended their work.
        """
        if not self.copies or len(items) < 2:
            return [work(self.transformer, item) for item in items]
        memory.bring(self.transformer)  # which may change weights of copies, too (see `applying.applied`)
        count, copies = self.count, self.copies[: len(items) - 1]
        # All inputs are copied before any work is started, and no result before all work is: a copy from a GPU to
        # another one waits for all work that both have been given before.
        placed = [moved(item, self.devices[index % count]) for index, item in enumerate(items)]
        futures = list[Future[list[ResultT]]]()
        try:
            for number, copy in enumerate(copies, 1):
                futures.append(copy.start(_all_done, work, copy.transformer, placed[number::count]))
            results = [_all_done(work, self.transformer, placed[::count])]
        finally:
            wait(futures)
        results += [future.result() for future in futures]
        return [moved(results[index % count][index // count], self.device) for index in range(len(items))]


def _all_done(work: Callable[[Any, ItemT], ResultT], transformer: Any, items: Sequence[ItemT]) -> list[ResultT]:
    return [work(transformer, item) for item in items]


def moved(value: T, device: torch.device) -> T:
    """Returns a value with its tensors on a device. Tensors that are there already are not copied.

    value: its tensors may be in mappings, lists, tuples and dataclasses, which are not changed.
    """
    return _moved(value, device)  # type: ignore[no-any-return]


@singledispatch
def _moved(value: Any, device: torch.device) -> Any:
    if not is_dataclass(value) or isinstance(value, type):
        return value
    return replace(value, **{each.name: moved(getattr(value, each.name), device) for each in fields(value)})


@_moved.register
def _(value: Tensor, device: torch.device) -> Any:
    return value.to(device)


@_moved.register(Mapping)
def _(value: Mapping[Any, Any], device: torch.device) -> Any:
    return {key: moved(part, device) for key, part in value.items()}


@_moved.register(list)
@_moved.register(tuple)
def _(value: Any, device: torch.device) -> Any:
    return type(value)(moved(part, device) for part in value)
