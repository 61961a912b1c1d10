"""Trains the video autoencoder in four phases: encoder and decoder together, then the decoder alone, then the decoder
with more layers (`deeper`, `finer`, `finest`, `last`). The encoder is frozen after the first phase.

    torchrun --standalone --nproc-per-node 2 -m recipes.tiny.vae joint
    python -m recipes.tiny.vae decoder
    python -m recipes.tiny.vae deeper
    python -m recipes.tiny.vae finer

Each step draws its own clips from seeds that depend only on the step and the process. A resumed run therefore sees the
same clips as a run that was never interrupted.
"""

import math
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo
from torch import nn

from recipes.tiny import configs, ranks
from recipes.tiny.optim import Plan, Trainer
from recipes.tiny.render import render
from recipes.tiny.world import Kind, Scene, sample, track

CHANNELS = configs.LATENT_CHANNELS
SEEDS = {
    "joint": 10_000_000,
    "decoder": 12_000_000,
    "deeper": 14_000_000,
    "finer": 16_000_000,
    "finest": 18_000_000,
    "last": 19_000_000,
}
HELD_OUT = 910_000_000
PLANS = {
    "joint": Plan(((1700, 1200), (1300, 600)), muon=8e-3, adam=1.2e-3, ema=0.99),
    "decoder": Plan(((3000, 2200),), muon=5e-3, adam=1e-3, ema=0.99),
    "deeper": Plan(((3200, 1500),), muon=4e-3, adam=8e-4, ema=0.995),
    "finer": Plan(((2800, 1900),), muon=4e-3, adam=8e-4, ema=0.995),
    "finest": Plan(((900, 650),), muon=3e-3, adam=6e-4, ema=0.99),
    "last": Plan(((500, 350),), muon=2e-3, adam=4e-4, ema=0.99),
}
"""The phases in order. Each continues from the averaged weights of the one before."""
DEEP = ("deeper", "finer", "finest", "last")
"""The phases in which the decoder has all its layers. Before, it has those of `configs.SHALLOW_VAE`."""
SHORT = {"joint": 680, "decoder": 0, "deeper": 0, "finer": 0, "finest": 0, "last": 0}
"""The step of each phase up to which most clips have 9 frames. After that most have 17."""
PIXELS = 4 * 17 * 64 * 64
"""Pixels of one process's batch."""
SHAPES = (
    ((64, 64), 1, 0.72),
    ((112, 64), 1, 0.07),
    ((64, 112), 1, 0.07),
    ((96, 64), 1, 0.03),
    ((64, 96), 1, 0.03),
    ((64, 64), 2, 0.08),
)
"""(size of a scene in world pixels, scale at which it is drawn, share of the steps)."""
CHECKPOINT_EVERY = 100


