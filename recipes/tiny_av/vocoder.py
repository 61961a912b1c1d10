"""Trains the first stage of the vocoder, which reads pitch, loudness and brightness from a log-mel spectrogram.

    python -m recipes.tiny_av.vocoder main
    python -m recipes.tiny_av.vocoder polish

The phase `polish` has more voices over noise. It counts a brightness that is read too high four times: over noise the
vocoder otherwise reads a pure tone as a bright one, and adds an overtone that was not there.

The rest of the vocoder has weights that are set by hand (see `wiring`) and makes the sound from these readings. The
training data are spectrograms of sounds whose correct readings are known, some of them after the audio autoencoder. The
loss is the error of the readings.
"""

import math
import random
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.pipelines.ltx2.vocoder import LTX2VocoderWithBWE
from torch import Tensor

from longtake.families.ltx2.mel import log_mel
from recipes.tiny import ranks
from recipes.tiny.optim import Muon, Plan, write
from recipes.tiny_av import audio_vae
from recipes.tiny_av.configs import WORK
from recipes.tiny_av.sound import play
from recipes.tiny_av.sound_clips import free_score, world_score
from recipes.tiny_av.sound_configs import SOUND_RATE, VOCODER
from recipes.tiny_av.wiring import CENTRE, HERTZ, READ, SLOPE, Wiring, mel_front, targets

SEEDS = {"main": 24_000_000, "polish": 28_000_000}
HELD_OUT = 924_000_000
PLANS = {
    "main": Plan(((9700, 4500),), muon=4e-3, adam=1e-3, ema=0.99),
    "polish": Plan(((3000, 2700),), muon=1e-3, adam=3e-4, ema=0.99),
}
WINDY = {"main": 0, "polish": 2}
"""Of how many clips one is a scene over clouds, which sound like wind. 0: as many as the toy world has."""
MIDDLE, SPREAD, APART = -6.0, 3.0, 0.3
"""The mean and the standard deviation of a log-mel spectrogram, and the standard deviation of the difference between
its left and right channel.

Training reads the mean and the difference of both channels, each scaled to a standard deviation of 1. Otherwise it does
not learn to tell left from right. `folded` moves the scaling into the weights afterwards.
"""
POOL, CODED = 500, 260
"""The number of clips from which training batches are drawn, and how many of them are also used after the
autoencoder."""
RENEWED = 1500
"""The number of steps after which new clips are made."""
CLIP_S = 2.0
FRAMES = 201
BATCH = 16
CHECKPOINT_EVERY = 100
TRIM = 0.89
"""Factor on the voices' loudness. Without it `sound_report` measures voices that are a decibel too loud."""


def new() -> Any:
    """Returns the vocoder with the weights that are set by hand. The weights that read the spectrogram are
    untrained."""
    model = LTX2VocoderWithBWE(**VOCODER)
    Wiring(model)
    mel_front(model)
    return model


def load(work: Path = WORK) -> Any:
    """Returns the vocoder with the averaged weights of its checkpoint in the folder `work`, in float32."""
    model = new()
    path = next(path for phase in ("polish", "main") if (path := checkpoint(phase, work)).exists())
    model.load_state_dict(folded(torch.load(path)["averaged"]), strict=False)
    Wiring(model)
    model.vocoder.resnets[1].convs1[1].weight.data[:, :8] *= TRIM
    return model.eval().requires_grad_(False)


def checkpoint(phase: str, work: Path = WORK) -> Path:
    """Returns the file with the weights of a phase."""
    return work / f"vocoder_{phase}.pt"


