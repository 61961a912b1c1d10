"""Decides how the weights of a model are held, before any of them is read: in which dtype, and on which device."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from longtake.errors import NotSupported
from longtake.models import fp8, memory
from longtake.models.budget import TEXT_PARTS, Home, Memories, TextPlace, copies_home, may_pin, text_leaves, text_place
from longtake.models.checkpoints import Checkpoint
from longtake.models.registry import ModelCard, PartName
from longtake.settings import Settings

BytesIn = Callable[[fp8.Mode, bool], Mapping[str, int]]
"""A function of how the transformer uses 8-bit floats, and of whether the text encoder is stored in 8 bits. It returns
the bytes of the weights of each part."""

TOO_LARGE = (
    "The blocks' weights are stored in 8 bits and converted when a layer runs, because with products in 8 bits the "
    "transformer would not fit into the device's memory."
)


@dataclass(frozen=True)
class Room:
    """The devices of a model, and their memory in bytes.

    devices: the device on which the model computes, then those of the transformer's copies.
    memories: the total memory of the first device and of the host.
    free: for each device, its free memory; None for a device that shares the host's memory.
    """

    devices: tuple[torch.device, ...]
    memories: Memories
    free: tuple[int | None, ...]

    @classmethod
    def of(cls, settings: Settings) -> "Room":
        """Returns the devices that the setting `device` names. Raises `NotSupported` if they are not available."""
        devices = memory.choose_devices(settings)
        memories = memory.memories(devices[0], settings.slots)
        return cls(devices, memories, tuple(memory.free_bytes(device) for device in devices))


@dataclass(frozen=True)
class Placement:
    """How the weights of a model are held.

    room: the model's devices and their memory.
    dtype: the transformer's dtype. Some parts have another one; see `memory.part_dtype`.
    eight_bits: how the transformer uses 8-bit floats.
    has_short_text: True if the text encoder's weights are stored as 8-bit floats.
    sizes: the bytes of each part and, as "copies", of the transformer's copies that are in the same memory.
    offload: where the weights are while the model runs (see `memory.Offload`).
    usual_offload: what `offload` is if no other program uses the device.
    streamed: the parts whose layers are copied to the device one after the other.
    leaving: the parts that are on the device only while a prompt is encoded.
    direct: the parts whose weights are read onto the device. Those of the others are read into host memory.
    direct_copies: for each further device, True if the transformer's weights are read onto it.
    pinned: True if weights that are copied to the device may be in pinned host memory.
    """

    room: Room
    dtype: torch.dtype
    eight_bits: fp8.Mode
    has_short_text: bool
    sizes: Mapping[str, int]
    offload: memory.Offload
    usual_offload: memory.Offload
    streamed: tuple[PartName, ...]
    leaving: tuple[PartName, ...]
    direct: tuple[str, ...]
    direct_copies: tuple[bool, ...]
    pinned: bool

    @property
    def device(self) -> torch.device:
        """The device on which the model computes."""
        return self.room.devices[0]

    @property
    def keeps_originals(self) -> bool:
        """True if the weights stay in host memory unchanged, and only copies of them are on the device."""
        return self.offload == "model" and self.device.type == "cuda"

    def home(self, mergeable: int) -> Home:
        """Returns where the copies of the original weights are.

        mergeable: the bytes of all weights that adapters could be merged into.
        """
        home = copies_home(self.sizes, mergeable, self.usual_offload, self.room.memories)
        if home == "none" or not self.keeps_originals:
            return home
        return "pinned" if self.pinned else "host"

    def text_place(self, home: Home) -> TextPlace:
        """Returns where the text encoder's weights are while nothing is encoded. `home` is where the copies are."""
        return text_place(self.sizes, home, self.room.memories) if self.leaving else "device"


def plan(
    card: ModelCard, opened: Mapping[PartName, Checkpoint], settings: Settings, *, are_compiled: bool
) -> tuple[Placement, str]:
    """Returns how the weights of a model are held on this machine, and a sentence for the log about 8-bit floats.

    opened: the checkpoints of the model's parts.
    are_compiled: True if the transformer's blocks are compiled.

    Raises `NotSupported` as `placed` does, and if this machine does not have the devices of the settings.
    """
    room = Room.of(settings)
    dtype = memory.choose_dtype(settings, room.devices[0], embedded=card.embedded)
    wanted, reason = fp8.choose_mode(settings, room.devices[0], are_compiled=are_compiled)
    placement = placed(room, dtype, partial(part_bytes, opened, dtype), wanted, settings.offload)
    return placement, reason if placement.eight_bits == wanted else TOO_LARGE


