"""Trains the audio autoencoder in two phases: both halves together, then the decoder alone while the encoder is frozen.

    python -m recipes.tiny_av.audio_vae joint
    python -m recipes.tiny_av.audio_vae decoder

The training data are log-mel spectrograms of the toy world's sounds and of other sounds. The latents' statistics are
measured after the first phase. From then on the encoder must not change, because the transformer learns its latents.
"""

import math
import random
import time
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTX2Audio
from torch import Tensor

from longtake.families.ltx2.mel import log_mel
from recipes.tiny import ranks
from recipes.tiny.optim import Plan, Trainer
from recipes.tiny.world import Scene
from recipes.tiny_av import sound_clips
from recipes.tiny_av.configs import WORK
from recipes.tiny_av.sound import sound
from recipes.tiny_av.sound_configs import AUDIO_CHANNELS, AUDIO_RATE, AUDIO_VAE

SEEDS = {"joint": 20_000_000, "decoder": 22_000_000}
HELD_OUT = 920_000_000
PLANS = {
    "joint": Plan(((900, 600),), muon=8e-3, adam=1.5e-3, ema=0.99),
    "decoder": Plan(((800, 600),), muon=4e-3, adam=1e-3, ema=0.99),
}
POOL = 500
"""The number of clips from which the training crops of a phase are cut."""
CLIP_S = 4.0
BATCH = 8
FRAMES = 81
"""The number of spectrogram frames of a crop, which make 21 latents."""
CHECKPOINT_EVERY = 100
MIDDLE = -7.0
"""Initial output of the decoder, which is about the mean of a log-mel spectrogram."""


def spectrograms(first: int, count: int) -> Tensor:
    """Returns log-mel spectrograms `[count, 2, frames, 64]` of the clips with `count` seeds from `first` on."""
    return torch.stack([log_mel(sound_clips.clip(first + i, CLIP_S)) for i in range(count)])


def crops(pool: Tensor, step: int) -> Tensor:
    """Returns the batch of a step, `[BATCH, 2, FRAMES, 64]`. Half of the crops start where their clip starts."""
    rng = random.Random(step)
    parts = []
    for _ in range(BATCH):
        start = 0 if rng.random() < 0.2 else rng.randrange(pool.shape[2] - FRAMES + 1)
        part = pool[rng.randrange(len(pool)), :, start : start + FRAMES]
        parts.append(part.flip(0) if rng.random() < 0.5 else part)
    return torch.stack(parts)


def loss_of(made: Tensor, mel: Tensor) -> Tensor:
    """Returns the error of spectrograms `made`, compared with `mel`, and of their slopes along time and frequency. Loud
    parts have more weight."""
    error = made - mel
    weight = 0.5 + 1.5 * torch.sigmoid(mel + 3.5)
    slopes = error.diff(dim=-1).abs().mean() + 0.5 * error.diff(dim=-2).abs().mean()
    return (weight * (error.abs() + 0.15 * error.square())).mean() + 0.2 * slopes


def put(vae: Any, path: Path) -> None:
    """Copies a checkpoint's averaged weights into the autoencoder. A checkpoint of the decoder phase does not change
    the encoder."""
    vae.load_state_dict(torch.load(path)["averaged"], strict=False)


def new() -> Any:
    """Returns the untrained autoencoder."""
    return AutoencoderKLLTX2Audio(**AUDIO_VAE)


def load(work: Path = WORK) -> Any:
    """Returns the autoencoder with the weights of its latest checkpoints, in float32, with its latents' statistics."""
    vae = new()
    put(vae, work / "audio_vae_joint.pt")
    if (work / "audio_vae_decoder.pt").exists():
        put(vae, work / "audio_vae_decoder.pt")
    mean, std = torch.load(work / "audio_vae.pt")
    vae.latents_mean.copy_(mean)
    vae.latents_std.copy_(std)
    return vae.eval().requires_grad_(False)


@cache
def _encoder() -> Any:
    return load()


@torch.no_grad()
def latents_of(scene: Scene, num_frames: int, rate: Fraction | float) -> Tensor:
    """Returns the normalised audio tokens `[T, 32]` of a scene's first `num_frames` frames at `rate` frames per second.

    T is num_frames / rate * 25, rounded.
    """
    count = round(float(num_frames / rate) * AUDIO_RATE)
    wave = sound(scene, num_frames, rate)
    return tokens_of(wave, _encoder())[:count]


def tokens_of(wave: Tensor, vae: Any) -> Tensor:
    """Returns normalised audio tokens `[T, 32]` of a sound `[2, n]` at 16 kHz."""
    return tokens_of_mel(log_mel(wave), vae)


@torch.no_grad()
def tokens_of_mel(mel: Tensor, vae: Any) -> Tensor:
    """Returns normalised audio tokens `[T, 32]` of a log-mel spectrogram `[2, frames, 64]`."""
    latent: Tensor = vae.encode(mel[None]).latent_dist.mode()
    tokens: Tensor = (latent.transpose(1, 2).flatten(2)[0] - vae.latents_mean) / vae.latents_std
    return tokens


