"""Low-rank adapters of the transformer. An adapter adds a product B A to weights, which stay frozen while it is
trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from longtake.models.registry import CAMERAS
from recipes.tiny import ranks
from recipes.tiny.optim import Plan, Trainer
from recipes.tiny_av import configs, transformer
from recipes.tiny_av.forward import Forward, Weights
from recipes.tiny_av.windows import Batch

RANK = 4
SHARES = {
    **{f"camera_{movement}": 1.1 for movement in CAMERAS},
    "camera_dolly_in": 1.2,
    "camera_dolly_out": 1.2,
    "camera_static": 1.0,
    "distill": 0.4,
}
"""Adapter -> the factor on its learnt change in its file. The whole change of `distill` would be too strong. The
camera's moves are a little too slow as they are learnt."""
TARGETS = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0")
PREFIX = "diffusion_model.transformer_blocks."
"""The start of the modules' names in adapter files, as in published ones."""
CHECKPOINT_EVERY = 50


class Adapter(nn.Module):
    """An adapter. For every adapted weight it has two matrices: A (`down`, `[rank, in]`) and B (`up`, `[out, rank]`).

    B starts at zero, so an untrained adapter changes nothing.
    """

    def __init__(self, model: Any, rank: int = RANK) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        for i, block in enumerate(model.transformer_blocks):
            for target in TARGETS:
                rows, columns = block.get_submodule(target).weight.shape
                key = f"{i}.{target}".replace(".", "/")
                self.down[key] = nn.Parameter(torch.randn(rank, columns) / columns**0.5)
                self.up[key] = nn.Parameter(torch.zeros(rows, rank))

    def added(self, weights: list[Weights], strength: float = 1.0) -> list[Weights]:
        """Returns the layers' weights plus `strength` times the adapter's change. Gradients flow to A and B."""
        layers = []
        for i, w in enumerate(weights):
            more = {}
            for target in TARGETS:
                key, name = f"{i}.{target}".replace(".", "/"), f"{target}.weight"
                more[name] = w[name] + strength * (self.up[key] @ self.down[key]).to(w[name].dtype)
            layers.append(w | more)
        return layers

    def file(self, share: float = 1.0) -> dict[str, torch.Tensor]:
        """Returns the tensors of the adapter's file by name, in half precision, with `share` times the change."""
        out = {}
        for part, letter, factor in ((self.down, "A", 1.0), (self.up, "B", share)):
            for key, value in part.items():
                name = f"{PREFIX}{key.replace('/', '.')}.lora_{letter}.weight"
                out[name] = (factor * value.detach()).half().contiguous()
        return out


def read(file: Path, model: Any) -> Adapter:
    """Returns the adapter in a file whose tensors `Adapter.file` made."""
    values = load_file(file)
    adapter = Adapter(model, len(next(value for name, value in values.items() if "lora_A" in name)))
    with torch.no_grad():
        for part, letter in ((adapter.down, "A"), (adapter.up, "B")):
            for key, value in part.items():
                value.copy_(values[f"{PREFIX}{key.replace('/', '.')}.lora_{letter}.weight"])
    return adapter


def path(name: str) -> Path:
    """Returns the path of the checkpoint of the adapter `name`."""
    return configs.WORK / f"adapter_{name}.pt"


def load(name: str, model: Any) -> Adapter:
    """Returns the adapter `name` with the averaged weights of its checkpoint."""
    adapter = Adapter(model)
    adapter.load_state_dict(torch.load(path(name))["averaged"])
    return adapter


def write(folder: Path) -> None:
    """Writes all trained adapters as files into a folder."""
    model = transformer.start()["transformer"]
    folder.mkdir(parents=True, exist_ok=True)
    for name, share in SHARES.items():
        if path(name).exists():
            save_file(load(name, model).file(share), folder / f"{name}.safetensors", metadata={"format": "pt"})
            (folder / f"{name}.safetensors").chmod(0o644)


def train(name: str, plan: Plan, family: nn.ModuleDict, batch_of: Callable[[int], Batch], resume: bool) -> None:
    """Trains the adapter `name` of the frozen model `family`, on its device, to the end of its plan.

    batch_of: returns the batch of a step. resume: True continues from the adapter's checkpoint, if there is one.
    """
    family.requires_grad_(False).bfloat16()
    device = next(family.parameters()).device
    adapter = Adapter(family["transformer"]).to(device)
    trainer = Trainer(adapter, plan, lambda part, _: part.startswith("up"))
    forward = Forward(family["transformer"])
    frozen, total = forward.weights, 0.0
    if resume and path(name).exists():
        trainer.resume(path(name))
    for step in range(trainer.step_number, plan.steps):
        batch = batch_of(step).to(device)
        forward.weights = adapter.added(frozen)
        video, audio = transformer.errors(family, forward, batch)
        loss = transformer.weighted(video, batch.video) + transformer.AUDIO_SHARE * transformer.weighted(
            audio, batch.audio
        )
        trainer.step(loss)
        total = 0.95 * total + 0.05 * float(loss.detach()) if total else float(loss.detach())
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == plan.steps:
            trainer.save(path(name))
            ranks.log(configs.WORK / "adapters.log", f"{name} {step + 1} loss {total:.4f}")
