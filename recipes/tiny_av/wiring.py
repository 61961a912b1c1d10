"""The part of the vocoder whose weights are set by hand ("wired"), not learnt: oscillators and their phases.

Why: a log-mel spectrogram has no phase. From a constant spectrogram, a convolution that turns 100 frames per second
into samples makes a sound that repeats every 160 samples, which is a buzz of multiples of 100 Hz at any pitch. An
oscillator of any other pitch needs its phase: the sum of all frequencies up to now. The published architecture can
compute this sum: residual blocks with growing dilations form a running total. The Snake activation x + sin(a x)^2 / b,
with a large and b small, is an oscillator with the phase 2 a x.

Learnt are only the weights with which the first stage, at the frame rate, reads the spectrogram. It reads the pitch,
the loudness left and right and the brightness of two voices, and the loudness of three bands of noise and of a hum.

These parts are wired:
- the running totals;
- a counter of frames, and pseudo-random numbers for each frame;
- the kernels that spread the phases over the 160 samples of a frame;
- the oscillators of the last stage.

A loudness is stored as a difference of phase y, because that needs no product: sin(x + y)^2 - sin(x)^2 = sin(2x + y)
sin(y). Every wired number is exact in half precision.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recipes.tiny_av.sound import BANDS, HUM_HZ, Score
from recipes.tiny_av.sound_configs import HOP, LISTENING, SOUND_RATE, SUMMING, VOCODER

PITCH = (0, 1)
"""Channels of the first stage with the pitch of each voice: 0 is the pitch CENTRE, 1 is SLOPE above it."""
TOTAL = (2, 3)
ONE, COUNT = 4, 5
LEVELS = ((6, 7), (8, 9))
"""Channels with the left and right loudness of each voice, as a difference of phase in units of half a radian."""
SHINE = (10, 11)
NOISE = (12, 13, 14)
HUM = 15
SIDES = (14, 15)
"""Channels of the last stage that contain sound: left and right."""
DICE = (16, 17, 18, 19, 20, 21)
"""Channels of pseudo-random numbers: two pairs and two single ones. A pair has a frame's number and the next frame's
number, between which a phase moves."""
WIRED = (*TOTAL, ONE, COUNT, *DICE)
READ = (*PITCH, *LEVELS[0], *LEVELS[1], *SHINE, *NOISE, HUM)
"""The channels with learnt values: pitch, loudness and brightness of the voices, noise and hum. `targets` has the same
order."""

LOG_ALPHA, LOG_BETA = 5.0, -6.0
ALPHA, BETA = math.exp(LOG_ALPHA), math.exp(LOG_BETA)
"""The parameters a and b of a Snake activation that is an oscillator."""
STRAIGHT = 20.0
"""The logarithm of Snake's b for a channel that must leave the activation unchanged."""
HERTZ = 2 * ALPHA * SOUND_RATE / (2 * math.pi)
"""The pitch in Hz of an oscillator whose input rises by 1 per sample."""
CENTRE = (5, 22)
"""Turns per frame of each voice's oscillator at the pitch reading 0. They are whole numbers, so that each frame starts
at the same phase."""
SLOPE = (2.0**-11, 2.0**-9)
"""Additional rise per sample at the pitch reading 1, for each voice: 369 and 1476 Hz above the pitch reading 0."""
DRIFT = (4, 14, 45)
"""Turns per frame of the oscillator of each noise band."""
COUNTS = 2048
VOICE, RUSTLE = 1.0, 0.6
"""Amplitudes of a voice and of a noise band at a difference of phase of pi."""
DEPTH = 3.0
"""Brightness at a difference of phase of pi."""
GAINS = (1.0, 1.0, 0.8125, 0.8125, 1.1875, 0.6875)
SPREAD = 0.33
"""Standard deviation of the pseudo-random numbers."""
REACH = VOCODER["upsample_kernel_sizes"][1]
EDGE = (REACH - HOP) // 2


def targets(score: Score, frames: int) -> Tensor:
    """Returns what the first stage should read for a score, `[12, frames]`: pitch, loudness and brightness in the order
    of READ.

    The values are those at the middle of each frame's 160 samples.
    """
    at = 2 * torch.arange(frames) + 1
    voices = len(score.pitch)

    def voice(curve: Tensor, i: int) -> Tensor:
        return curve[i, at] if i < voices else torch.zeros(frames)

    pitch = [
        (voice(score.pitch, i) - 100 * CENTRE[i]) / (HERTZ * SLOPE[i]) if i < voices else torch.zeros(frames)
        for i in (0, 1)
    ]
    levels = [2 * _phase(voice(side, i) / VOICE) for i in (0, 1) for side in (score.left, score.right)]
    shine = [_phase(voice(score.brightness, i) / DEPTH) for i in (0, 1)]
    noise = list(_phase(score.noise[:, at] * math.sqrt(2) / RUSTLE))
    return torch.stack([*pitch, *levels, *shine, *noise, score.hum[at]])


