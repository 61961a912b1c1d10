"""Merges adapters into the weights of linear layers, and restores the weights from copies.

The merged weight of a pass is always computed from the copy, so its bits depend on the scales of that pass alone, and
not on the passes before it. Nothing is ever subtracted, because that would leave rounding errors in the weights.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from longtake.models.adapted_layer import Change
from longtake.models.budget import Home
from longtake.models.lora_fit import linear_layers

MERGED_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""The dtypes of weights into which adapters are merged."""


class Originals:
    """Copies of a transformer's weights as they were loaded.

    A weight is copied when adapters change it for the first time. The copy is then kept as long as the model, so that
    later requests need not make it again.

    home: where the copies are: beside the weights ("device") or in host memory ("pinned", "host"; see `budget.Home`).
        "none" means that there is no room for copies, so no weight may be changed.
    """

    def __init__(self, home: Home = "device") -> None:
        self.home = home
        self._copies: dict[str, Tensor] = {}

    def copy_of(self, name: str, weight: Tensor) -> Tensor:
        """Returns the copy of the weight of layer `name`. The weight must be unchanged at the first call for a name."""
        if name not in self._copies:
            is_pinned = self.home == "pinned"
            device = weight.device if self.home == "device" else "cpu"
            copy = torch.empty_like(weight, device=device, pin_memory=is_pinned)
            self._copies[name] = copy.copy_(weight, non_blocking=is_pinned)
        return self._copies[name]

    def use_weights(self, transformer: torch.nn.Module) -> None:
        """Uses the transformer's weights themselves as the copies. They are in host memory now and never change there:
        adapters are merged into the copies of them that are on the device while the transformer runs."""
        for name, layer in linear_layers(transformer).items():
            if merges(layer, self):
                self._copies[name] = layer.weight.data

    def copy_all(self, transformer: torch.nn.Module) -> None:
        """Copies all weights that adapters may be merged into now, so that no request waits for the copies."""
        for name, layer in linear_layers(transformer).items():
            if merges(layer, self):
                self.copy_of(name, layer.weight.data)


def merges(layer: torch.nn.Linear, originals: Originals) -> bool:
    """Returns True if adapters are merged into the layer's weight, and False if they are computed beside it.

    They are merged if there is room for a copy of the weight (`originals` says so), and the weight is an ordinary
    tensor of 16 or 32 bits.
    """
    return originals.home != "none" and is_mergeable(layer)


def is_mergeable(layer: torch.nn.Linear) -> bool:
    """Returns True if the layer's weight is an ordinary tensor of 16 or 32 bits.

    An adapter would lose most of its effect if it were rounded to 8 bits. So an 8-bit weight, or one that a library
    keeps quantised in a tensor class of its own, stays as it is.
    """
    weight = layer.weight.data
    return type(weight) is Tensor and weight.dtype in MERGED_DTYPES


def mergeable_bytes(transformer: torch.nn.Module) -> int:
    """Returns the bytes of all weights of a transformer that adapters could be merged into."""
    return sum(layer.weight.nbytes for layer in linear_layers(transformer).values() if is_mergeable(layer))