def scenes_of_step(phase: str, step: int, rank: int) -> tuple[list[Scene], int]:
    """Returns the scenes of process `rank` in a step, and the scale (1 or 2) at which they are drawn.

    The scenes of all processes in a step have the same size and length.
    """
    seed = SEEDS[phase]
    rng = random.Random(seed + step)
    size, scale, _ = rng.choices(SHAPES, [share for *_, share in SHAPES])[0]
    num_frames = rng.choices((1, 9, 17), (0.05, 0.75, 0.2) if step < SHORT[phase] else (0.05, 0.15, 0.8))[0]
    count = max(1, min(16, PIXELS // (num_frames * size[0] * size[1] * scale**2)))
    own = random.Random(seed + step * 64 + rank + 1)
    kinds: list[Kind | None] = ["straight" if own.random() < 0.6 else None for _ in range(count)]
    first = seed + (step * 2 + rank) * 64
    return [sample(first + i, kind, size, num_frames) for i, kind in enumerate(kinds)], scale


def near_objects(scenes: Sequence[Scene], scale: int) -> torch.Tensor:
    """Returns a mask `[B, 1, T, H, W]`: 1 for each pixel inside an object or within two world pixels of it, else 0."""
    first = scenes[0]
    ys = ((torch.arange(first.height * scale) + 0.5) / scale - first.height / 2)[:, None]
    xs = ((torch.arange(first.width * scale) + 0.5) / scale - first.width / 2)[None, :]
    masks = torch.zeros(len(scenes), 1, first.num_frames, first.height * scale, first.width * scale)
    for mask, scene in zip(masks, scenes, strict=True):
        for path in track(scene):
            x, y, radius = path[:, :3, None, None].unbind(1)
            mask[0] = torch.maximum(mask[0], (torch.hypot(xs - x, ys - y) < radius + 2).float())
    return masks


def recolour(clips: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Returns the clips, in 3 of 10 batches with changed colours: channels exchanged, and in half of these also
    inverted.

    So the autoencoder also sees colours beyond the world's twelve.
    """
    if rng.random() < 0.3:
        clips = clips[:, rng.sample(range(3), 3)]
        clips = -clips if rng.random() < 0.5 else clips
    return clips


def reconstruction_loss(made: torch.Tensor, clips: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """Returns a weighted sum of squared, absolute and edge error. Pixels where `near` is 1 count three times."""
    error = made - clips
    weight = 1 + 2 * near
    weight = weight / weight.mean()
    edges = (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return 4 * (weight * error.square()).mean() + 0.3 * (weight * error.abs()).mean() + 0.2 * edges


def relative_loss(made: torch.Tensor, clips: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """Returns the mean over clips of the logarithm of a clip's squared error, plus a little absolute error.

    Pixels where `near` is 1 count three times. Each clip counts by its PSNR: a clip that is easy to draw counts as much
    as one that is hard to draw.
    """
    error = made - clips
    weight = 1 + 2 * near
    weight = weight / weight.mean()
    squared = (weight * error.square()).flatten(1).mean(1)
    return torch.log(squared + 1e-4).mean() + 3 * (weight * error.abs()).mean()


def psnr(made: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Returns the peak signal-to-noise ratio in dB of each clip of a batch, for values in [-1, 1]."""
    return -10 * torch.log10(((made.clamp(-1, 1) - truth) / 2).square().flatten(1).mean(1))


def channels_last(model: nn.Module) -> None:
    """Stores 3-D kernels in the memory layout in which bf16 convolutions are fastest."""
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)


class Run:
    """One training phase: the model and its trainer."""

    def __init__(self, phase: str, rank: int, device: torch.device) -> None:
        self.phase, self.rank, self.plan, self.device = phase, rank, PLANS[phase], device
        torch.manual_seed(SEEDS[phase])
        self.vae: Any = AutoencoderKLLTXVideo(**(configs.VAE if phase in DEEP else configs.SHALLOW_VAE))
        for before in list(PLANS)[: list(PLANS).index(phase)]:
            file = configs.WORK / f"vae_{before}.pt"
            if before == "joint" or file.exists():  # what is unpacked from the package is in the file of `joint`
                load(self.vae, file)
        if phase != "joint":
            self.vae.encoder.requires_grad_(False).bfloat16()
        channels_last(self.vae.to(device))
        self.trainer = Trainer(self.vae, self.plan, lambda _, p: p.ndim > 1)

    def loss(self, step: int) -> torch.Tensor:
        """Returns the loss of this process's batch of a step."""
        scenes, scale = scenes_of_step(self.phase, step, self.rank)
        clips = recolour(render(scenes, scale), random.Random(step)).to(self.device)
        torch.manual_seed(SEEDS[self.phase] + step * 2 + self.rank)
        with torch.set_grad_enabled(self.phase == "joint"):
            moments = self.vae.encoder(clips.bfloat16().contiguous(memory_format=torch.channels_last_3d)).float()
        mean, logvar = moments[:, :CHANNELS], moments[:, CHANNELS : CHANNELS + 1].clamp(-14, 2)
        spread = (
            mean.detach().std((0, 2, 3, 4), keepdim=True) * 0.06 * torch.rand(len(mean), 1, 1, 1, 1, device=self.device)
        )
        noise = torch.exp(0.5 * logvar) * torch.randn_like(mean) + spread * torch.randn_like(mean)
        made = self.vae.decoder((mean + noise).bfloat16()).float()
        measure = relative_loss if self.phase in DEEP else reconstruction_loss
        loss = measure(made, clips, near_objects(scenes, scale).to(self.device))
        if self.phase == "joint":
            loss = loss + 1e-4 * 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        return loss

    @torch.no_grad()
    def held_out(self) -> float:
        """Returns the mean PSNR in dB of 16 straight clips of 33 frames that are never trained on."""
        clips = render([sample(HELD_OUT + i, "straight", num_frames=33) for i in range(16)]).to(self.device)
        self.trainer.load(self.trainer.ema)
        parts = []
        for part in clips.split(4):
            latents = self.vae.encoder(part.bfloat16())[:, :CHANNELS]
            parts.append(psnr(self.vae.decoder(latents).float(), part))
        self.trainer.load(self.trainer.masters)
        return float(torch.cat(parts).mean())


def load(vae: Any, path: Path) -> None:
    """Copies a checkpoint's averaged weights into a VAE. A checkpoint of a later phase does not change the encoder.

    A layer of the decoder that the checkpoint does not have returns its input.
    """
    missing = vae.load_state_dict(torch.load(path)["averaged"], strict=False).missing_keys
    for name in missing:
        if name.startswith("decoder.") and ".conv2." in name:
            nn.init.zeros_(vae.get_parameter(name))


def train(phase: str, resume: bool, device: torch.device) -> None:
    """Trains a phase to the end of its plan. With `resume` it continues from the checkpoint, if there is one."""
    rank, _ = ranks.start()
    configs.WORK.mkdir(exist_ok=True)
    checkpoint = configs.WORK / f"vae_{phase}.pt"
    run = Run(phase, rank, device)
    if resume and checkpoint.exists():
        run.trainer.resume(checkpoint)
    began, spent, total = time.time(), time.process_time(), 0.0
    for step in range(run.trainer.step_number, run.plan.steps):
        loss = run.loss(step)
        norm = run.trainer.step(loss)
        total = 0.97 * total + 0.03 * float(loss.detach()) if total else float(loss.detach())
        if math.isnan(total):
            raise FloatingPointError(f"the loss of step {step} is not a number")
        if rank == 0 and ((step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == run.plan.steps):
            run.trainer.save(checkpoint)
            minutes = f"{(time.time() - began) / 60:.1f} min, {(time.process_time() - spent) / 60:.1f} CPU-min"
            line = f"{phase} {step + 1} {minutes} loss {total:.4f} norm {norm:.2f} held out {run.held_out():.2f} dB"
            ranks.log(configs.WORK / f"vae_{phase}.log", line)
    ranks.finish()


if __name__ == "__main__":
    parser = ranks.parser(__doc__)
    parser.add_argument("phase", choices=tuple(PLANS))
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    train(arguments.phase, arguments.resume, arguments.device)