def _phase(part: Tensor) -> Tensor:
    return 2 * torch.asin(part.clamp(0, 1))


class Wiring:
    """The wired values of a vocoder's parameters.

    fixed: name of a parameter -> a mask that is True at its wired entries, and a tensor with their values.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.fixed: dict[str, tuple[Tensor, Tensor]] = {}
        self._first_stage()
        self._between()
        self._last_stage()
        self.apply()

    @torch.no_grad()
    def apply(self) -> None:
        """Writes the wired values into the model's parameters. Other values are not changed."""
        parameters = dict(self.model.named_parameters())
        for name, (mask, values) in self.fixed.items():
            parameters[name].copy_(torch.where(mask, values, parameters[name]))

    def to(self, device: torch.device) -> None:
        """Moves the model and the wired values to a device."""
        self.model.to(device)
        self.fixed = {name: (mask.to(device), values.to(device)) for name, (mask, values) in self.fixed.items()}

    def _entry(self, name: str) -> tuple[Tensor, Tensor]:
        if name not in self.fixed:
            parameter = dict(self.model.named_parameters())[name]
            self.fixed[name] = (torch.zeros_like(parameter, dtype=torch.bool), torch.zeros_like(parameter))
        return self.fixed[name]

    def _set(self, name: str, where: Any, value: Any) -> None:
        mask, values = self._entry(name)
        mask[where] = True
        values[where] = value

    def _straight(self, name: str, channels: Any) -> None:
        self._set(f"{name}.alpha", channels, 0.0)
        self._set(f"{name}.beta", channels, STRAIGHT)

    def _first_stage(self) -> None:
        wired = list(WIRED)
        self._set("vocoder.upsamplers.0.weight", (slice(None), wired), 0.0)
        self._set("vocoder.upsamplers.0.bias", wired, 0.0)
        self._set("vocoder.upsamplers.0.bias", ONE, 1.0)
        blocks = len(LISTENING) + len(SUMMING) + 1
        for i in range(blocks):
            at = "vocoder.resnets.0.{}." + str(i) + "{}"
            first, second = at.format("convs1", ".weight"), at.format("convs2", ".weight")
            # Other channels do not read the growing totals, and do not write to the wired channels.
            self._set(first, (slice(None), [*TOTAL, COUNT]), 0.0)
            self._set(second, wired, 0.0)
            self._set(at.format("convs2", ".bias"), wired, 0.0)
            self._straight(at.format("acts1", ""), [*TOTAL, ONE, COUNT])
            if i >= len(LISTENING):
                self._set(second, list(PITCH), 0.0)
                self._set(at.format("convs2", ".bias"), list(PITCH), 0.0)
                self._straight(at.format("acts1", ""), list(PITCH))
        for i in range(len(LISTENING), blocks - 1):
            self._sum(i, first=i == len(LISTENING))
        self._dice(blocks - 1)

    def _own(self, block: int, hidden: list[int]) -> tuple[str, str]:
        """Reserves the hidden channels `hidden` of a block for wired weights. Returns the names of the block's two
        kernels."""
        first, second = (f"vocoder.resnets.0.convs{k}.{block}" for k in (1, 2))
        self._set(f"{first}.weight", hidden, 0.0)
        self._set(f"{first}.bias", hidden, 0.0)
        self._set(f"{second}.weight", (slice(None), hidden), 0.0)
        return f"{first}.weight", f"{second}.weight"

    def _sum(self, block: int, first: bool) -> None:
        """Wires a block that adds to each running total its values one and two dilations earlier. This triples the
        number of frames that are summed.

        first: True for the first such block, whose totals are made from the readings themselves.
        """
        hidden = [0, 1, 2]
        one, two = self._own(block, hidden)
        self._straight(f"vocoder.resnets.0.acts2.{block}", hidden)
        for h, (source, total) in enumerate(zip((*PITCH, ONE), (*TOTAL, COUNT), strict=True)):
            step = 1 / COUNTS if total == COUNT else 1.0
            if first:
                self._set(one, (h, source, [0, 1, 2]), 1.0)
                self._set(two, (total, h, [0, 1, 2]), step)
            else:
                self._set(one, (h, total, [0, 1]), 1.0)
                self._set(two, (total, h, 2), 1.0)

    def _dice(self, block: int) -> None:
        """Wires a block that computes pseudo-random numbers of about -0.5..0.5 for each frame, from the frame's
        number."""
        hidden = list(range(len(DICE) + 1))
        one, two = self._own(block, hidden)
        acts = f"vocoder.resnets.0.acts{{}}.{block}.{{}}"
        self._set(acts.format(1, "alpha"), COUNT, 8.0)
        self._set(acts.format(1, "beta"), COUNT, 0.0)
        self._set(acts.format(2, "alpha"), hidden, 8.0)
        self._set(acts.format(2, "beta"), hidden, -2.0)
        for h, (total, gain, tap) in enumerate(zip(DICE, GAINS, (2, 3, 2, 3, 2, 2), strict=True)):
            self._set(one, (h, COUNT, tap), gain)
            self._set(two, (total, h, 2), 0.125)
            # The activation lets its argument through: an eighth of gain * (count + a squared sine).
            self._set(f"vocoder.resnets.0.convs2.{block}.bias", total, -0.0625 * (math.exp(2) + gain))

    def _between(self) -> None:
        """Wires the kernels between the two stages, which turn a frame into 160 samples: `[first stage, last stage,
        192]`."""
        name = "vocoder.upsamplers.1.weight"
        self._set(name, slice(None), 0.0)
        self._set("vocoder.upsamplers.1.bias", slice(None), 0.0)
        j = torch.arange(REACH, dtype=torch.float32) - EDGE
        inside = ((j >= 0) & (j < HOP)).float()
        fade = ((j + EDGE + 0.5) / (2 * EDGE)).clamp(0, 1) * ((HOP + EDGE - 0.5 - j) / (2 * EDGE)).clamp(0, 1)
        back = (j - HOP) * inside
        for voice in (0, 1):
            for k in range(4):
                channel = 4 * voice + k
                self._set(name, (TOTAL[voice], channel), HOP * SLOPE[voice] * inside)
                self._set(name, (PITCH[voice], channel), SLOPE[voice] * back)
                self._set(name, (ONE, channel), _turns(CENTRE[voice]) * inside)
            for side in (0, 1):
                self._set(name, (LEVELS[voice][side], 4 * voice + 1 + side), fade / (4 * ALPHA))
            self._set(name, (SHINE[voice], 4 * voice + 3), fade / (2 * ALPHA))
        for band, (drift, (_, width)) in enumerate(zip(DRIFT, BANDS, strict=True)):
            for channel in (8 + 2 * band, 9 + 2 * band):
                self._set(name, (ONE, channel), _turns(drift) * inside)
                for total, curve in zip(DICE, _wander(band, width / 2), strict=True):
                    self._set(name, (total, channel), curve / (2 * ALPHA))
            self._set(name, (NOISE[band], 9 + 2 * band), fade / (2 * ALPHA))
        turn = 2 * math.pi * HUM_HZ / SOUND_RATE * (j + 0.5)
        for channel in SIDES:
            self._set(name, (HUM, channel), fade * (torch.sin(turn) + 0.4 * torch.sin(2 * turn)))

    def _last_stage(self) -> None:
        blocks = len(LISTENING) + len(SUMMING) + 1
        for i in range(blocks):
            for k in (1, 2):
                self._set(f"vocoder.resnets.1.convs{k}.{i}.weight", slice(None), 0.0)
                self._set(f"vocoder.resnets.1.convs{k}.{i}.bias", slice(None), 0.0)
                self._straight(f"vocoder.resnets.1.acts{k}.{i}", slice(None))
        block = "vocoder.resnets.1.{}.{}.{}"
        for voice in (0, 1):
            plain, bright = 4 * voice, 4 * voice + 3
            self._set(block.format("acts1", 0, "alpha"), [plain, bright], LOG_ALPHA)
            self._set(block.format("acts1", 0, "beta"), [plain, bright], LOG_BETA)
            self._set(block.format("convs1", 0, "weight"), (voice, bright, 2), BETA)
            self._set(block.format("convs1", 0, "weight"), (voice, plain, 2), -BETA)
            self._set(
                block.format("convs2", 0, "weight"), ([plain, plain + 1, plain + 2], voice, 2), DEPTH / (2 * ALPHA)
            )
        self._set(block.format("acts1", 1, "alpha"), list(range(14)), LOG_ALPHA)
        self._set(block.format("acts1", 1, "beta"), list(range(14)), LOG_BETA)
        for side, out in enumerate(SIDES):
            pairs = [(4 * voice + 1 + side, 4 * voice, VOICE) for voice in (0, 1)]
            pairs += [(9 + 2 * band, 8 + 2 * band, RUSTLE) for band in (0, 1, 2)]
            for ahead, behind, loud in pairs:
                self._set(block.format("convs1", 1, "weight"), (side, ahead, 2), loud * BETA)
                self._set(block.format("convs1", 1, "weight"), (side, behind, 2), -loud * BETA)
            self._set(block.format("convs2", 1, "weight"), (out, side, 2), 1.0)
        self._straight("vocoder.act_out.act", slice(None))
        self._set("vocoder.conv_out.weight", slice(None), 0.0)
        for side, out in enumerate(SIDES):
            self._set("vocoder.conv_out.weight", (side, out, 3), 1.0)
        self._set("bwe_generator.conv_out.weight", slice(None), 0.0)


