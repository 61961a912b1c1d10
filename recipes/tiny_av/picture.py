"""Trains the video autoencoder. Its decoder is the LTX-Video model's, and its encoder learns to give that model's
latents.

    python -m recipes.tiny_av.picture

The decoders of LTX-2 and LTX-Video have the same layout, but the encoders have different widths. Because the new
encoder gives the old latents, the transformer, the upsampler and the decoder of the LTX-Video model work with it.
"""

import random
import time
from typing import Any

import torch
from diffusers import AutoencoderKLLTX2Video, AutoencoderKLLTXVideo

from recipes.tiny import ranks
from recipes.tiny import vae as first_vae
from recipes.tiny.optim import Plan, Trainer
from recipes.tiny.render import render
from recipes.tiny.world import Kind, Scene, sample
from recipes.tiny_av import configs

SEED = 110_000_000
PLAN = Plan(((1400, 1000),), muon=6e-3, adam=1.5e-3, ema=0.99)
CHECKPOINT = configs.WORK / "picture.pt"
CHECKPOINT_EVERY = 100
CHANNELS = configs.VAE["latent_channels"]


def teacher() -> Any:
    """Returns the autoencoder of the embedded LTX-Video model."""
    return AutoencoderKLLTXVideo.from_pretrained(configs.FIRST_WEIGHTS / "vae", torch_dtype=torch.float32).eval()


def _doubled(weight: torch.Tensor, inputs: bool, outputs: bool) -> torch.Tensor:
    """Returns a kernel for channels that occur twice, one copy after the other. Its results are the same as those of
    `weight`.

    inputs, outputs: True if the input channels, or the output channels, occur twice.
    """
    if inputs:
        weight = weight.repeat_interleave(2, dim=1) / 2
    return weight.repeat_interleave(2, dim=0) if outputs else weight


def start(old: Any) -> Any:
    """Returns a new autoencoder with the old one's decoder, statistics and all kernels of the encoder that fit.

    The first level of the new encoder is twice as wide. Each of its channels starts as a copy of an old one, so the
    norms give the same results as before.
    """
    torch.manual_seed(SEED)
    new: Any = AutoencoderKLLTX2Video(**configs.VAE)
    new.decoder.load_state_dict(old.decoder.state_dict())
    new.latents_mean.copy_(old.latents_mean)
    new.latents_std.copy_(old.latents_std)
    with torch.no_grad():
        for name, inputs in (
            ("conv_in", False),
            ("down_blocks.0.resnets.0.conv1", True),
            ("down_blocks.0.resnets.0.conv2", True),
        ):
            was, now = old.encoder.get_submodule(name).conv, new.encoder.get_submodule(name).conv
            now.weight.copy_(_doubled(was.weight, inputs, True))
            now.bias.copy_(was.bias.repeat_interleave(2))
        was, now = (v.encoder.down_blocks[0].downsamplers[0].conv.conv for v in (old, new))
        now.weight.copy_(_doubled(was.weight, True, False))
        now.bias.copy_(was.bias)
        for was, now in zip(old.encoder.down_blocks[1].resnets, new.encoder.down_blocks[1].resnets, strict=True):
            now.load_state_dict(was.state_dict())
    return new


def load(checkpoint: Any = CHECKPOINT) -> Any:
    """Returns the autoencoder with the averaged weights of a checkpoint."""
    new = start(teacher())
    new.load_state_dict(torch.load(checkpoint)["averaged"], strict=False)
    return new.eval()


def scenes_of_step(step: int) -> tuple[list[Scene], int]:
    """Returns the scenes of a step, all of one size and length, and the scale (1 or 2) at which they are drawn."""
    rng = random.Random(SEED + step)
    size, scale, _ = rng.choices(first_vae.SHAPES, [share for *_, share in first_vae.SHAPES])[0]
    num_frames = rng.choices((1, 9, 17), (0.06, 0.44, 0.5))[0]
    count = max(1, min(16, 2 * first_vae.PIXELS // (num_frames * size[0] * size[1] * scale**2)))
    kinds: list[Kind | None] = ["straight" if rng.random() < 0.4 else None for _ in range(count)]
    return [sample(SEED + step * 64 + i, kind, size, num_frames) for i, kind in enumerate(kinds)], scale


class Run:
    """One training run: both encoders and the trainer."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.old = device, teacher()
        self.new = start(self.old).to(device)
        self.new.decoder.requires_grad_(False)
        self.std: torch.Tensor = self.old.latents_std.view(1, -1, 1, 1, 1).to(device)
        self.old.to(device).bfloat16()
        for model in (self.old, self.new):
            first_vae.channels_last(model)
        self.trainer = Trainer(self.new, PLAN, lambda _, p: p.ndim > 1)
        self.new.decoder.bfloat16()
        self.held_out = render([sample(first_vae.HELD_OUT + i, "straight", num_frames=33) for i in range(16)]).to(
            device
        )

    def error(self, clips: torch.Tensor) -> torch.Tensor:
        """Returns the mean squared difference of the two encoders' latents, divided by each channel's standard
        deviation."""
        clips = clips.to(self.device, torch.bfloat16, memory_format=torch.channels_last_3d)
        with torch.no_grad():
            target: torch.Tensor = self.old.encoder(clips)[:, :CHANNELS].float()
        made: torch.Tensor = self.new.encoder(clips)[:, :CHANNELS].float()
        return ((made - target) / self.std).square().mean()

    def loss(self, step: int) -> torch.Tensor:
        """Returns the loss of a step's clips."""
        scenes, scale = scenes_of_step(step)
        return self.error(first_vae.recolour(render(scenes, scale), random.Random(step)))

    @torch.no_grad()
    def judge(self) -> str:
        """Returns figures on clips that are never trained on, as text.

        They are the difference of the two encoders, and the PSNR after encoding and decoding with each of them.
        """
        self.trainer.load(self.trainer.ema)
        errors, trips = [], []
        for clips in self.held_out.split(4):
            errors.append(self.error(clips))
            for model in (self.new, self.old):
                latents = model.encoder(clips.bfloat16())[:, :CHANNELS]
                trips.append(first_vae.psnr(self.new.decoder(latents).float(), clips).mean())
        self.trainer.load(self.trainer.masters)
        new, old = torch.stack(trips).view(-1, 2).mean(0).tolist()
        return f"difference {float(torch.stack(errors).mean()):.4f} round trip {new:.2f} dB, was {old:.2f} dB"


def train(resume: bool, device: torch.device) -> None:
    """Trains to the end of the plan. With `resume` it continues from the checkpoint, if there is one."""
    ranks.start()
    configs.WORK.mkdir(exist_ok=True)
    run = Run(device)
    if resume and CHECKPOINT.exists():
        run.trainer.resume(CHECKPOINT)
    spent, total = time.process_time(), 0.0
    for step in range(run.trainer.step_number, PLAN.steps):
        loss = run.loss(step)
        run.trainer.step(loss)
        total = 0.97 * total + 0.03 * float(loss.detach()) if total else float(loss.detach())
        if (step + 1) % CHECKPOINT_EVERY == 0:
            run.trainer.save(CHECKPOINT)
            minutes = (time.process_time() - spent) / 60
            ranks.log(configs.WORK / "picture.log", f"{step + 1} {minutes:.1f} CPU-min loss {total:.4f} {run.judge()}")


if __name__ == "__main__":
    parser = ranks.parser(__doc__)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    train(arguments.resume, arguments.device)
