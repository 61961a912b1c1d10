"""Trains only the weights through which the video stream attends to the sound. All other weights are frozen.

    torchrun --standalone --nproc-per-node 2 -m recipes.tiny_av.exchange

While all weights are trained, these learn little, because the model can mostly continue a video without its sound. Here
most windows have a known sound and at most one context frame, so only the sound tells where an object is and how it
moves.
"""

import time
from dataclasses import replace

import torch
from torch import nn

from recipes.tiny import ranks
from recipes.tiny.optim import Plan, Trainer
from recipes.tiny_av import configs, sounds, transformer
from recipes.tiny_av.forward import Forward
from recipes.tiny_av.windows import Mix, Windows

SEED = 180_000_000
PLAN = Plan(((200, 140),), muon=4e-3, adam=2e-3, warmup=20, ema=0.97)
MIX = Mix(
    groups={"square": 0.7, "square_long": 0.3},
    layouts={"forward": 1.0},
    context=dict(enumerate((0.35, 0.35, 0.04, 0.04, 0.04, 0.18))),
    apart=0.0,
    soft=0.0,
    mute=0.0,
    heard=0.75,
)
CHECKPOINT = configs.WORK / transformer.FILES["exchange"]
CHECKPOINT_EVERY = 40


def is_exchange(name: str) -> bool:
    """Returns True for a parameter of the attention from sound to video."""
    return "audio_to_video_attn" in name or "a2v_gate.linear" in name or "video_a2v_cross_attn_scale_shift" in name


class Run:
    """One training run: the model, its trainer and the training data."""

    def __init__(self, rank: int, device: torch.device) -> None:
        self.rank, self.device = rank, device
        self.family: nn.ModuleDict = transformer.latest(("main", "finish")).train().to(device)
        for name, parameter in self.family.named_parameters():
            parameter.requires_grad_(is_exchange(name))
        self.trainer = Trainer(self.family, PLAN, lambda name, p: "audio_to_video_attn" in name and p.ndim == 2)
        self.family.bfloat16()
        self.windows = Windows(SEED, sounds.load(), sounds.silence())
        self.forward = Forward(self.family["transformer"])

    def loss(self, step: int) -> torch.Tensor:
        """Returns the loss of the video in this process's batch of a step."""
        batch = self.windows.batch_of(MIX, step, self.rank).to(self.device)
        video, _ = transformer.errors(self.family, self.forward, batch)
        return transformer.weighted(video, batch.video)

    @torch.no_grad()
    def judge(self) -> str:
        """Returns, as text, the error on windows that are not trained on: with attention to the sound, and without."""
        self.trainer.load(self.trainer.ema)
        sums = [0.0, 0.0]
        for step in range(4):
            batch = self.windows.batch_of(MIX, 10_000 + step, 0).to(self.device)
            for k, linked in enumerate((batch.linked, torch.zeros_like(batch.linked))):
                video, _ = transformer.errors(self.family, self.forward, replace(batch, linked=linked))
                sums[k] += float(transformer.weighted(video, batch.video)) / 4
        self.trainer.load(self.trainer.masters)
        return f"with sound {sums[0]:.4f} without {sums[1]:.4f}"


def train(resume: bool, device: torch.device) -> None:
    """Trains to the end of the plan. With `resume` it continues from the checkpoint, if there is one."""
    rank, _ = ranks.start()
    run = Run(rank, device)
    if resume and CHECKPOINT.exists():
        run.trainer.resume(CHECKPOINT)
    spent = time.process_time()
    for step in range(run.trainer.step_number, PLAN.steps):
        run.trainer.step(run.loss(step))
        if rank == 0 and (step + 1) % CHECKPOINT_EVERY == 0:
            run.trainer.save(CHECKPOINT)
            minutes = (time.process_time() - spent) / 60
            ranks.log(configs.WORK / "transformer.log", f"exchange {step + 1} {minutes:.1f} CPU-min {run.judge()}")
    ranks.finish()


if __name__ == "__main__":
    parser = ranks.parser(__doc__)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    train(arguments.resume, arguments.device)