def _turns(count: int) -> Tensor:
    """Returns the phase at each sample of a frame, `[192]`, for an oscillator with `count` turns per frame. Whole turns
    are left out."""
    j = torch.arange(REACH) - EDGE
    turns: Tensor = (count * j / HOP + 0.5) % 1 - 0.5
    return turns * (math.pi / ALPHA)


def _wander(band: int, width: float) -> Tensor:
    """Returns how six pseudo-random numbers change the phase of a noise band during a frame: `[6, 192]` in radians per
    unit.

    Numbers 1 and 3 belong to this frame, and numbers 2 and 4 to the next one: the phase moves from the first to the
    second of each pair. Numbers 5 and 6 move it along smooth curves that are 0 at both ends. Each of these motions
    makes the pitch deviate by about `width` Hz.
    """
    dice = torch.Generator().manual_seed(10 * band)
    j = torch.arange(REACH) - EDGE
    inside = ((j >= 0) & (j < HOP)).float()
    glide = 2 * math.pi * width * HOP / SOUND_RATE / (2 * SPREAD)
    lines = []
    for sign in (1.0, -1.0 if band == 1 else 1.0):
        lines += [sign * glide * inside * (1 - j / HOP), sign * glide * inside * j / HOP]
    raw = torch.randn(2, 1, REACH + 600, generator=dice)
    kernel = torch.exp(-0.5 * (torch.arange(-300, 301) * width / SOUND_RATE * 4) ** 2)[None, None]
    smooth = F.conv1d(raw, kernel)[:, 0]
    curves = (smooth - smooth.mean(1, keepdim=True)) * (torch.hann_window(REACH, periodic=False) * 2).clamp(max=1)
    slope = curves.diff(dim=1).square().mean().sqrt() * math.sqrt(2) * SPREAD
    return torch.stack([*lines, *(curves * (2 * math.pi * width / SOUND_RATE / slope))])


