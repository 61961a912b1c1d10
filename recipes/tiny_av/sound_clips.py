"""Training sounds, each made from a seed: sounds of the toy world, free melodies of its voices, and unrelated
sounds."""

import math
import random
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from recipes.tiny.world import Kind, sample
from recipes.tiny_av.sound import STEP, Score, play, score
from recipes.tiny_av.sound_configs import SOUND_RATE

SPANS = ((130.0, 1000.0), (1000.0, 3600.0))
"""The lowest and the highest pitch in Hz of each of the two voices of free melodies."""
RATES = (8.0, 12.0, 16.0, 24.0, 24.0, 25.0, 30.0)


def world_score(seed: int, seconds: float, texture: str | None = None) -> Score:
    """Returns the score (curves of pitch and loudness) of a random scene of the toy world, over a background of
    `texture` if it is given."""
    rng = random.Random(seed)
    rate = rng.choice(RATES)
    kinds: tuple[Kind | None, ...] = (None, "bounce", "pair")
    kind = rng.choices(kinds, (0.6, 0.25, 0.15))[0]
    scene = sample(seed, kind, num_frames=max(9, round(seconds * rate)))
    return score(replace(scene, texture=texture or scene.texture), seconds, rate)


def _glide(rng: random.Random, count: int, low: float, high: float, still: float) -> Tensor:
    """Returns a smooth random curve `[count]` between `low` and `high`; with probability `still` it is constant."""
    if rng.random() < still:
        return torch.full((count,), rng.uniform(low, high))
    knots = max(2, round(count * STEP * rng.choice((0.5, 1.0, 3.0))) + 1)
    points = torch.tensor([rng.uniform(low, high) for _ in range(knots + 1)])
    curve = F.interpolate(points[None, None], size=count, mode="linear", align_corners=True)
    soft = F.avg_pool1d(F.pad(curve, (20, 20), mode="replicate"), 41, 1)
    return soft[0, 0]


