"""Says in words for the log where the weights of a model are, and how much of a GPU's memory they are planned for."""

from collections.abc import Iterator

from longtake.models.budget import Home, TextPlace
from longtake.models.placement import Placement


def described(name: str, placement: Placement, home: Home, text_place: TextPlace, sharing: int) -> Iterator[str]:
    """Yields sentences for the log about where a model's weights and their copies are.

    name: the model's name.
    placement: how the weights are held.
    home: where the copies of the original weights are. Weights with merged adapters are restored from them.
    text_place: where the text encoder is while nothing is encoded, if all other weights are on the device.
    sharing: how many slots of the server use the device.
    """
    kind = "pinned" if placement.pinned else "ordinary, so slower,"
    names = " and ".join(f"the {part.replace('_', ' ')}" for part in placement.streamed)
    verb = "is" if len(placement.streamed) == 1 else "are"
    weights = {
        "none": "all weights are on the device",
        "model": "the part that runs is on the device",
        "group": f"{names} {verb} streamed from {kind} host memory",
    }
    ways = {
        "device": "adapters are merged into the weights, with copies beside them",
        "pinned": "adapters are merged into the weights, with copies in pinned host memory",
        "host": "adapters are merged into the weights, with copies in host memory",
        "none": "adapters are computed beside the weights, which takes longer in each step",
    }
    text = {
        "device": "",
        "pinned": ", the text encoder only while it runs, from pinned host memory",
        "host": ", the text encoder only while it runs, from ordinary, so slower, host memory",
    }
    yield f"{name}: {weights[placement.offload]}{text[text_place]}; {ways[home]}."
    if placement.has_short_text:
        yield "The text encoder's weights are stored in 8 bits, because otherwise the GPU has no room for them."
    if sharing > 1:
        total = placement.room.memories.device
        share = "" if total is None else f" of {total / 1e9:.1f} GB"
        yield f"{sharing} slots use the GPU, and each plans for an equal share{share}."
    devices = placement.room.devices
    if len(devices) > 1:
        yield f"{' and '.join(map(str, devices))} compute together; each has a copy of the transformer."