class MergedLayer:
    """A layer with adapters that are merged into its weight.

    name: the layer's name in the transformer.
    layer: the layer. The constructor must get it with its original weight.
    changes: for each adapter, what it adds to the weight.
    originals: copies of the transformer's original weights. A merge begins with the copy, and `restore` copies it back.
    replicas: the same layer in the transformer's copies on other devices. Their weights always get the same bits.
    """

    def __init__(
        self,
        name: str,
        layer: torch.nn.Linear,
        changes: Sequence[Change],
        originals: Originals,
        replicas: Sequence[torch.nn.Linear] = (),
    ) -> None:
        self._name = name
        self._replicas = replicas
        self._layer = layer
        self._changes = changes
        self._originals = originals
        self._strengths: tuple[float, ...] | None = self._base
        """The strengths with which the adapters are merged into the weight now; None if a merge was interrupted."""
        self._elsewhere: tuple[float, ...] | None = self._base
        """The strengths that are merged into the weights of the replicas now; None if copying was interrupted."""

    @property
    def device(self) -> torch.device:
        """The device of the weight."""
        return self._layer.weight.device

    @property
    def _base(self) -> tuple[float, ...]:
        """The adapters' strengths at which the merged weight is the original weight: all are 0."""
        return (0.0,) * len(self._changes)

    def set_pass(self, number: int) -> None:
        """Merges the adapters into the weight, with the strengths of pass `number` (from 0)."""
        strengths = tuple(change.strength(number) for change in self._changes)
        if strengths == self._base:
            self.restore()
            return
        if strengths == self._strengths:
            return
        weight = self._layer.weight.data
        copy = self._originals.copy_of(self._name, weight)
        original = weight if self._strengths == self._base else copy
        self._strengths = None
        merge(weight, original, self._changes, strengths)
        self._copy_to_replicas(strengths)
        self._strengths = strengths

    def weight_was_replaced(self) -> None:
        """Must be called after the weight was replaced by a copy of the original one, and before `set_pass`.

        The weights of the replicas were not replaced. `set_pass` copies to them only if they lack the bits of the pass.
        """
        self._strengths = self._base

    def restore(self) -> None:
        """Copies the original weight back, bit for bit.

        From pinned memory it is copied in the background, but later work of the device uses the restored weight.
        """
        if self._strengths != self._base:
            weight = self._layer.weight.data
            copy = self._originals.copy_of(self._name, weight)
            if weight.data_ptr() != copy.data_ptr():  # they are the same if the changed weight has left the device
                weight.copy_(copy, non_blocking=True)
        self._copy_to_replicas(self._base)
        self._strengths = self._base

    def _copy_to_replicas(self, strengths: tuple[float, ...]) -> None:
        """Copies the weight, into which the adapters are merged with these strengths, to all replicas, if they do not
        have it."""
        if strengths == self._elsewhere:
            return
        self._elsewhere = None
        for replica in self._replicas:
            replica.weight.data.copy_(self._layer.weight.data, non_blocking=True)
        self._elsewhere = strengths


class Restoring:
    """Restores weights on a CUDA GPU beside the GPU's other work, on a stream of its own.

    The work that other streams are given meanwhile must not use these weights. `wait` ends that time.
    """

    def __init__(self) -> None:
        self._stream: torch.cuda.Stream | None = None

    def start(self, layers: Sequence[MergedLayer]) -> None:
        """Begins to restore the weights of some layers, after the GPU's present work. Does nothing on other devices."""
        device = layers[0].device if layers else torch.device("cpu")
        if device.type != "cuda":
            return
        self._stream = torch.cuda.Stream(device)
        self._stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._stream):
            for layer in layers:
                layer.restore()

    def wait(self) -> None:
        """Makes the GPU's later work wait until the weights are restored. The host does not wait."""
        if self._stream is not None:
            torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)
            self._stream = None


def merge(weight: Tensor, original: Tensor, changes: Sequence[Change], strengths: Sequence[float]) -> None:
    """Sets a weight to original + the sum of strength * b @ a over all changes, each with its own of the `strengths`.

    The sum is computed in float32 and rounded once. Changes of strength 0 are left out.

    weight: [out, in], in float32, bfloat16 or float16.
    original: the unchanged weight, on any device. It may be `weight` itself.
    """
    device = weight.device
    total = original.to(device, non_blocking=True).to(torch.float32, copy=True)
    with _tensor_cores(weight.dtype):
        for change, strength in zip(changes, strengths, strict=True):
            if strength:
                a, b = (side.to(device, non_blocking=True).float() for side in (change.pair.a, change.pair.b))
                total.addmm_(b, a, alpha=strength)
    weight.copy_(total)


@contextmanager
def _tensor_cores(dtype: torch.dtype) -> Iterator[None]:
    """Context manager: inside its block, products of float32 matrices on a CUDA GPU use TF32 if `dtype` has 16 bits.
    The block multiplies the two matrices of an adapter, whose product is added to a weight.

    TF32 is about eight times as fast. It keeps 11 bits of each number and adds the products in float32. So matrices
    that were stored in bfloat16 or float16 are not rounded.

    dtype: the dtype of the weight.
    """
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    if dtype != torch.float32:
        products.fp32_precision = "tf32"
    try:
        yield
    finally:
        products.fp32_precision = before
