"""Computes adapters beside the weights of linear layers: y = W x + strength * B (A x).

This is for weights that adapters cannot be merged into: those in 8 bits, and those that are streamed to the device.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from longtake.models.adapted_layer import Change


def padded_rank(rank: int) -> int:
    """Returns the rank to which matrices of a rank are padded with zeros: a power of two from 16 to 128, or a multiple
    of 128. Compiled blocks are compiled anew for each rank, so there should be few different ranks."""
    powers = (16, 32, 64, 128)
    return next((power for power in powers if rank <= power), -(-rank // 128) * 128)


class LayerWithTerms(nn.Module):
    """A linear layer to whose output the product of two matrices is added: y = layer(x) + b (a x).

    layer: the layer.
    a, b: [rank, in] and [out, rank]. They are plain attributes, no buffers of the module, so that offloading does not
        move them. If the layer runs on another device, because its weight is streamed, they are copied there each time.
    """

    def __init__(self, layer: nn.Linear, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.a, self.b = a, b
        self.train(layer.training)

    def forward(self, x: Tensor) -> Tensor:
        a, b = (side.to(x.device, x.dtype, non_blocking=True) for side in (self.a, self.b))
        output: Tensor = self.layer(x)
        narrow = linear(x, a).flatten(0, -2)
        return torch.addmm(output.flatten(0, -2), narrow, b.t()).view_as(output)


class BesideLayer:
    """A layer whose adapters are computed beside its weight: y = W x + b (a x). `set_pass` replaces it by a
    `LayerWithTerms`.

    transformer: the model with the layer.
    name: the layer's name in the model.
    changes: what each adapter does to the layer. At the first call of `set_pass` with a strength other than 0, the
        adapters' matrices are copied to the device of the layer's weight.
    dtype: the dtype in which the layer computes.
    rank: the number of rows of a, and of columns of b. It is the same for all layers of the model, so it may be above
        the sum of the changes' ranks: the rest is zeros.
    """

    def __init__(
        self, transformer: nn.Module, name: str, changes: Sequence[Change], dtype: torch.dtype, rank: int
    ) -> None:
        parent, _, self._attribute = name.rpartition(".")
        self._parent = transformer.get_submodule(parent)
        self._layer: nn.Linear = getattr(self._parent, self._attribute)
        self._changes = changes
        self._dtype = dtype
        self._rank = rank
        self._a: Tensor | None = None
        self._strengths = (0.0,) * len(changes)

    def set_pass(self, number: int) -> None:
        """Gives the adapters their strengths in pass `number` (from 0). A pass is a run through the sampling steps."""
        strengths = tuple(change.strength(number) for change in self._changes)
        if strengths == self._strengths:
            return
        if not any(strengths):
            self.restore()
            return
        place = self._layer.weight.device
        if self._a is None:
            a = torch.cat([change.pair.a for change in self._changes])
            self._a = pad(a, (0, 0, 0, self._rank - len(a))).to(place, self._dtype)
        scaled = [
            strength * change.pair.b.to(place).float()
            for change, strength in zip(self._changes, strengths, strict=True)
        ]
        b = torch.cat(scaled, 1)
        b = pad(b, (0, self._rank - b.shape[1])).to(self._dtype)
        setattr(self._parent, self._attribute, LayerWithTerms(self._layer, self._a, b))
        self._strengths = strengths

    def restore(self) -> None:
        """Removes the adapters from the layer."""
        setattr(self._parent, self._attribute, self._layer)
        self._strengths = (0.0,) * len(self._changes)
