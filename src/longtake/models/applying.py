"""Applies adapters to a transformer for one request, and restores its exact weights afterwards.

For each linear layer there are two ways. Usually the adapters are merged into its weight (`merging.py`), so that they
cost nothing in a sampling step. Where that is impossible, they are computed beside the weight (`low_rank.py`).
`merging.merges` decides.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from longtake.models import memory
from longtake.models.adapted_layer import AdaptedLayer, Change
from longtake.models.budget import may_pin_adapters
from longtake.models.lora_fit import linear_layers, own_names
from longtake.models.loras import LoadedAdapter
from longtake.models.low_rank import BesideLayer, BesideWeight, MatrixPlace, Streamed, padded_rank
from longtake.models.merging import MergedLayer, Originals, Restoring, merges
from longtake.models.streaming import group_of
from longtake.video import Check, no_check

SetPass = Callable[[int | None], None]
"""A function that sets the adapters' strengths for a pass, as set_pass(number from 0). set_pass(None) says that nothing
more is sampled."""


@contextmanager
def applied(
    transformer: Any,
    adapters: Iterable[LoadedAdapter],
    check: Check = no_check,
    originals: Originals | None = None,
    slots: Sequence[str] = (),
    replicas: Sequence[Any] = (),
) -> Iterator[SetPass]:
    """Applies adapters to a transformer inside the `with` block, and removes them at its end, also after an error.

    Yields a function that sets the strengths that all adapters have in a pass. Its argument is the pass's number, from
    0. Until it is called for the first time, the transformer is unchanged. A call that changes no strength does
    nothing. Called with None when nothing more is sampled, it begins to restore the weights on a CUDA GPU beside the
    GPU's other work, such as decoding.

    adapters: each adapter with its scale in each pass.
    check: called before each layer is changed. It may raise an exception to stop the work.
    originals: the copies of the model's weights. With None, copies are made beside the weights, for this block alone.
    slots: the setting `slots` (see `memory.memories`).
    replicas: copies of the transformer on other devices, which get the same adapters.
    Raises `InvalidRequest` for an adapter with a module that is no linear layer of the transformer, or that has another
    shape there.
    """
    layers = _adapted_layers(transformer, adapters, originals or Originals(), slots, replicas)
    present: int | None = None
    restoring = Restoring()

    def set_pass(number: int | None) -> None:
        nonlocal present
        restoring.wait()
        if number is None:
            if not memory.is_sharing_device(transformer):
                restoring.start([layer for layer in layers if isinstance(layer, MergedLayer)])
            return
        present = number
        if layers:
            memory.bring(transformer)
        change()

    def change() -> None:
        if present is None:
            return
        for layer in layers:
            check()
            layer.set_pass(present)

    def change_copied() -> None:
        for layer in layers:
            layer.weight_was_replaced()
        change()

    try:
        with memory.changed_when_copied(transformer, change_copied):
            yield set_pass
    finally:
        restoring.wait()
        for layer in layers:
            layer.restore()


def _adapted_layers(
    transformer: Any,
    adapters: Iterable[LoadedAdapter],
    originals: Originals,
    slots: Sequence[str],
    replicas: Sequence[Any],
) -> list[AdaptedLayer]:
    """Returns the layers that adapters change, each with its adapters in their order. Changes no weight yet."""
    linear = linear_layers(transformer)
    changes = defaultdict[str, list[Change]](list)
    for index, (adapter, scales) in enumerate(adapters):
        names = own_names(linear, adapter.name, adapter.shapes, adapter.loc or ("body", "loras", index, "path"))
        for module, pair in adapter.pairs.items():
            changes[names[module]].append(Change(pair, scales))
    beside = {name for name in changes if not merges(linear[name], originals)}
    ranks = [sum(len(change.pair.a) for change in changes[name]) for name in beside]
    rank = padded_rank(max(ranks, default=0))  # one for all layers, so that all blocks stay equal
    elsewhere = [linear_layers(replica) for replica in replicas]
    layers: list[AdaptedLayer] = [
        MergedLayer(name, linear[name], of_layer, originals, [others[name] for others in elsewhere])
        for name, of_layer in changes.items()
        if name not in beside
    ]
    for model in (transformer, *replicas):
        own = linear_layers(model)
        places = _places(model, {name: own[name] for name in changes if name in beside}, rank, slots)
        layers += [BesideLayer(model, name, changes[name], model.dtype, rank, place) for name, place in places.items()]
    return layers


def _places(
    transformer: Any, layers: Mapping[str, nn.Linear], rank: int, slots: Sequence[str]
) -> dict[str, MatrixPlace]:
    """Returns for each layer the place of the two matrices that are added to it.

    layers: the layers by name. If their weights are streamed, they are in host memory now.
    rank: the number of rows and columns of the matrices.
    """
    groups = {name: group_of(transformer, name) for name in layers}
    num_values = sum(rank * sum(layer.weight.shape) for layer in layers.values())
    num_bytes = num_values * transformer.dtype.itemsize
    devices = {group.device for group in groups.values() if group is not None}
    pinned = all(may_pin_adapters(num_bytes, memory.memories(device, slots)) for device in devices)
    return {
        name: BesideWeight(layers[name]) if group is None else Streamed(group, pinned) for name, group in groups.items()
    }
