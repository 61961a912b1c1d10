"""Decides which memory holds the text encoder, and which memory holds copies of a model's original weights.

After adapters were merged into weights, the original ones are restored from the copies. The module also decides if
weights may be in pinned host memory.

The decisions depend on the sizes of the weights and on the total sizes of the memories, but not on how much memory is
free. So a request gives the same bits whatever else the machine does, also if it was interrupted and continues.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from longtake.models.registry import PartName

Home = Literal["device", "pinned", "host", "none"]
"""The place of the copies of a model's weights. Weights that adapters were merged into are restored from copies.

device: beside the weights, in the same memory.
pinned: in host memory that is pinned, so that a GPU reads it fast.
host: in ordinary host memory.
none: there is no room for copies, so adapters are computed beside the weights.
"""

TextPlace = Literal["device", "pinned", "host"]
"""The place of the text encoder's weights while nothing is encoded: the device, pinned host memory, or ordinary host
memory."""

TEXT_PARTS: tuple[PartName, ...] = ("text_encoder", "connectors")
"""The parts of a model that encode prompts."""

ACTIVATIONS = 16 * 1024**3
"""Device memory in bytes that must stay free for activations if the device is to hold the text encoder all the time, or
copies of weights. For a small model it is less: 8 times the bytes of its weights."""

MOST_PINNED = 0.75
"""The largest share of host memory that pinned weights may take.

Only the bytes of the weights are counted. torch rounds each pinned tensor up to a power of two bytes, which makes T5 40
% larger. The system cannot swap pinned memory out. So the rest of host memory is for this rounding, for cached
adapters, for video and for other programs.
"""

MOST_PINNED_ADAPTERS = 0.125
"""The largest share of host memory that cached adapters may take if they are pinned."""

MOST_USED = 0.875
"""The largest share of host memory that weights and their copies may take."""


@dataclass(frozen=True)
class Memories:
    """The memory in bytes that a process may use in all.

    device: that of the GPU; None for a device that shares the host's memory.
    host: that of the host, or the process's share of it if the server has several processes; None if the system does
        not say it.
    """

    device: int | None
    host: int | None


def may_pin(num_bytes: int, memories: Memories, share: float = MOST_PINNED) -> bool:
    """Returns True if `num_bytes` bytes may be in pinned host memory, of which they may take a share; always False
    without a GPU. The usual share is that of the weights of models."""
    return memories.device is not None and memories.host is not None and num_bytes <= share * memories.host


def may_pin_adapters(num_bytes: int, memories: Memories) -> bool:
    """Returns True if `num_bytes` bytes of cached adapters may be in pinned host memory beside models' weights."""
    return may_pin(num_bytes, memories, MOST_PINNED_ADAPTERS)


def copies_home(sizes: Mapping[str, int], copies: int, offload: str, memories: Memories) -> Home:
    """Returns where copies of a model's original weights are kept. There are none if the weights are streamed.

    sizes: the bytes of each part of the model.
    copies: the bytes of all weights that adapters could be merged into.
    offload: where the model's weights are; see `memory.Offload`.
    memories: the memory of the machine.
    """
    if offload == "group":
        return "none"
    weights = sum(sizes.values())
    if memories.device is None:
        return "device" if _may_use(weights + copies, memories) else "none"
    if offload == "model":  # the weights stay in host memory, so they are the copies
        return "pinned" if may_pin(weights, memories) else "host"
    if _leaves_room(weights, weights + copies, memories):
        return "device"
    in_host = copies + _text_bytes(sizes) * text_leaves(sizes, memories)
    if may_pin(in_host, memories):
        return "pinned"
    return "host" if _may_use(in_host, memories) else "none"


def text_leaves(sizes: Mapping[str, int], memories: Memories) -> bool:
    """Returns True if the text encoder is on the device only while a prompt is encoded, because the device has no room
    for all weights and the activations together. The other parts always stay on the device.

    sizes: the bytes of each part of the model.
    memories: the memory of the machine.
    """
    weights = sum(sizes.values())
    return not _leaves_room(weights, weights, memories)


def text_place(sizes: Mapping[str, int], home: Home, memories: Memories) -> TextPlace:
    """Returns the place of the text encoder's weights while nothing is encoded: the device if there is room for them.

    sizes: the bytes of each part of the model.
    home: where the original weights are copied, as `copies_home` chose it.
    memories: the memory of the machine.
    """
    if not text_leaves(sizes, memories):
        return "device"
    # `copies_home` chose pinned memory only if it has room for both.
    return "pinned" if home == "pinned" or may_pin(_text_bytes(sizes), memories) else "host"


def _text_bytes(sizes: Mapping[str, int]) -> int:
    return sum(sizes.get(part, 0) for part in TEXT_PARTS)


def _leaves_room(weights: int, on_device: int, memories: Memories) -> bool:
    """Returns True if the device has room for activations (see `ACTIVATIONS`) beside weights and copies of weights.

    weights: the bytes of all the model's weights.
    on_device: the bytes of the weights and copies that are on the device.
    """
    return memories.device is None or on_device + min(ACTIVATIONS, 8 * weights) <= memories.device


def _may_use(num_bytes: int, memories: Memories) -> bool:
    """Returns True if weights and copies of `num_bytes` bytes may be in host memory, or if its size is unknown."""
    return memories.host is None or num_bytes <= MOST_USED * memories.host