def mel_front(model: Any) -> None:
    """Sets the weights of the spectrogram in the vocoder's bandwidth extension: a Hann-windowed Fourier transform and a
    mel scale."""
    size, bins = VOCODER["filter_length"], VOCODER["num_mel_channels"]
    lines = size // 2 + 1
    turn = 2 * math.pi * torch.arange(lines)[:, None] * torch.arange(size) / size
    basis = torch.cat([turn.cos(), -turn.sin()]) * torch.hann_window(size)
    model.mel_stft.stft_fn.forward_basis.copy_(basis[:, None])
    model.mel_stft.stft_fn.inverse_basis.copy_(basis[:, None] / size)
    corners = 700 * (10 ** (torch.linspace(0, 2840.0, bins + 2) / 2595) - 1)
    hertz = torch.arange(lines) * SOUND_RATE / size
    rise = (hertz - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    fall = (corners[2:, None] - hertz) / (corners[2:] - corners[1:-1])[:, None]
    model.mel_stft.mel_basis.copy_(torch.minimum(rise, fall).clamp(min=0))


def voice_of(model: Any, reading: Tensor) -> Tensor:
    """Returns the sound `[2, n]` at 16 kHz that the wired part makes from readings `[12, frames]` in the order of
    READ."""
    frames = reading.shape[1]
    stage = torch.zeros(1, VOCODER["hidden_channels"] // 2, frames)
    stage[0, list(READ)] = reading
    stage[0, ONE] = 1
    block: nn.Module = model.vocoder.resnets[0]
    for i in range(len(LISTENING), len(LISTENING) + len(SUMMING) + 1):
        hidden = block.convs1[i](block.acts1[i](stage))  # type: ignore[index, operator]
        change = block.convs2[i](block.acts2[i](hidden))  # type: ignore[index, operator]
        stage[:, list(WIRED)] += change[:, list(WIRED)]
    tail = model.vocoder.resnets[1](model.vocoder.upsamplers[1](stage))
    made: Tensor = model.vocoder.conv_out(model.vocoder.act_out(tail))[0]
    return made
