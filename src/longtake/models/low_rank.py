"""Computes adapters beside the weights of linear layers: y = W x + strength * B (A x).

This is for weights that adapters cannot be merged into: those in 8 bits, and those that are streamed to the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from longtake.models.adapted_layer import Change
from longtake.models.streaming import StreamedTensors


def padded_rank(rank: int) -> int:
    """Returns the rank to which matrices of a rank are padded with zeros: a power of two from 16 to 128, or a multiple
    of 128. Compiled blocks are compiled anew for each rank, so there should be few different ranks."""
    powers = (16, 32, 64, 128)
    return next((power for power in powers if rank <= power), -(-rank // 128) * 128)


class MatrixPlace(Protocol):
    """The place of the two matrices that an adapted layer adds."""

    @property
    def device(self) -> torch.device:
        """The device on which they are made."""
        ...

    def keep(self, matrix: Tensor) -> Tensor:
        """Returns a matrix that was made there, as the layer uses it."""
        ...

    def free(self, matrix: Tensor) -> None:
        """Must be called when the layer no longer uses a matrix that `keep` has returned."""
        ...


@dataclass(frozen=True)
class BesideWeight:
    """The place of the matrices of a layer whose weight is not streamed: the device of the weight.

    layer: the layer.
    """

    layer: nn.Linear

    @property
    def device(self) -> torch.device:
        return self.layer.weight.device

    def keep(self, matrix: Tensor) -> Tensor:
        return matrix

    def free(self, matrix: Tensor) -> None:
        pass


@dataclass(frozen=True)
class Streamed:
    """The place of the matrices of a layer whose weight is streamed: host memory. They are streamed with the weight.

    group: the group of the layer's weight.
    pinned: True if the matrices are pinned in host memory.
    """

    group: StreamedTensors
    pinned: bool

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def keep(self, matrix: Tensor) -> Tensor:
        kept = matrix.pin_memory() if self.pinned else matrix
        self.group.add(kept)
        return kept

    def free(self, matrix: Tensor) -> None:
        self.group.remove(matrix)


class LayerWithTerms(nn.Module):
    """A linear layer to whose output the product of two matrices is added: y = layer(x) + b (a x).

    layer: the layer.
    a, b: [rank, in] and [out, rank]. They are plain attributes, no parameters of the module, so that hooks that move
        its weights do not move them.
    """

    def __init__(self, layer: nn.Linear, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.a, self.b = a, b
        self.train(layer.training)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a.to(x.dtype), self.b.to(x.dtype)
        output: Tensor = self.layer(x)
        narrow = linear(x, a).flatten(0, -2)
        return torch.addmm(output.flatten(0, -2), narrow, b.t()).view_as(output)


class BesideLayer:
    """A layer whose adapters are computed beside its weight: y = W x + b (a x). `set_pass` replaces it by a
    `LayerWithTerms`.

    transformer: the model with the layer.
    name: the layer's name in the model.
    changes: what each adapter does to the layer.
    dtype: the dtype in which the layer computes.
    rank: the number of rows of a, and of columns of b. It is the same for all layers of the model, so it may be above
        the sum of the changes' ranks: the rest is zeros.
    place: the place of a and b.
    """

    def __init__(
        self,
        transformer: nn.Module,
        name: str,
        changes: Sequence[Change],
        dtype: torch.dtype,
        rank: int,
        place: MatrixPlace,
    ) -> None:
        parent, _, self._attribute = name.rpartition(".")
        self._parent = transformer.get_submodule(parent)
        self._layer: nn.Linear = getattr(self._parent, self._attribute)
        self._changes = changes
        self._dtype = dtype
        self._rank = rank
        self._place = place
        self._a: Tensor | None = None
        self._b: Tensor | None = None
        self._strengths = (0.0,) * len(changes)

    def set_pass(self, number: int) -> None:
        """Gives the adapters their strengths in pass `number` (from 0)."""
        strengths = tuple(change.strength(number) for change in self._changes)
        if strengths == self._strengths:
            return
        if not any(strengths):
            self.restore()
            return
        device = self._place.device
        if self._a is None:
            a = torch.cat([change.pair.a.to(device, non_blocking=True) for change in self._changes])
            self._a = self._place.keep(pad(a, (0, 0, 0, self._rank - len(a))).to(self._dtype))
        if self._b is not None:
            self._place.free(self._b)
            self._b = None  # `restore` must not free it again if there is no memory for the next one
        scaled = [
            strength * change.pair.b.to(device, non_blocking=True).float()
            for change, strength in zip(self._changes, strengths, strict=True)
        ]
        b = torch.cat(scaled, 1)
        self._b = self._place.keep(pad(b, (0, self._rank - b.shape[1])).to(self._dtype))
        setattr(self._parent, self._attribute, LayerWithTerms(self._layer, self._a, self._b))
        self._strengths = strengths

    def weight_was_replaced(self) -> None:
        """Does nothing, because the adapters are not in the weight."""

    def restore(self) -> None:
        """Removes the adapters from the layer."""
        setattr(self._parent, self._attribute, self._layer)
        for matrix in (self._a, self._b):
            if matrix is not None:
                self._place.free(matrix)
        self._a, self._b = None, None
        self._strengths = (0.0,) * len(self._changes)
