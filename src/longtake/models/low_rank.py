"""Computes adapters beside the weights of linear layers: y = W x + strength * B (A x).

This is for weights that adapters cannot be merged into: those in 8 bits, and those that are streamed to the device.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.utils.hooks import RemovableHandle

from longtake.models.adapted_layer import Change


class BesideLayer:
    """A layer whose weight stays unchanged: a hook adds the terms of its adapters to each output of the layer.

    layer: the layer.
    changes: the change of each adapter. At the first call of `set_pass` their matrices are moved to the device of the
        layer's weight. If the layer runs on another device, because its weight is streamed, they are copied there each
        time.
    dtype: the dtype in which the layer computes.
    """

    def __init__(self, layer: torch.nn.Linear, changes: Sequence[Change], dtype: torch.dtype) -> None:
        self._layer = layer
        self._changes = changes
        self._dtype = dtype
        self._matrices: list[tuple[Tensor, Tensor]] = []
        self._terms: list[tuple[Tensor, Tensor, float]] = []
        self._handle: RemovableHandle | None = None

    def set_pass(self, number: int) -> None:
        """Applies the adapters with the strengths that they have in sampling pass `number` (from 0)."""
        if self._handle is None:
            pairs, place = [change.pair for change in self._changes], self._layer.weight.device
            self._matrices = [(pair.a.to(place, self._dtype), pair.b.to(place, self._dtype)) for pair in pairs]
            self._handle = self._layer.register_forward_hook(self._add_terms)
        strengths = [change.strength(number) for change in self._changes]
        self._terms = [(a, b, strength) for (a, b), strength in zip(self._matrices, strengths, strict=True) if strength]

    def restore(self) -> None:
        """Removes the adapters from the layer."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _add_terms(self, layer: torch.nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Returns the layer's output [..., out] with the adapters' terms added. It is the layer's forward hook."""
        [x] = args
        for a, b, strength in self._terms:
            a, b = (side.to(x.device, x.dtype, non_blocking=True) for side in (a, b))
            narrow = linear(x, a).flatten(0, -2)
            output = torch.addmm(output.flatten(0, -2), narrow, b.t(), alpha=strength).view_as(output)
        return output
