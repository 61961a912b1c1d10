"""Writes small LoRA files, reads the adapters of a plan, all of them at once, and applies adapters."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from longtake.models.applying import applied
from longtake.models.lora_files import NO_SOURCES, LoraSources
from longtake.models.loras import LoadedAdapter, LoraCache, open_adapters, read_adapters
from longtake.models.merging import Originals
from longtake.models.registry import ModelCard
from longtake.plans import PlannedAdapter
from longtake.settings import Settings
from tests.models import small

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


@contextmanager
def applied_in_pass(
    transformer: nn.Module, adapters: Iterable[LoadedAdapter], number: int = 0, originals: Originals | None = None
) -> Iterator[None]:
    """The adapters have their strengths of one pass inside the block."""
    with applied(transformer, adapters, originals=originals) as set_pass:
        set_pass(number)
        yield


class Trace:
    """Everything of a model that an adapter might change."""

    def __init__(self, model: nn.Module) -> None:
        self.state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        self.modules = {name: id(module) for name, module in model.named_modules()}
        self.flags = {name: (p.requires_grad, p.dtype) for name, p in model.named_parameters()}
        self.attributes = set(vars(model))
        self.hooks = {name: len(module._forward_hooks) for name, module in model.named_modules()}

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Trace)
        facts = all(getattr(self, name) == getattr(other, name) for name in ("modules", "flags", "attributes", "hooks"))
        bits = {name: tensor.view(torch.uint8) for name, tensor in self.state.items() if tensor.ndim}
        return facts and small.same(bits, {n: t.view(torch.uint8) for n, t in other.state.items() if t.ndim})