@torch.no_grad()
def spectrogram_of(tokens: Tensor, vae: Any) -> Tensor:
    """Returns the log-mel spectrogram `[2, 4T - 3, 64]` of normalised tokens `[T, 32]`."""
    latent = (tokens * vae.latents_std + vae.latents_mean).unflatten(1, (AUDIO_CHANNELS, -1)).transpose(0, 1)
    made: Tensor = vae.decode(latent[None]).sample[0]
    return made


@torch.no_grad()
def statistics(vae: Any, pool: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean and the standard deviation of each of the 32 numbers of a token, `[32]` each.

    pool: the log-mel spectrograms that are encoded for it.
    """
    latents = torch.cat([vae.encode(part).latent_dist.mode() for part in pool.split(10)])
    tokens = latents.transpose(1, 2).flatten(2).flatten(0, 1)
    return tokens.mean(0), tokens.std(0).clamp(min=1e-3)


class Run:
    """One training phase: the model, its trainer and the training data."""

    def __init__(self, phase: str, device: torch.device) -> None:
        self.phase, self.plan, self.device = phase, PLANS[phase], device
        torch.manual_seed(SEEDS[phase])
        self.vae: Any = new()
        torch.nn.init.constant_(self.vae.decoder.conv_out.conv.bias, MIDDLE)
        if phase == "decoder":
            put(self.vae, WORK / "audio_vae_joint.pt")
            self.vae.encoder.requires_grad_(False).bfloat16()
        self.vae.to(device)
        self.trainer = Trainer(self.vae, self.plan, lambda _, p: p.ndim > 1)
        self.pool = spectrograms(SEEDS[phase], POOL).to(device)
        self.held_out = spectrograms(HELD_OUT, 24).to(device)

    def loss(self, step: int) -> Tensor:
        """Returns the loss of a step's batch. The latents carry noise, so the decoder learns to correct them."""
        mel = crops(self.pool, SEEDS[self.phase] + step)
        torch.manual_seed(SEEDS[self.phase] + step)
        with torch.set_grad_enabled(self.phase == "joint"):
            moments = self.vae.encoder(mel.bfloat16()).float()
        mean, logvar = moments[:, :AUDIO_CHANNELS], moments[:, AUDIO_CHANNELS:].clamp(-14, 2)
        spread = mean.detach().std((0, 2), keepdim=True) * 0.08 * torch.rand(len(mean), 1, 1, 1, device=self.device)
        noise = torch.exp(0.5 * logvar) * torch.randn_like(mean) + spread * torch.randn_like(mean)
        loss = loss_of(self.vae.decoder((mean + noise).bfloat16()).float(), mel)
        if self.phase == "joint":
            loss = loss + 1e-3 * 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        return loss

    @torch.no_grad()
    def error(self) -> float:
        """Returns the mean absolute error of spectrograms that are never trained on, with the averaged weights."""
        self.trainer.load(self.trainer.ema)
        made = [self.vae.decoder(self.vae.encoder(m.bfloat16())[:, :AUDIO_CHANNELS]) for m in self.held_out.split(4)]
        self.trainer.load(self.trainer.masters)
        return float((torch.cat(made).float() - self.held_out).abs().mean())


def train(phase: str, resume: bool, device: torch.device) -> None:
    """Trains a phase to the end of its plan. With `resume` it continues from the checkpoint, if there is one."""
    torch.set_num_threads(1)
    WORK.mkdir(exist_ok=True)
    checkpoint = WORK / f"audio_vae_{phase}.pt"
    began, spent, total = time.time(), time.process_time(), 0.0
    run = Run(phase, device)
    if resume and checkpoint.exists():
        run.trainer.resume(checkpoint)
    for step in range(run.trainer.step_number, run.plan.steps):
        loss = run.loss(step)
        norm = run.trainer.step(loss)
        total = 0.97 * total + 0.03 * float(loss.detach()) if total else float(loss.detach())
        if math.isnan(total):
            raise FloatingPointError(f"the loss of step {step} is not a number")
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == run.plan.steps:
            run.trainer.save(checkpoint)
            minutes = f"{(time.time() - began) / 60:.1f} min, {(time.process_time() - spent) / 60:.1f} CPU-min"
            line = f"{phase} {step + 1} {minutes} loss {total:.4f} norm {norm:.2f} held out {run.error():.3f}"
            ranks.log(WORK / f"audio_vae_{phase}.log", line)
    if phase == "joint":
        run.trainer.load(run.trainer.ema)
        torch.save(statistics(run.vae.cpu().float(), run.pool[:200].cpu()), WORK / "audio_vae.pt")


if __name__ == "__main__":
    parser = ranks.parser(__doc__)
    parser.add_argument("phase", choices=tuple(PLANS))
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    train(arguments.phase, arguments.resume, arguments.device)
