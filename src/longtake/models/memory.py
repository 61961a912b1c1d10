"""Chooses the device, dtype and offloading of a model, and places its parts."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Literal, Protocol

import torch
from accelerate.hooks import ModelHook, add_hook_to_module  # type: ignore[import-untyped]

from longtake.device_setting import slots_per_gpu
from longtake.errors import NotSupported
from longtake.host_memory import host_memory
from longtake.models.budget import Memories
from longtake.models.host_copies import HostCopies
from longtake.models.registry import PartName
from longtake.models.streaming import stream
from longtake.settings import Settings

Offload = Literal["none", "model", "group"]
"""Where a model's weights are while it runs.

none: all parts of the model are on the device.
model: only the part that runs is on the device; the other parts are in host memory.
group: as `model`, but of the transformer and the text encoder, or of one of them, only the layers that run are on the
    device.
"""

LARGE: tuple[PartName, ...] = ("transformer", "text_encoder")
"""The parts of a model whose layers can be copied to the device one after the other."""

RESERVE_BYTES = 8 * 1024**3
"""Device memory in bytes that is left free for activations. For a small model it is less (see `reserve`)."""


def choose_device(settings: Settings) -> torch.device:
    """Returns the first of the devices that `choose_devices` returns. All parts of a model are there."""
    return choose_devices(settings)[0]


def choose_devices(settings: Settings) -> tuple[torch.device, ...]:
    """Returns the devices that the setting `device` names. Several ones share out the predictions of a request. `auto`
    is the first of cuda, mps and cpu that this machine has.

    Raises `NotSupported` for a device that this machine does not have, and for several GPUs of different kinds.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if settings.device == "auto":
        return (torch.device(next(name for name, is_available in available.items() if is_available)),)
    devices = tuple(map(torch.device, settings.device.split("+")))
    for device in devices:
        is_beyond = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
        if not available[device.type] or is_beyond:
            names = ", ".join(name for name, is_available in available.items() if is_available)
            lacking = f"; {device} is not there" if len(devices) > 1 and available[device.type] else ""
            raise NotSupported(f"The device {settings.device} is not on this machine; it has {names}{lacking}.")
    if len(devices) > 1 and devices[0].type == "cuda":
        kinds = {torch.cuda.get_device_name(device): device for device in devices}
        if len(kinds) > 1:
            found = ", ".join(f"{device} is {kind}" for kind, device in kinds.items())
            raise NotSupported(f"The device {settings.device} joins GPUs of different kinds: {found}.")
    return devices


