"""What the adapters of a request do to one linear layer, whichever way they are applied."""

from dataclasses import dataclass
from typing import Protocol

from longtake.models.loras import Pair


@dataclass(frozen=True)
class Change:
    """What one adapter does to one layer.

    pair: the change of the layer's weight at scale 1.
    scales: the adapter's scale in each sampling pass.
    """

    pair: Pair
    scales: tuple[float, ...]

    def strength(self, number: int) -> float:
        """Returns the factor of `pair.b @ pair.a` in sampling pass `number` (from 0)."""
        return self.scales[number] * self.pair.factor


class AdaptedLayer(Protocol):
    """A linear layer with the adapters that change it."""

    def set_pass(self, number: int) -> None:
        """Gives the adapters their strengths in sampling pass `number` (from 0)."""
        ...

    def restore(self) -> None:
        """Makes the layer what it was before the first call of `set_pass`, bit for bit."""
        ...
