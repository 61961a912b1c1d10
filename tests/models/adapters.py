"""Writes small LoRA files, and reads the adapters of a plan, all of them at once."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from longtake.models.lora_files import NO_SOURCES, LoraSources
from longtake.models.loras import LoadedAdapter, LoraCache, open_adapters, read_adapters
from longtake.models.registry import ModelCard
from longtake.plans import PlannedAdapter
from longtake.settings import Settings

MODULE = "transformer_blocks.0.attn1.to_q"


def low_rank_pair(rank: int = 2, out: int = 16, into: int = 16, seed: int = 1) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    return torch.randn(rank, into), torch.randn(out, rank)


def write_lora(path: Path, tensors: dict[str, Tensor], **metadata: Any) -> Path:
    save_file(tensors, path, {name: json.dumps(value) for name, value in metadata.items()} or None)
    return path


def comfy_lora(path: Path, module: str = MODULE, rank: int = 2, seed: int = 1, into: int = 16) -> Path:
    a, b = low_rank_pair(rank, into=into, seed=seed)
    prefix = f"diffusion_model.{module}"
    return write_lora(path, {f"{prefix}.lora_A.weight": a, f"{prefix}.lora_B.weight": b})


def planned_lora(source: str, *scales: float, index: int = 0, weight_name: str | None = None) -> PlannedAdapter:
    return PlannedAdapter(source, scales or (1.0,), ("body", "loras", index, "path"), weight_name)


def load_adapters(
    planned: Sequence[PlannedAdapter],
    card: ModelCard,
    settings: Settings,
    cache: LoraCache,
    sources: LoraSources = NO_SOURCES,
) -> list[LoadedAdapter]:
    with open_adapters(planned, card, settings, sources) as opened:
        return list(read_adapters(opened, cache, sources.check))