def choose_dtype(settings: Settings, device: torch.device, *, embedded: bool) -> torch.dtype:
    """Returns the dtype that the setting `dtype` names. For `auto`, the first case that applies decides:

    - float32 on a CPU, and on any device for a model whose weights are in the package;
    - float16 on a CUDA GPU that cannot compute in bfloat16;
    - bfloat16 otherwise.

    device: the device that the model will run on.
    embedded: True for a model whose weights are in the package.
    """
    if settings.dtype != "auto":
        return {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[settings.dtype]
    if embedded or device.type == "cpu":
        return torch.float32
    with current_gpu(device):
        if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.float16
    return torch.bfloat16


@contextmanager
def current_gpu(device: torch.device) -> Iterator[None]:
    """Context manager: inside its block, `device` is torch's current CUDA device in this thread. Does nothing for a
    device that is no CUDA GPU.

    Streams and CUDA graphs belong to the current CUDA device, even if the tensors of the work are on another GPU.
    """
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        yield


def part_dtype(part: PartName, dtype: torch.dtype) -> torch.dtype:
    """Returns the dtype of a part of a model whose transformer is in `dtype`.

    The audio VAE and the vocoder are always in float32, because rounding errors add up over the many samples. The text
    encoder and the connectors overflow in float16, so they are in float32 if `dtype` is float16. Any other part is in
    `dtype`.
    """
    if part in ("audio_vae", "vocoder") or (part in ("text_encoder", "connectors") and dtype == torch.float16):
        return torch.float32
    return dtype


def free_bytes(device: torch.device) -> int | None:
    """Returns the free memory of a CUDA GPU in bytes, after emptying torch's cache, but at most this process's share of
    all of it. Returns None for other devices."""
    if device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    return min(int(torch.cuda.mem_get_info(device)[0]), device_bytes(device) or 0)


_slots_per_gpu: ContextVar[int] = ContextVar("slots_per_gpu", default=1)


@contextmanager
def sharing_gpu(settings: Settings) -> Iterator[None]:
    """Context manager: inside its block, the memory of a GPU that several slots of the server use counts as an equal
    share of it for this process. So the slots find room beside each other, and their work gives the same bits whatever
    the others do."""
    token = _slots_per_gpu.set(slots_per_gpu(settings.device, settings.slots))
    try:
        yield
    finally:
        _slots_per_gpu.reset(token)


def num_sharing() -> int:
    """Returns how many slots of the server share the GPU of this process (see `sharing_gpu`)."""
    return _slots_per_gpu.get()


low_memory: ContextVar[bool] = ContextVar("low_memory", default=False)
"""True while a request is carried out whose earlier attempt ran out of memory. Its batches and tiles are as small as
possible then."""


def device_bytes(device: torch.device) -> int | None:
    """Returns the total memory of a CUDA GPU in bytes, or this process's share of it if several slots of the server use
    the GPU (see `sharing_gpu`). Returns None for other devices."""
    if device.type != "cuda":
        return None
    return int(torch.cuda.get_device_properties(device).total_memory) // num_sharing()


def memories(device: torch.device, slots: Sequence[str] = ()) -> Memories:
    """Returns this process's share of the memory of a CUDA GPU, if `device` is one, and of the host's memory.

    slots: the setting `slots` of the machine's server. It has a process for each slot, with weights of its own, so they
        share the host's memory evenly.
    """
    host = host_memory()
    return Memories(device_bytes(device), None if host is None else host.total // max(1, len(slots)))


def choose_offload(requested: str, sizes: Mapping[str, int], total: int | None, free: int | None) -> Offload:
    """Returns where the weights of a model are while it runs.

    requested: `settings.offload`. "none", "model" and "group", from fastest to slowest, are returned unchanged. "auto"
        returns the first of them that leaves enough device memory for activations (see `reserve`), or "group".
    sizes: the bytes of each part of the model.
    total: the bytes of the device's memory; None for a device that shares the host's memory. Offloading saves nothing
        there, so "auto" returns "none".
    free: the free bytes of the device's memory. They only decide between "none" and "model", which give the same bits.
        "group" gives other bits, because adapters are not merged into the weights then. So "auto" chooses it by `total`
        alone, which is the same in each run.
    """
    if requested in ("none", "model", "group"):
        return requested  # type: ignore[return-value]
    if total is None or free is None:
        return "none"
    if any(lacks_room(part, sizes, total) for part in sizes):
        return "group"
    weights = sum(sizes.values())
    return "none" if weights + reserve(weights) <= free else "model"


def reserve(weights: int) -> int:
    """Returns the bytes of device memory that are left free for activations of a model with `weights` bytes."""
    return min(RESERVE_BYTES, 8 * weights)


def lacks_room(part: str, sizes: Mapping[str, int], total: int | None) -> bool:
    """Returns True if the device has no room for a part of a model, even if no other part is there.

    sizes: the bytes of each part of the model.
    total: the bytes of the device's memory; None for a device that shares the host's memory.
    """
    return total is not None and sizes[part] + reserve(sum(sizes.values())) > total


def streamed_parts(requested: str, offload: Offload, sizes: Mapping[str, int], total: int | None) -> list[PartName]:
    """Returns the parts whose layers are copied to the device one after the other.

    requested: `settings.offload`. With "group" they are the transformer and the text encoder; with "auto" only those of
        the two for which the device has no room.
    offload: what `choose_offload` made of it.
    sizes: the bytes of each part of the model.
    total: the bytes of the device's memory; None for a device that shares the host's memory.
    """
    is_wanted = requested == "group"
    return [part for part in LARGE if offload == "group" and (is_wanted or lacks_room(part, sizes, total))]


def place(
    parts: Mapping[PartName, torch.nn.Module],
    device: torch.device,
    offload: Offload,
    *,
    pinned: bool = False,
    streamed: Collection[PartName] = LARGE,
) -> None:
    """Places a model's parts, which are in host memory, on the device, or adds hooks that move them there when they
    run.

    offload: where the weights are to be. "group" moves the streamed parts block by block or layer by layer.
    pinned: True if the weights that are moved to a CUDA GPU may be pinned in host memory. Then they are copied about
        three times as fast. Otherwise "group" copies each layer's weights to a pinned buffer first.
    streamed: the parts that are streamed with "group".
    """
    if offload == "none":
        for part in parts.values():
            part.to(device)
        return
    grouped = [name for name in streamed if offload == "group" and name in parts]
    for name in grouped:
        stream(parts[name], device, by_block=name == "transformer", pinned=pinned)
    share_device({name: part for name, part in parts.items() if name not in grouped}, device, pinned=pinned)


class _Weights(Protocol):
    """The weights of a part, which are on the device between `onload` and `release`."""

    def onload(self) -> bool: ...
    def release(self) -> None: ...


class _MovedWeights:
    """The weights of a part that are moved from the host to the device and back, and are never in both.

    They are used in place of `HostCopies` if device and host share their memory, where a second copy would be a waste.
    """

    def __init__(self, part: torch.nn.Module, device: torch.device) -> None:
        self._part = part
        self._device = device

    def onload(self) -> bool:
        self._part.to(self._device)
        return False

    def release(self) -> None:
        self._part.to("cpu")


class _OnDevice(ModelHook):  # type: ignore[misc]
    """A hook of a part: before each run, it moves the part's weights to the device, and those of other parts away.

    on_copied: called after the part's weights were copied to the device, where they are the original ones then.
    """

    def __init__(self, own: _Weights, others: Sequence[_Weights]) -> None:
        self.own = own
        self.others = others
        self.on_copied: Callable[[], None] = _nothing

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        for other in self.others:
            other.release()
        if self.own.onload():
            self.on_copied()
        return args, kwargs


def _nothing() -> None:
    """Does nothing."""


def share_device(parts: Mapping[PartName, torch.nn.Module], device: torch.device, *, pinned: bool = False) -> None:
    """Adds hooks so that only one of a model's parts is on the device at a time.

    A call of a part's `forward`, `encode` or `decode` moves the part to the device, and the other parts to the host.
    The weights that go to a CUDA GPU also stay in host memory, and are not copied back. So changes that are made on
    the GPU last only until another part runs (see `changed_when_copied`).

    parts: they are in host memory now.
    pinned: True to move the weights that stay in host memory to pinned memory, which a GPU reads fast.
    """

    def weights_of(part: torch.nn.Module) -> _Weights:
        return HostCopies(part, device, pinned=pinned) if device.type == "cuda" else _MovedWeights(part, device)

    weights = {name: weights_of(part) for name, part in parts.items()}
    for name, part in parts.items():
        add_hook_to_module(part, _OnDevice(weights[name], [each for other, each in weights.items() if other != name]))


def bring(part: Any) -> None:
    """Moves a part of a model to the device, if the model's parts take turns there (see `share_device`)."""
    hook = getattr(part, "_hf_hook", None)
    if hook is not None:
        hook.pre_forward(part)


def is_sharing_device(part: Any) -> bool:
    """Returns True if a part of a model takes turns with other parts on the device (see `share_device`). When its turn
    ends, changes that were made to its weights on a CUDA GPU are lost."""
    return getattr(part, "_hf_hook", None) is not None


def send_away(part: Any) -> None:
    """Moves a part of a model to host memory, if the model's parts take turns on the device (see `share_device`)."""
    hook = getattr(part, "_hf_hook", None)
    if hook is not None:
        hook.own.release()


@contextmanager
def changed_when_copied(part: Any, change: Callable[[], None]) -> Iterator[None]:
    """Context manager for changing the weights of a part on the device.

    Inside its block, `change` is called each time that the original weights were copied to the device because the part
    runs. It is never called if the part does not share the device with other parts (see `share_device`).
    """
    hook = getattr(part, "_hf_hook", None)
    if hook is None:
        yield
        return
    hook.on_copied = change
    try:
        yield
    finally:
        hook.on_copied = _nothing


VALUES_PER_CHANNEL = 26
"""An estimate of how many values per token and channel an LTX-2 block has in memory at once.

They include the hidden state, its modulated copy, query, key and value, the rotated query and key, and two tensors of
the feed-forward layer, which is four times as wide.
"""

CPU_BYTES = 4 * 1024**3
"""The memory in bytes that `predictions_at_once` assumes for any device that is not a CUDA GPU.

It is less than the host's memory, which other programs use too.
"""


def predictions_at_once(transformer: Any, num_tokens: int, device: torch.device) -> int:
    """Returns how many predictions one evaluation of the transformer makes: as many as fit in memory, at least one.

    Their activations may take an eighth of a CUDA GPU's total memory. Other devices count as having 4 GiB (CPU_BYTES).
    How much memory is free does not matter, so that a request always gives the same bits. A request whose earlier
    attempt ran out of memory makes one prediction at a time.

    transformer: the LTX-2 transformer.
    num_tokens: the number of video tokens of one prediction.
    device: the device of the transformer.
    """
    if low_memory.get():
        return 1
    total = device_bytes(device) or CPU_BYTES
    config = transformer.config
    width = config.num_attention_heads * config.attention_head_dim
    each = num_tokens * width * VALUES_PER_CHANNEL * transformer.dtype.itemsize
    return max(1, int(total // 8 // each))