def _rests(rng: random.Random, count: int, share: float) -> Tensor:
    """Returns a curve `[count]` that is 0 during up to four rests and 1 otherwise.

    Each change takes a few hundredths of a second. `share` is the probability that there are rests at all.
    """
    if rng.random() > share:
        return torch.ones(count)
    gate = torch.ones(count)
    for _ in range(rng.randint(1, 4)):
        start, long = rng.randrange(count), rng.randint(10, max(11, count // 2))
        gate[start : start + long] = 0
    return F.avg_pool1d(F.pad(gate[None, None], (3, 3), mode="replicate"), 7, 1)[0, 0]


def free_score(seed: int, seconds: float) -> Score:
    """Returns a score (curves of pitch and loudness) of two voices, noise and hum that start, stop and glide
    independently."""
    rng = random.Random(seed)
    times = torch.arange(math.ceil(seconds / STEP) + 2) * STEP
    count = len(times)
    pitch = torch.stack([_glide(rng, count, math.log(low), math.log(high), 0.35).exp() for low, high in SPANS])
    there = torch.tensor([[float(rng.random() < 0.85)], [float(rng.random() < 0.4)]])
    loud = torch.stack([_glide(rng, count, -5.5, -1.0, 0.3).exp() * _rests(rng, count, 0.4) for _ in range(2)])
    angle = torch.stack([_glide(rng, count, 0.05, math.pi / 2 - 0.05, 0.5) for _ in range(2)])
    bright = torch.stack([_glide(rng, count, 0.0, 1.1, 0.8) for _ in range(2)])
    noise = torch.stack(
        [_glide(rng, count, -8.0, -2.5, 0.5).exp() * _rests(rng, count, 0.2) * (rng.random() < 0.35) for _ in range(3)]
    )
    hum = _glide(rng, count, -5.0, -2.0, 0.7).exp() * _rests(rng, count, 0.2) * (rng.random() < 0.25)
    loud = loud * there
    return Score(times, pitch, bright, loud * angle.cos(), loud * angle.sin(), noise, hum)


def other(seed: int, seconds: float) -> Tensor:
    """Returns a sound unlike the world's, `[2, n]`: silence, coloured noise, sweeps, chords, or a kind of speech."""
    rng, dice = random.Random(seed), torch.Generator().manual_seed(seed)
    length = round(seconds * SOUND_RATE)
    kind = rng.choices(("silence", "noise", "sweep", "chord", "speech"), (0.05, 0.25, 0.15, 0.2, 0.35))[0]
    clock = torch.arange(length) / SOUND_RATE
    if kind == "silence":
        return torch.zeros(2, length)
    if kind == "noise":
        wave = _coloured(rng, length, dice)
    elif kind == "sweep":
        pitch = torch.exp(torch.linspace(math.log(rng.uniform(60, 4000)), math.log(rng.uniform(60, 4000)), length))
        wave = torch.sin(2 * math.pi * (pitch.double().cumsum(0) / SOUND_RATE % 1).float())
    elif kind == "chord":
        wave = sum(
            (
                torch.sin(2 * math.pi * rng.uniform(80, 3000) * clock + rng.uniform(0, 6))
                for _ in range(rng.randint(2, 6))
            ),
            torch.zeros(length),
        )
    else:
        wave = _speech(rng, length, dice)
    steps = F.interpolate(torch.rand(1, 1, max(2, round(4 * seconds)), generator=dice), size=length, mode="linear")[
        0, 0
    ]
    wave = wave / wave.square().mean().sqrt().clamp(min=1e-6) * 10 ** rng.uniform(-2.2, -0.8)
    side = rng.uniform(0.1, math.pi / 2 - 0.1)
    sides = torch.tensor([[math.cos(side)], [math.sin(side)]]) * math.sqrt(2)
    return (wave * (0.2 + steps) * sides).clamp(-1, 1)


def _coloured(rng: random.Random, length: int, dice: torch.Generator) -> Tensor:
    spectrum = torch.fft.rfft(torch.randn(length, generator=dice))
    hertz = torch.fft.rfftfreq(length, 1 / SOUND_RATE)
    tilt = (hertz / 1000).clamp(min=0.05) ** rng.uniform(-1.5, 0.5)
    bump = torch.exp(-0.5 * ((hertz - rng.uniform(100, 6000)) / rng.uniform(100, 2000)) ** 2)
    wave: Tensor = torch.fft.irfft(spectrum * (tilt + rng.choice((0.0, 3.0)) * bump), n=length)
    return wave


def _speech(rng: random.Random, length: int, dice: torch.Generator) -> Tensor:
    """Returns a sound like speech: pulses of a gliding pitch and some breath, through three resonances that change
    every 0.2 s."""
    count = math.ceil(length / SOUND_RATE / STEP) + 2
    low = rng.uniform(80, 200)
    pitch = F.interpolate(_glide(rng, count, low, 1.5 * low, 0.1)[None, None], size=length, mode="linear")[0, 0]
    turns = (pitch.double().cumsum(0) / SOUND_RATE).floor()
    pulses = F.pad(turns.diff(), (1, 0)).float() + 0.02 * torch.randn(length, generator=dice)
    piece, out = SOUND_RATE // 5, []
    hertz = torch.fft.rfftfreq(2 * piece, 1 / SOUND_RATE)
    for start in range(0, length, piece):
        shape = 0.02 * torch.ones_like(hertz)
        for centre in (rng.uniform(250, 900), rng.uniform(900, 2400), rng.uniform(2300, 3500)):
            shape = shape + 1 / (1 + ((hertz - centre) / 80) ** 2)
        window = torch.hann_window(2 * piece)
        part = F.pad(pulses[start : start + 2 * piece], (0, max(0, 2 * piece - (length - start))))
        out.append(torch.fft.irfft(torch.fft.rfft(part * window) * shape * (rng.random() < 0.85), n=2 * piece))
    wave = torch.zeros(len(out) * piece + piece)
    for i, part in enumerate(out):
        wave[i * piece : (i + 2) * piece] += part
    return wave[:length]


def clip(seed: int, seconds: float) -> Tensor:
    """Returns the training sound of a seed, `[2, n]`, of a random kind."""
    chance = random.Random(seed).random()
    if chance > 0.8:
        return other(seed, seconds)
    made = world_score(seed, seconds) if chance < 0.5 else free_score(seed, seconds)
    return play(made, round(seconds * SOUND_RATE), seed=seed)