def placed(room: Room, dtype: torch.dtype, bytes_in: BytesIn, wanted: fp8.Mode, offload: str) -> Placement:
    """Returns how the weights of a model are held.

    dtype: the transformer's dtype.
    wanted: how the transformer uses 8-bit floats if the device has room for it. Unless it is "none", the text encoder
        is stored in 8 bits, too, if the device has no room for it otherwise.
    offload: the setting `offload`.

    Raises `NotSupported` if a further device has no room for a copy of the transformer.
    """
    total, free = room.memories.device, room.free[0]
    plain = bytes_in("none", False)
    is_short = wanted != "none" and "text_encoder" in plain and memory.lacks_room("text_encoder", plain, total)
    mode = without_streaming(wanted, lambda each: bytes_in(each, is_short), total)
    sizes, unrounded = dict(bytes_in(mode, is_short)), bytes_in("none", is_short)
    if total is None and len(room.devices) > 1:  # the copies are in the same memory
        sizes["copies"] = (len(room.devices) - 1) * sizes["transformer"]
    chosen = memory.choose_offload(offload, sizes, total, free)
    streamed = memory.streamed_parts(offload, chosen, sizes, total)
    check_room(room, sizes["transformer"], is_streamed="transformer" in streamed)
    leaving = TEXT_PARTS if chosen == "none" and text_leaves(sizes, room.memories) else ()
    # Weights that are rounded to 8 bits are read onto the device, too, if it has room for them before that.
    has_room = free is None or sum(unrounded.values()) <= free
    rounded = {"transformer": mode != "none", "text_encoder": is_short}
    direct = [part for part in plain if part not in leaving and (has_room or not rounded.get(part, False))]
    return Placement(
        room=room,
        dtype=dtype,
        eight_bits=mode,
        has_short_text=is_short,
        sizes=sizes,
        offload=chosen,
        usual_offload=memory.choose_offload(offload, sizes, total, total),
        streamed=tuple(streamed),
        leaving=leaving,
        direct=tuple(direct) if chosen == "none" else (),
        direct_copies=tuple(mode == "none" or own is None or unrounded["transformer"] <= own for own in room.free[1:]),
        pinned=may_pin(sum(sizes.values()), room.memories),
    )


def without_streaming(wanted: fp8.Mode, sizes: Callable[[fp8.Mode], Mapping[str, int]], total: int | None) -> fp8.Mode:
    """Returns `wanted`, but "storage" instead of "products" if only "products" makes the device stream the transformer.

    "products" keeps a part of the weights in the usual dtype, so it needs more memory than "storage".

    sizes: a function of a mode that returns the bytes of each part of the model.
    total: the bytes of the device's memory; None for a device that shares the host's memory, where nothing is streamed.
    """
    if wanted != "products":
        return wanted
    with_products, stored = (memory.choose_offload("auto", sizes(each), total, total) for each in (wanted, "storage"))
    return "storage" if with_products == "group" != stored else wanted


def check_room(room: Room, num_bytes: int, *, is_streamed: bool) -> None:
    """Raises `NotSupported` if copies of a transformer on further devices are not possible.

    num_bytes: the bytes of the transformer's weights.
    is_streamed: True if the first device has no room for all of them at once.
    """
    if is_streamed and len(room.devices) > 1:
        raise NotSupported(
            "Devices that work together must hold the whole transformer, but its weights are streamed from host "
            "memory. LONGTAKE_QUANTISE=fp8 halves them, and a single device can stream them."
        )
    needed = num_bytes + memory.reserve(num_bytes)
    for device, free in zip(room.devices[1:], room.free[1:], strict=True):
        if free is not None and free < needed:
            raise NotSupported(
                f"{device} has no room for a copy of the transformer: {free / 1e9:.1f} GB are free, and its weights "
                f"and activations need {needed / 1e9:.1f} GB. LONGTAKE_QUANTISE=fp8 halves the weights."
            )


def part_bytes(
    opened: Mapping[PartName, Checkpoint], dtype: torch.dtype, mode: fp8.Mode, has_short_text: bool = False
) -> dict[str, int]:
    """Returns the bytes of the weights of each part of a model.

    opened: the parts' checkpoints.
    dtype: the transformer's dtype.
    mode: how the transformer uses 8-bit floats.
    has_short_text: True if the weights of the text encoder are stored in 8 bits.
    """
    sizes: dict[str, int] = {
        part: checkpoint.num_elements * memory.part_dtype(part, dtype).itemsize for part, checkpoint in opened.items()
    }
    if "transformer" in opened:
        sizes["transformer"] = fp8.num_bytes(_shapes(opened["transformer"]), mode, dtype, opened["transformer"].scaled)
    if "text_encoder" in opened and has_short_text:
        shapes = _shapes(opened["text_encoder"])
        usual = memory.part_dtype("text_encoder", dtype)
        sizes["text_encoder"] = fp8.stored_bytes(shapes, fp8.chosen_in_text(shapes), usual)
    return sizes


def _shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the weights in a checkpoint, by name."""
    return {name: weight.info.shape for name, weight in checkpoint.weights.items()}
