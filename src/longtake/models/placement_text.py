"""Says in words for the log where the weights of a model are, and how much of a GPU's memory they are planned for."""

from collections.abc import Sequence

from longtake.models.budget import Home, Memories, TextPlace
from longtake.models.memory import Offload
from longtake.models.registry import PartName


def shared(slots: int, memories: Memories) -> str:
    """Returns a sentence about a GPU that several slots of the server use.

    slots: their number.
    memories: the process's share of the memory of the GPU and of the host.
    """
    share = "" if memories.device is None else f" of {memories.device / 1e9:.1f} GB"
    return f"{slots} slots use the GPU, and each plans for an equal share{share}."


def described(offload: Offload, home: Home, place: TextPlace, streamed: Sequence[PartName], *, pinned: bool) -> str:
    """Returns a sentence for the log about where a model's weights and their copies are.

    offload: where the weights are (see `memory.choose_offload`).
    home: where the copies of the original weights are. Weights with merged adapters are restored from them.
    place: where the text encoder is while nothing is encoded, if all other weights are on the device.
    streamed: the parts whose layers are copied to the device one after the other.
    pinned: True if weights that are copied to the device when their layer runs are in pinned host memory.
    """
    kind = "pinned" if pinned else "ordinary, so slower,"
    names = " and ".join(f"the {part.replace('_', ' ')}" for part in streamed)
    verb = "is" if len(streamed) == 1 else "are"
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
    return f"{weights[offload]}{text[place]}; {ways[home]}."
