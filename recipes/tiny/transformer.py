"""Trains the video transformer and its text encoder by flow matching on windows of latents.

    torchrun --standalone --nproc-per-node 2 -m recipes.tiny.transformer main
    torchrun --standalone --nproc-per-node 2 -m recipes.tiny.transformer polish

The stages are `main`, `polish`, `lasting`, `walls`, `together`, `again`, `fresh`, `requests`, `bounces` and `deeper`.
Each continues from the averaged weights of the one before, with its own learning rates. In the last one the transformer
has two more layers. The last eight need no `torchrun`: they run in one process.
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import LTXVideoTransformer3DModel
from torch import nn

from recipes.tiny import configs, latents, ranks, text
from recipes.tiny.forward import Forward
from recipes.tiny.optim import Plan, Trainer
from recipes.tiny.render import render
from recipes.tiny.windows import Batch, Windows, coordinates, starts
from recipes.tiny.world import prompt, sample

SEED = 30_000_000
HELD_OUT = 920_000_000
PLANS = {
    "main": Plan(((4300, 2200),), muon=6e-3, adam=2e-3, warmup=60, weight_decay=0.02, ema=0.997),
    "polish": Plan(((600, 600),), muon=3e-3, adam=1e-3, warmup=20, weight_decay=0.02, ema=0.99),
    "lasting": Plan(((1750, 550),), muon=3e-3, adam=1e-3, warmup=40, weight_decay=0.02, ema=0.995),
    "walls": Plan(((6900, 3200),), muon=4e-3, adam=1.3e-3, warmup=40, weight_decay=0.02, ema=0.995),
    "together": Plan(((7700, 4400),), muon=4e-3, adam=1.3e-3, warmup=40, weight_decay=0.02, ema=0.995),
    "again": Plan(((7600, 4300),), muon=4e-3, adam=1.3e-3, warmup=40, weight_decay=0.02, ema=0.995),
    "fresh": Plan(((5000, 2900),), muon=3e-3, adam=1e-3, warmup=40, weight_decay=0.02, ema=0.995),
    "requests": Plan(((7400, 4200),), muon=3e-3, adam=1e-3, warmup=40, weight_decay=0.02, ema=0.995),
    "bounces": Plan(((6000, 3900),), muon=3e-3, adam=1e-3, warmup=40, weight_decay=0.02, ema=0.995),
    "deeper": Plan(((6300, 4400),), muon=3e-3, adam=1e-3, warmup=40, weight_decay=0.02, ema=0.995),
}
"""The stages in order. Each continues from the averaged weights of the one before."""
DEEP = ("deeper",)
"""The stages in which the transformer has all its layers. Before, it has those of `configs.SHALLOW_TRANSFORMER`."""
FILES = {stage: f"transformer_{stage}.pt" for stage in PLANS}
BLOCKS = "transformer.transformer_blocks."
CHECKPOINT_EVERY = 100


def models(config: Mapping[str, Any] = configs.TRANSFORMER) -> nn.ModuleDict:
    """Returns a new transformer and a new text encoder.

    The transformer's residual branches start with small weights, and its output layer with zeros.
    """
    torch.manual_seed(SEED)
    transformer: Any = LTXVideoTransformer3DModel(**config)
    with torch.no_grad():
        for block in transformer.transformer_blocks:
            for layer in residual_layers(block):
                layer.weight.mul_(0.3)
        transformer.time_embed.linear.weight.mul_(0.2)
        transformer.proj_out.weight.zero_()
        transformer.proj_out.bias.zero_()
    return nn.ModuleDict({"transformer": transformer, "text_encoder": text.text_encoder()})


def residual_layers(block: Any) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
    """Returns the last linear layers of a block's three branches, whose outputs are added to the block's input."""
    return block.attn1.to_out[0], block.attn2.to_out[0], block.ff.net[2]


def load(family: nn.ModuleDict, path: Path) -> None:
    """Copies a checkpoint's averaged weights into the models.

    A checkpoint of the shallow transformer becomes one of the deep transformer: its layers get the numbers in
    `configs.KEPT_LAYERS`, and the layers between them return their input.
    """
    state = torch.load(path)["averaged"]
    transformer: Any = family["transformer"]
    blocks = transformer.transformer_blocks
    saved = {int(name.split(".")[2]) for name in state if name.startswith(BLOCKS)}
    if len(saved) < len(blocks):
        state = {deep_name(name): value for name, value in state.items()}
        for number in set(range(len(blocks))) - set(configs.KEPT_LAYERS):
            for layer in residual_layers(blocks[number]):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
    family.load_state_dict(state, strict=False)


def deep_name(name: str) -> str:
    """Returns the name in the deep transformer of a weight of the shallow one."""
    if not name.startswith(BLOCKS):
        return name
    number, rest = name.removeprefix(BLOCKS).split(".", 1)
    return f"{BLOCKS}{configs.KEPT_LAYERS[int(number)]}.{rest}"


def is_matrix(name: str, parameter: torch.Tensor) -> bool:
    """Returns True for a weight that Muon trains: a matrix inside the transformer's blocks."""
    return "transformer_blocks" in name and parameter.ndim == 2 and "table" not in name


