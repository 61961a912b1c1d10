"""CUDA graphs of the simulated GPUs: work that is recorded without being done, and then repeated."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


class Graph:
    """Recorded work. What it reads and writes stays where it is, so that each `replay` does the same work again.

    uses: the memories that the work uses, as (address, True if it is written).
    """

    def __init__(self) -> None:
        self.uses: list[tuple[int, bool]] = []
        self._work: list[Callable[[], object]] = []

    def record(self, compute: Callable[[], Any]) -> None:
        """Records work that writes into tensors that are there already."""
        self._work.append(compute)

    def record_new(self, compute: Callable[[], Any], tensors: Callable[[Any], list[Tensor]]) -> Any:
        """Records work whose result are new tensors in host memory. Returns them, without their values.

        tensors: a function that returns the tensors in a result.
        """
        result = compute()  # for its shapes
        targets = tensors(result)
        for target in targets:
            spoil(target)

        def again() -> None:
            for target, value in zip(targets, tensors(compute()), strict=True):
                target.copy_(value)

        self._work.append(again)
        return result

    def replay(self) -> None:
        """Does the recorded work."""
        for work in self._work:
            work()


def spoil(tensor: Tensor) -> None:
    """Fills a tensor of floats with NaN, so that it is seen if its values are used before they are there."""
    if tensor.is_floating_point() and tensor.element_size() > 1:
        tensor.fill_(float("nan"))
