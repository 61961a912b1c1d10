"""Trains the latent upsampler. From a scene's latents at 64 pixels it makes those of the same scene at 128 pixels.

python -m recipes.tiny.upsampler
"""

import time
from typing import Any

import torch
from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel

from recipes.tiny import configs, latents, ranks, vae
from recipes.tiny.optim import Plan, Trainer
from recipes.tiny.render import render
from recipes.tiny.world import sample

SEED = 70_000_000
HELD_OUT = 930_000_000
PLAN = Plan(((1200, 900),), muon=4e-3, adam=1e-3, ema=0.99)
PAIRS = 640
FRAMES = 17
BATCH = 8
CHECKPOINT_EVERY = 200


def pairs(model: Any, seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns latents of `count` scenes at both sizes, `[n, C, F, h, w]` and `[n, C, F, 2h, 2w]`, not normalised."""
    small, large = [], []
    for first in range(seed, seed + count, BATCH):
        scenes = [sample(first + i, num_frames=FRAMES) for i in range(BATCH)]
        small.append(latents.encode(model, render(scenes)))
        large.append(latents.encode(model, render(scenes, scale=2)))
    return torch.cat(small).float(), torch.cat(large).float()


class Run:
    """One training run: the model, its trainer and the training data."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        torch.manual_seed(SEED)
        encoder = latents.frozen_encoder(device)
        self.model: Any = LTXLatentUpsamplerModel(**configs.UPSAMPLER)
        vae.channels_last(self.model.to(device))
        self.trainer = Trainer(self.model, plan, lambda _, p: p.ndim > 1)
        _, std = torch.load(configs.WORK / "latents_statistics.pt")
        self.device, self.scale = device, std.view(1, -1, 1, 1, 1).to(device)
        self.small, self.large = pairs(encoder, SEED, PAIRS)
        self.held_out = pairs(encoder, HELD_OUT, 32)

    def error(self, small: torch.Tensor, large: torch.Tensor) -> torch.Tensor:
        """Returns the mean squared error of the upsampled `small` latents. Errors are divided by each channel's
        standard deviation.

        small, large: latents `[n, C, F, h, w]` and `[n, C, F, 2h, 2w]`, not normalised.
        """
        made: torch.Tensor = self.model(small.to(self.device, torch.bfloat16)).float()
        error: torch.Tensor = ((made - large.to(self.device)) / self.scale).square().mean()
        return error

    def loss(self, step: int) -> torch.Tensor:
        """Returns the loss of a step's batch.

        Half of the small latents, on average, get a little noise, because generated latents have such errors too.
        """
        dice = torch.Generator().manual_seed(SEED + step)
        members = torch.randint(PAIRS, (BATCH,), generator=dice)
        small = self.small[members]
        amount = (
            0.15 * torch.rand(BATCH, 1, 1, 1, 1, generator=dice) * (torch.rand(BATCH, 1, 1, 1, 1, generator=dice) < 0.5)
        )
        return self.error(
            small + amount * self.scale.cpu() * torch.randn(small.shape, generator=dice), self.large[members]
        )

    @torch.no_grad()
    def judge(self) -> float:
        """Returns the error of the averaged weights on scenes that are never trained on."""
        self.trainer.load(self.trainer.ema)
        error = float(self.error(*self.held_out))
        self.trainer.load(self.trainer.masters)
        return error


def train(resume: bool, device: torch.device) -> None:
    """Trains to the end of the plan. With `resume` it continues from the checkpoint, if there is one."""
    ranks.start()
    checkpoint = configs.WORK / "upsampler.pt"
    run = Run(PLAN, device)
    if resume and checkpoint.exists():
        run.trainer.resume(checkpoint)
    began = time.process_time()
    for step in range(run.trainer.step_number, PLAN.steps):
        loss = run.loss(step)
        run.trainer.step(loss)
        if (step + 1) % CHECKPOINT_EVERY == 0:
            run.trainer.save(checkpoint)
            minutes = (time.process_time() - began) / 60
            line = f"{step + 1} {minutes:.1f} CPU-min loss {float(loss.detach()):.4f} held out {run.judge():.4f}"
            ranks.log(configs.WORK / "upsampler.log", line)


if __name__ == "__main__":
    parser = ranks.parser(__doc__)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    train(arguments.resume, arguments.device)
