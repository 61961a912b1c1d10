"""Where a model runs and how it fits: device, dtype, offload, and 8-bit storage of the transformer's weights."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from accelerate.hooks import ModelHook, add_hook_to_module  # type: ignore[import-untyped]

from longtake.errors import NotSupported
from longtake.models.registry import PartName
from longtake.settings import Settings

Offload = Literal["none", "model", "group"]

RESERVE_BYTES = 8 * 1024**3
"""Device memory left for activations, or eight times the weights where that is less, as with the embedded model."""

BLOCKS_PER_GROUP = 1


def choose_device(settings: Settings) -> torch.device:
    """The device asked for, or for `auto` the best there is. Raises `NotSupported` for one that is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if settings.device == "auto":
        return torch.device(next(name for name, is_there in there.items() if is_there))
    device = torch.device(settings.device)
    missing = not there[device.type] or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count())
    if missing:
        names = ", ".join(name for name, is_there in there.items() if is_there)
        raise NotSupported(f"LONGTAKE_DEVICE={settings.device} is not on this machine; it has {names}.")
    return device


def choose_dtype(settings: Settings, device: torch.device, *, embedded: bool) -> torch.dtype:
    """The dtype asked for, or for `auto` bfloat16 on accelerators (float16 where they lack it) and float32 on a CPU.

    The embedded model is small enough for float32 everywhere.
    """
    if settings.dtype != "auto":
        return {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[settings.dtype]
    if embedded or device.type == "cpu":
        return torch.float32
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def part_dtype(part: PartName, dtype: torch.dtype) -> torch.dtype:
    """The dtype of a part beside a transformer in `dtype`.

    Text encoders overflow float16. Sound is made in float32: rounding adds up over a vocoder's many samples.
    """
    if part in ("audio_vae", "vocoder") or (part in ("text_encoder", "connectors") and dtype == torch.float16):
        return torch.float32
    return dtype


def free_bytes(device: torch.device) -> int | None:
    """Free memory of a GPU; None where memory is shared with the host, so that moving parts away gains nothing."""
    if device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info(device)[0])


def is_short(device: torch.device) -> bool:
    """True if a GPU has less free memory than `RESERVE_BYTES`."""
    free = free_bytes(device)
    return free is not None and free < RESERVE_BYTES


def choose_offload(asked: str, sizes: Mapping[str, int], free: int | None) -> Offload:
    """How to place parts of these sizes in bytes: all on the device, one at a time, or the largest in groups of layers.

    `free`: bytes free on the device, None where offloading gains nothing; `asked`: `settings.offload`.
    """
    if asked in ("none", "model", "group"):
        return asked  # type: ignore[return-value]
    total = sum(sizes.values())
    reserve = min(RESERVE_BYTES, 8 * total)
    if free is None or total + reserve <= free:
        return "none"
    return "model" if max(sizes.values()) + reserve <= free else "group"


def store_fp8(transformer: torch.nn.Module, compute: torch.dtype) -> None:
    """Keeps the transformer's large weights in 8-bit floats (e4m3) and casts each layer to `compute` when it runs."""
    transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=compute)  # type: ignore[operator]


def place(parts: Mapping[PartName, torch.nn.Module], device: torch.device, offload: Offload) -> None:
    """Puts the parts, which are on the host, where `offload` says; from then on they move by themselves."""
    if offload == "none":
        for part in parts.values():
            part.to(device)
        return
    large: tuple[PartName, ...] = ("transformer", "text_encoder")
    grouped = {name for name in large if offload == "group" and name in parts}
    for name in grouped:
        _offload_groups(parts[name], device, by_block=name == "transformer")
    take_turns([part for name, part in parts.items() if name not in grouped], device)


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


class _Turn(ModelHook):  # type: ignore[misc]
    """Before its module runs, sends the others to the host and fetches the module to the device."""

    def __init__(self, device: torch.device, others: Sequence[torch.nn.Module]) -> None:
        self.device = device
        self.others = others

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        for other in self.others:
            other.to("cpu")
        module.to(self.device)
        return args, kwargs


def take_turns(parts: Sequence[torch.nn.Module], device: torch.device) -> None:
    """Lets only one of the parts be on the device at a time: the one that ran last (`encode`, `decode` count too)."""
    for part in parts:
        add_hook_to_module(part, _Turn(device, [other for other in parts if other is not part]))


ACTIVATIONS = 26
"""Values per token and channel that are alive at once in an LTX-2 block: the hidden state, its modulated copy, query,
key and value with their rotated forms, and the feed-forward's fourfold width twice."""

CPU_BYTES = 4 * 1024**3
"""What a CPU's share for activations is counted from: its own memory says little about what else it is used for."""


def predictions_at_once(transformer: Any, num_tokens: int, device: torch.device) -> int:
    """How many predictions of so many video tokens are evaluated together: as many as an eighth of the device's memory
    holds, at least one. By its size, not by what is free, so that the same request gives the same bits."""
    total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else CPU_BYTES
    config = transformer.config
    width = config.num_attention_heads * config.attention_head_dim
    each = num_tokens * width * ACTIVATIONS * transformer.dtype.itemsize
    return max(1, int(total // 8 // each))