def velocity_error(family: nn.ModuleDict, forward: Forward, batch: Batch) -> torch.Tensor:
    """Returns the squared error of the velocity per token, `[B, F, S]`."""
    encoder: Any = family["text_encoder"]
    caption = encoder(batch.ids, attention_mask=batch.mask)[0]
    made = forward(batch.x.bfloat16(), batch.sigmas, caption, batch.mask, batch.coords)
    return (made.float() - batch.target).square().mean(-1)


class HeldOut:
    """Straight clips that are never trained on, with 17 context frames, at three noise levels."""

    def __init__(self, windows: Windows, count: int = 32) -> None:
        scenes = [sample(HELD_OUT + i, "straight", num_frames=33) for i in range(count)]
        values = latents.encode(latents.frozen_encoder(torch.device("cpu")), render(scenes))
        self.clean = (values.float().permute(0, 2, 3, 4, 1).flatten(2, 3) - windows.mean) / windows.std
        self.touched = latents.cell_masks(scenes, 1).flatten(2).float()
        self.ids, self.mask = text.tokens(windows.words, [prompt(scene) for scene in scenes])

    def batch(self, sigma: float) -> Batch:
        """Returns the clips with noise level `sigma` in the new frames. Only the object's cells there have a weight."""
        count = self.clean.shape[1]
        known = (torch.arange(count) < 5).expand(len(self.clean), -1)
        sigmas = torch.where(known, 0.0, sigma)
        noise = torch.randn(self.clean.shape, generator=torch.Generator().manual_seed(HELD_OUT))
        x = (1 - sigmas)[..., None, None] * self.clean + sigmas[..., None, None] * noise
        weight = self.touched * (~known)[..., None]
        coords = coordinates(starts(count), 4, 4, configs.FPS)
        return Batch(x, noise - self.clean, sigmas, weight, self.ids, self.mask, coords)


class Run:
    """One training stage: the models, the trainer and the training data."""

    def __init__(self, rank: int, stage: str, device: torch.device) -> None:
        self.rank, self.device = rank, device
        self.family = models(configs.TRANSFORMER if stage in DEEP else configs.SHALLOW_TRANSFORMER)
        before = list(PLANS)[: list(PLANS).index(stage)]
        self.first = sum(PLANS[name].steps for name in before)
        if before:
            load(self.family, configs.WORK / FILES[before[-1]])
        self.family.to(device)
        self.trainer = Trainer(self.family, PLANS[stage], is_matrix)
        self.windows = Windows(SEED)
        self.forward = Forward(self.family["transformer"])
        self.evaluation = Forward(self.family["transformer"], compiled=False)
        self.held_out = HeldOut(self.windows)

    def loss(self, step: int) -> torch.Tensor:
        """Returns the loss of this process's batch of a step."""
        batch = self.windows.batch(self.first + step, self.rank).to(self.device)
        error = velocity_error(self.family, self.forward, batch)
        return (error * batch.weight).sum() / batch.weight.sum()

    @torch.no_grad()
    def judge(self) -> str:
        """Returns, as text, the error of the averaged weights on the object's cells at noise 1, 0.91 and 0.42."""
        self.trainer.load(self.trainer.ema)
        shown = []
        for sigma in (1.0, 0.909375, 0.421875):
            batch = self.held_out.batch(sigma).to(self.device)
            error = velocity_error(self.family, self.evaluation, batch)
            shown.append(f"{float((error * batch.weight).sum() / batch.weight.sum()):.4f}")
        self.trainer.load(self.trainer.masters)
        return " ".join(shown)


def train(stage: str, resume: bool, device: torch.device) -> None:
    """Trains a stage to the end of its plan. With `resume` it continues from the checkpoint, if there is one.

    Raises FloatingPointError if the loss is not a number.
    """
    rank, _ = ranks.start()
    checkpoint, steps = configs.WORK / FILES[stage], PLANS[stage].steps
    run = Run(rank, stage, device)
    if resume and checkpoint.exists():
        run.trainer.resume(checkpoint)
    began, spent, total = time.time(), time.process_time(), 0.0
    for step in range(run.trainer.step_number, steps):
        loss = run.loss(step)
        norm = run.trainer.step(loss)
        total = 0.98 * total + 0.02 * float(loss.detach()) if total else float(loss.detach())
        if math.isnan(total):
            raise FloatingPointError(f"the loss of step {step} is not a number")
        if rank == 0 and ((step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps):
            run.trainer.save(checkpoint)
            minutes = f"{(time.time() - began) / 60:.1f} min, {(time.process_time() - spent) / 60:.1f} CPU-min"
            line = f"{stage} {step + 1} {minutes} loss {total:.4f} norm {norm:.2f} held out {run.judge()}"
            ranks.log(configs.WORK / "transformer.log", line)
    ranks.finish()


if __name__ == "__main__":
    parser = ranks.parser(__doc__)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("stage", choices=tuple(PLANS))
    arguments = parser.parse_args()
    train(arguments.stage, arguments.resume, arguments.device)
