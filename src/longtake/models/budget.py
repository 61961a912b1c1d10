"""Decides from the sizes of weights and memories what host memory is used for, and where copies of weights are.

Only total sizes count, never what is free at the moment. So a request has the same bits whatever else the machine does,
and a request that was interrupted goes on with the same bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from longtake import system

Home = Literal["device", "pinned", "host", "none"]
"""Where the copies are from which the weights are restored that adapters were merged into.

device: beside the weights, in the same memory.
pinned: in host memory that is pinned, so that a GPU reads it fast.
host: in ordinary host memory.
none: there is no room for copies, so adapters are computed beside the weights.
"""

ACTIVATIONS = 16 * 1024**3
"""Device memory in bytes that copies of weights leave free, besides the weights.

For a small model it is less: 8 times the bytes of its weights.
"""

MOST_PINNED = 0.75
"""The largest share of host memory that weights may take if they are pinned: the system cannot move pinned memory."""

MOST_USED = 0.875
"""The largest share of host memory that weights and their copies may take."""


@dataclass(frozen=True)
class Memories:
    """The total memory of the machine in bytes.

    device: that of the GPU; None for a device that shares the host's memory.
    host: that of the host; None if the system does not say it.
    """

    device: int | None
    host: int | None


CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Files that hold the largest number of bytes of memory that this process's container may use. One of them exists."""


def host_memory() -> int | None:
    """Returns the memory in bytes that this process may use at most: the host's, or less if its container has a limit.

    Returns None on systems other than Linux.
    """
    host = system.memory_bytes()
    if host is None:
        return None
    limits = [path.read_text().strip() for path in CGROUP_LIMITS if path.is_file()]
    return min((host[1], *(int(limit) for limit in limits if limit.isdigit())))


def may_pin(num_bytes: int, memories: Memories) -> bool:
    """Returns True if this many bytes of weights may be in pinned host memory. That is never so without a GPU."""
    return memories.device is not None and memories.host is not None and num_bytes <= MOST_PINNED * memories.host


def copies_home(sizes: Mapping[str, int], copies: int, offload: str, memories: Memories) -> Home:
    """Returns where the copies of those weights are that adapters are merged into.

    sizes: the bytes of each part of the model.
    copies: the bytes of all weights that adapters could be merged into.
    offload: where the model's weights are; see `memory.Offload`. Streamed weights ("group") are never merged into.
    memories: the memory of the machine.
    """
    if offload == "group":
        return "none"
    weights = sum(sizes.values())
    if memories.device is None:
        return "device" if _may_use(weights + copies, memories) else "none"
    reserve = min(ACTIVATIONS, 8 * weights)
    if offload == "none" and weights + copies + reserve <= memories.device:
        return "device"
    # With "none", a text encoder may have to move to the host while the transformer samples.
    in_host = copies + (weights if offload == "model" else sizes.get("text_encoder", 0))
    if may_pin(in_host, memories):
        return "pinned"
    return "host" if _may_use(in_host, memories) else "none"


def _may_use(num_bytes: int, memories: Memories) -> bool:
    """Returns True if this many bytes may be in host memory, or if its size is unknown."""
    return memories.host is None or num_bytes <= MOST_USED * memories.host
