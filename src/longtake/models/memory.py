"""Device, dtype and offloading of a model, and 8-bit storage of the transformer's weights."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from accelerate.hooks import ModelHook, add_hook_to_module  # type: ignore[import-untyped]

from longtake.errors import NotSupported
from longtake.models.registry import PartName
from longtake.settings import Settings

Offload = Literal["none", "model", "group"]
"""Where weights are: all on the device, one part at a time, or the largest parts in groups of layers."""

RESERVE_BYTES = 8 * 1024**3
"""Device memory in bytes that is left free for activations. Small models leave eight times their weights instead."""

BLOCKS_PER_GROUP = 1
"""Transformer blocks that are moved to the device together with group offloading."""


def choose_device(settings: Settings) -> torch.device:
    """Returns the device of the settings; `auto` is the fastest. Raises `NotSupported` for a device that is absent."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if settings.device == "auto":
        return torch.device(next(name for name, is_available in available.items() if is_available))
    device = torch.device(settings.device)
    missing = not available[device.type] or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count())
    if missing:
        names = ", ".join(name for name, is_available in available.items() if is_available)
        raise NotSupported(f"LONGTAKE_DEVICE={settings.device} is not on this machine; it has {names}.")
    return device


def choose_dtype(settings: Settings, device: torch.device, *, embedded: bool) -> torch.dtype:
    """Returns the dtype of the settings.

    `auto` is bfloat16 on accelerators (float16 on those without it), and float32 on a CPU and for embedded models.
    """
    if settings.dtype != "auto":
        return {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[settings.dtype]
    if embedded or device.type == "cpu":
        return torch.float32
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def part_dtype(part: PartName, dtype: torch.dtype) -> torch.dtype:
    """Returns the dtype of a part of a model whose transformer is in `dtype`.

    Text encoders overflow float16, so they are in float32 then. Audio parts always are: rounding errors add up over a
    vocoder's many samples.
    """
    if part in ("audio_vae", "vocoder") or (part in ("text_encoder", "connectors") and dtype == torch.float16):
        return torch.float32
    return dtype


def free_bytes(device: torch.device) -> int | None:
    """Returns the free memory of a GPU in bytes; None for a device that shares the host's memory."""
    if device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info(device)[0])


def is_short(device: torch.device) -> bool:
    """True if a GPU has less free memory than `RESERVE_BYTES`."""
    free = free_bytes(device)
    return free is not None and free < RESERVE_BYTES


def choose_offload(requested: str, sizes: Mapping[str, int], free: int | None) -> Offload:
    """Returns the offload of parts of these sizes in bytes.

    requested: `settings.offload`; `auto` chooses the fastest offload that leaves memory for activations.
    free: free bytes of the device; None if offloading saves nothing.
    """
    if requested in ("none", "model", "group"):
        return requested  # type: ignore[return-value]
    total = sum(sizes.values())
    reserve = min(RESERVE_BYTES, 8 * total)
    if free is None or total + reserve <= free:
        return "none"
    return "model" if max(sizes.values()) + reserve <= free else "group"


def store_fp8(transformer: torch.nn.Module, compute: torch.dtype) -> None:
    """Stores the transformer's large weights in 8-bit floats (e4m3). Each layer is cast to `compute` when it runs."""
    transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=compute)  # type: ignore[operator]


def place(parts: Mapping[PartName, torch.nn.Module], device: torch.device, offload: Offload) -> None:
    """Places parts that are on the host as `offload` says. Offloaded parts then move to the device when they run."""
    if offload == "none":
        for part in parts.values():
            part.to(device)
        return
    large: tuple[PartName, ...] = ("transformer", "text_encoder")
    grouped = {name for name in large if offload == "group" and name in parts}
    for name in grouped:
        _offload_groups(parts[name], device, by_block=name == "transformer")
    share_device([part for name, part in parts.items() if name not in grouped], device)


def _offload_groups(part: torch.nn.Module, device: torch.device, *, by_block: bool) -> None:
    from diffusers.hooks import apply_group_offloading

    apply_group_offloading(
        part,
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="block_level" if by_block else "leaf_level",
        num_blocks_per_group=BLOCKS_PER_GROUP if by_block else None,
        use_stream=device.type == "cuda",
    )


class _OnDevice(ModelHook):  # type: ignore[misc]
    """Moves its module to the device and the other modules to the host, before the module runs."""

    def __init__(self, device: torch.device, others: Sequence[torch.nn.Module]) -> None:
        self.device = device
        self.others = others

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        for other in self.others:
            other.to("cpu")
        module.to(self.device)
        return args, kwargs


def share_device(parts: Sequence[torch.nn.Module], device: torch.device) -> None:
    """Lets only one of the parts be on the device at a time: the one whose `forward`, `encode` or `decode` ran last."""
    for part in parts:
        add_hook_to_module(part, _OnDevice(device, [other for other in parts if other is not part]))


VALUES_PER_CHANNEL = 26
"""Values per token and channel that an LTX-2 block has in memory at once.

They are the hidden state, its modulated copy, query, key and value with their rotated forms, and the feed-forward's
fourfold width twice.
"""

CPU_BYTES = 4 * 1024**3
"""The memory in bytes that is assumed for a CPU, because other programs use the host's memory too."""


def predictions_at_once(transformer: Any, num_tokens: int, device: torch.device) -> int:
    """Returns how many predictions of `num_tokens` video tokens are evaluated together, at least one.

    Their activations fit in an eighth of the device's memory. All of its memory counts, not only what is free, so that
    a request always gives the same bits.
    """
    total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else CPU_BYTES
    config = transformer.config
    width = config.num_attention_heads * config.attention_head_dim
    each = num_tokens * width * VALUES_PER_CHANNEL * transformer.dtype.itemsize
    return max(1, int(total // 8 // each))
