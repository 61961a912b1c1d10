"""Where a model runs and how it fits: device, dtype, offload, and 8-bit storage of the transformer's weights."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from accelerate.hooks import ModelHook, add_hook_to_module  # type: ignore[import-untyped]

from longtake.errors import NotSupported
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


def text_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of a T5 encoder beside a transformer in `dtype`: its activations overflow float16."""
    return torch.float32 if dtype == torch.float16 else dtype


def free_bytes(device: torch.device) -> int | None:
    """Free memory of a GPU; None where memory is shared with the host, so that moving parts away gains nothing."""
    if device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info(device)[0])


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


def place(parts: Mapping[str, torch.nn.Module], device: torch.device, offload: Offload) -> None:
    """Puts the parts, which are on the host, where `offload` says; from then on they move by themselves."""
    if offload == "none":
        for part in parts.values():
            part.to(device)
        return
    grouped = {name for name in ("transformer", "text_encoder") if offload == "group" and name in parts}
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