def folded(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turns weights that were trained on a centred spectrogram into weights for the spectrogram itself."""
    mean, difference = weights["vocoder.conv_in.weight"].chunk(2, 1)
    mean, difference = mean / SPREAD, difference / APART
    bias = weights["vocoder.conv_in.bias"] - MIDDLE * mean.sum((1, 2))
    kernel = torch.cat([mean / 2 + difference, mean / 2 - difference], 1)
    return weights | {"vocoder.conv_in.weight": kernel, "vocoder.conv_in.bias": bias}


def unfolded(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turns weights for a spectrogram into the weights that are trained, on a centred one: the inverse of `folded`."""
    left, right = weights["vocoder.conv_in.weight"].chunk(2, 1)
    mean, difference = left + right, (left - right) / 2
    bias = weights["vocoder.conv_in.bias"] + MIDDLE * mean.sum((1, 2))
    kernel = torch.cat([mean * SPREAD, difference * APART], 1)
    return weights | {"vocoder.conv_in.weight": kernel, "vocoder.conv_in.bias": bias}


def read_centred(model: Any, mel: Tensor) -> Tensor:
    """Reads log-mel spectrograms `[B, 2, frames, 64]`. Returns 12 readings (pitch, loudness, brightness) per frame,
    `[B, 12, frames]`.

    The model's weights are those that are trained, before `folded`. The padding around a spectrogram is 0, as it is
    after `folded`.
    """
    left, right = F.pad(mel.transpose(2, 3), (3, 3)).unbind(1)
    centred = torch.cat([((left + right) / 2 - MIDDLE) / SPREAD, (left - right) / APART], 1)
    hidden = F.conv1d(centred, model.vocoder.conv_in.weight, model.vocoder.conv_in.bias)
    made: Tensor = model.vocoder.resnets[0](model.vocoder.upsamplers[0](hidden))
    return made[:, list(READ)]


@torch.no_grad()
def examples(first: int, count: int, coded: int, windy: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Returns training data from `count` clips with seeds from `first` on. One of `windy` scenes is over clouds.

    Returns three tensors: the spectrograms `[count, 2, 201, 64]` of all clips, the spectrograms of the first `coded`
    clips after the autoencoder, and the correct readings `[count, 12, 201]` of all clips.
    """
    vae = audio_vae.load()
    mels: list[Tensor] = []
    again: list[Tensor] = []
    readings: list[Tensor] = []
    for seed in range(first, first + count):
        texture: str | None = "clouds" if windy and seed % windy == 0 else None
        world = seed % 5 < 3
        score = world_score(seed, CLIP_S + 0.05, texture) if world else free_score(seed, CLIP_S + 0.05)
        mels.append(log_mel(play(score, round(CLIP_S * SOUND_RATE), seed=seed)))
        readings.append(targets(score, FRAMES))
        if len(again) < coded:
            again.append(audio_vae.spectrogram_of(audio_vae.tokens_of_mel(mels[-1], vae), vae))
    return torch.stack(mels), torch.stack(again), torch.stack(readings)


def errors(made: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Returns the mean errors of readings (pitch, loudness, brightness) `[B, 12, frames]`, by kind.

    An error of p per cent in pitch counts as log(1 + 5 p). Errors of loudness, noise and hum are logarithms of ratios.
    Errors of brightness and of the balance of left and right are differences. Errors of overtones are logarithms of
    ratios of brightness, and count four times where it is too high.
    """
    pitch = torch.zeros(())
    for voice in (0, 1):
        loud = truth[:, 2 + 2 * voice : 4 + 2 * voice].amax(1)
        hertz = 100 * CENTRE[voice] + truth[:, voice] * HERTZ * SLOPE[voice]
        off = (made[:, voice] - truth[:, voice]) * HERTZ * SLOPE[voice] / hertz / 0.01
        weight = (loud / 0.02).clamp(max=1)
        pitch = pitch + (weight * torch.log1p(5 * off.abs())).mean()
    present = (torch.stack([truth[:, 2:4].amax(1), truth[:, 4:6].amax(1)], 1) / 0.05).clamp(max=1)

    sides = [torch.asinh(values[:, 2:6] / 0.02).unflatten(1, (2, 2)).diff(dim=2)[:, :, 0] for values in (made, truth)]

    shine = torch.asinh(made[:, 6:8] / 0.03) - torch.asinh(truth[:, 6:8] / 0.03)

    def ratio(part: slice, floor: float) -> Tensor:
        off = torch.asinh(made[:, part] / floor) - torch.asinh(truth[:, part] / floor)
        return off.abs().mean() + 0.5 * off.diff(dim=-1).abs().mean()

    return {
        "pitch": pitch,
        "level": 1.5 * ratio(slice(2, 4), 0.02) + 0.5 * ratio(slice(4, 6), 0.02),
        "pan": (present * (sides[0] - sides[1]).abs()).mean(),
        "shine": (present * (made[:, 6:8] - truth[:, 6:8]).abs()).mean(),
        "overtones": (present * torch.where(shine > 0, 4 * shine, -shine)).mean(),
        "noise": ratio(slice(8, 11), 0.006),
        "hum": ratio(slice(11, 12), 0.004),
    }


MAIN_WEIGHTS = {"pitch": 0.3, "level": 1.0, "pan": 2.0, "shine": 3.0, "noise": 0.5, "hum": 0.2}
WEIGHTS = {"main": MAIN_WEIGHTS, "polish": MAIN_WEIGHTS | {"overtones": 1.5}}


class Run:
    """One training run: the model and its trainer state. They are in float32, because the phases need its precision."""

    def __init__(self, phase: str, device: torch.device) -> None:
        torch.manual_seed(SEEDS[phase])
        self.phase, self.plan, self.device, self.model = phase, PLANS[phase], device, new()
        if phase == "polish":
            self.model.load_state_dict(torch.load(checkpoint("main"))["averaged"], strict=False)
        self.wiring = Wiring(self.model)
        self.wiring.to(device)
        prefixes = ("conv_in", "upsamplers.0", "resnets.0")
        self.named = {n: p for n, p in self.model.named_parameters() if n.removeprefix("vocoder.").startswith(prefixes)}
        for name, p in self.model.named_parameters():
            p.requires_grad_(name in self.named)
        others = [p for n, p in self.named.items() if p.ndim == 1 or "conv_in" in n]
        matrices = [p for n, p in self.named.items() if p.ndim > 1 and "conv_in" not in n]
        self.optimisers: list[torch.optim.Optimizer] = [
            Muon(matrices, lr=self.plan.muon, weight_decay=0.0),
            torch.optim.AdamW(others, lr=self.plan.adam, betas=(0.9, 0.98), weight_decay=0.0, foreach=True),
        ]
        self.average = {n: p.detach().clone() for n, p in self.named.items()}
        self.step_number = 0
        self.pool: tuple[int, tuple[Tensor, Tensor, Tensor]] = (-1, examples(SEEDS[phase], 1, 1))
        self.held_out = [part.to(device) for part in examples(HELD_OUT, 30, 30)]

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Returns the spectrograms of a step, and the pitch, loudness and brightness (readings) that should be read
        from them.

        Half of the spectrograms went through the autoencoder. About half have left and right exchanged.
        """
        first = SEEDS[self.phase]
        rng = random.Random(first + step)
        torch.manual_seed(first + step)
        turn = step // RENEWED
        if self.pool[0] != turn:
            self.pool = (turn, examples(first + turn * POOL, POOL, CODED, WINDY[self.phase]))
        *sources, readings = self.pool[1]
        rows = [rng.randrange(len(sources[i % 2])) for i in range(BATCH)]
        mel = torch.stack([sources[i % 2][row] for i, row in enumerate(rows)])
        truth = readings[rows].clone()
        for i in range(BATCH):
            if rng.random() < 0.5:
                mel[i] = mel[i].flip(0)
                truth[i, 2:6] = truth[i, [3, 2, 5, 4]]
        return mel + 0.03 * torch.randn_like(mel) * rng.random(), truth

    def step(self) -> float:
        """Runs one update and returns the loss."""
        mel, truth = (part.to(self.device) for part in self.batch(self.step_number))
        parts = errors(read_centred(self.model, mel), truth)
        loss = sum((weight * parts[k] for k, weight in WEIGHTS[self.phase].items()), torch.zeros(()))
        self.model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for name, p in self.named.items():
                if name in self.wiring.fixed and p.grad is not None:
                    p.grad.masked_fill_(self.wiring.fixed[name][0], 0)
        torch.nn.utils.clip_grad_norm_(self.named.values(), self.plan.clip)
        factor = self.plan.rate(self.step_number)
        for optimiser, rate in zip(self.optimisers, (self.plan.muon, self.plan.adam), strict=True):
            optimiser.param_groups[0]["lr"] = rate * factor
            optimiser.step()
        self.wiring.apply()
        self.step_number += 1
        decay = min(self.plan.ema, self.step_number / (self.step_number + 9))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.named.values()), 1 - decay)
        return float(loss.detach())

    @torch.no_grad()
    def figures(self) -> str:
        """Returns, as text, the errors of the averaged weights on sounds that are never trained on.

        The errors are measured on the sounds' spectrograms as they are, and on the spectrograms after the autoencoder.
        """
        masters = {n: p.clone() for n, p in self.named.items()}
        for n, p in self.named.items():
            p.copy_(self.average[n])
        self.wiring.apply()
        lines = []
        for mel in self.held_out[:2]:
            parts = errors(read_centred(self.model, mel), self.held_out[2])
            lines.append(" ".join(f"{k} {float(v):.3f}" for k, v in parts.items()))
        for n, p in self.named.items():
            p.copy_(masters[n])
        return " | ".join(lines)

    def save(self, path: Path) -> None:
        """Writes a checkpoint."""
        state: dict[str, Any] = {
            "step": self.step_number,
            "model": {n: p.detach() for n, p in self.named.items()},
            "averaged": self.average,
            "optimisers": [o.state_dict() for o in self.optimisers],
        }
        write(state, path)

    def resume(self, path: Path) -> None:
        """Sets weights, optimiser and step number to those of a checkpoint that `save` wrote."""
        state = torch.load(path)
        self.step_number = state["step"]
        with torch.no_grad():
            for n, p in self.named.items():
                p.copy_(state["model"][n])
                self.average[n].copy_(state["averaged"][n])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)


def train(phase: str, resume: bool, device: torch.device) -> None:
    """Trains to the end of the plan. With `resume` it continues from the checkpoint, if there is one."""
    torch.set_num_threads(1)
    began, spent, total = time.time(), time.process_time(), 0.0
    run = Run(phase, device)
    path = checkpoint(phase)
    if resume and path.exists():
        run.resume(path)
    while run.step_number < run.plan.steps:
        loss = run.step()
        total = 0.98 * total + 0.02 * loss if total else loss
        if math.isnan(total):
            raise FloatingPointError(f"the loss of step {run.step_number} is not a number")
        if run.step_number % CHECKPOINT_EVERY == 0 or run.step_number == run.plan.steps:
            run.save(path)
            minutes = f"{(time.time() - began) / 60:.1f} min, {(time.process_time() - spent) / 60:.1f} CPU-min"
            ranks.log(
                WORK / "vocoder.log", f"{phase} {run.step_number} {minutes} loss {total:.4f} held out {run.figures()}"
            )


if __name__ == "__main__":
    parser = ranks.parser(__doc__)
    parser.add_argument("phase", choices=tuple(PLANS))
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    train(arguments.phase, arguments.resume, arguments.device)
