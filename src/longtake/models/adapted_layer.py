"""The interface of a linear layer that adapters change. Two classes implement it: `MergedLayer` and `BesideLayer`."""

from dataclasses import dataclass
from typing import Protocol

from longtake.models.loras import Pair


@dataclass(frozen=True)
class Change:
    """The change that one adapter makes to the weight of one layer.

    pair: the two matrices and the factor whose product is the change of the weight at scale 1.
    scales: the adapter's scale in each pass.
    """

    pair: Pair
    scales: tuple[float, ...]

    def strength(self, number: int) -> float:
        """Returns the factor of `pair.b @ pair.a` in pass `number` (from 0)."""
        return self.scales[number] * self.pair.factor


class AdaptedLayer(Protocol):
    """A linear layer with the adapters that change it."""

    def set_pass(self, number: int) -> None:
        """Applies the adapters with the strengths that they have in pass `number` (from 0)."""
        ...

    def weight_was_replaced(self) -> None:
        """Must be called after the layer's weight was replaced by a copy of the original one, so that no adapter is
        merged into it any more."""
        ...

    def restore(self) -> None:
        """Removes the adapters: the layer then computes the same bits as before the first call of `set_pass`."""
        ...
