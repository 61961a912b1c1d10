"""Resamples sound, and computes the log-mel spectrogram that the audio model was trained on."""

from functools import cache
from math import ceil, gcd, log, pi, prod

import torch
from torch import Tensor
from torch.nn import functional

MODEL_RATE = 16_000
"""The audio model's sample rate in Hz."""

HOP = 160
"""The distance between neighbouring spectrogram frames in samples, which gives 100 frames per second. Frame i is
centred on sample i * HOP."""

WINDOW = 1024
"""The length in samples of the window function of a spectrogram frame."""

FLOOR = 1e-5
"""The smallest mel magnitude. Smaller magnitudes are raised to it before the logarithm."""

_ZERO_CROSSINGS = 6
"""The number of zero crossings of the resampling kernel's sinc function on each side of its centre."""

_ROLLOFF = 0.99
"""The cutoff frequency of the resampling filter, as a share of the lower of the two Nyquist frequencies."""


def resample(samples: Tensor, rate_in: int, rate_out: int) -> Tensor:
    """Resamples samples [..., n] from `rate_in` Hz to `rate_out` Hz. Returns [..., ceil(n * rate_out / rate_in)].

    Sample 0 stays at time 0. The interpolation is band-limited, with a Hann-windowed sinc of 6 zero crossings on each
    side.
    """
    if rate_in == rate_out:
        return samples
    step, phases = rate_in // gcd(rate_in, rate_out), rate_out // gcd(rate_in, rate_out)
    length = ceil(samples.shape[-1] * phases / step)
    kernels, reach = _interpolation(step, phases)
    flat = samples.reshape(prod(samples.shape[:-1]), 1, samples.shape[-1])
    padded = functional.pad(flat, (reach, reach + step))
    out = functional.conv1d(padded, kernels.to(samples), stride=step)
    return out.mT.reshape(*samples.shape[:-1], -1)[..., :length]


def log_mel(samples: Tensor, bins: int = 64) -> Tensor:
    """Returns the log-mel spectrogram of a sound: [..., 1 + n // 160, bins] float32, 100 frames per second.

    `samples`: the sound, [..., n] at 16,000 Hz (MODEL_RATE).
    `bins`: the number of mel bands.

    The values are natural logarithms of magnitudes, at least log(1e-5). The STFT is centred, with a Hann window of 1024
    samples, and the sound is mirrored at its ends. The mel scale is that of Slaney's Auditory Toolbox from 0 to 8000
    Hz, with triangles of equal area. A sound of 512 samples or fewer is first padded with silence.
    """
    flat = samples.reshape(prod(samples.shape[:-1]), samples.shape[-1]).float()
    frames = 1 + flat.shape[-1] // HOP
    flat = functional.pad(flat, (0, max(0, WINDOW // 2 + 1 - flat.shape[-1])))
    window = torch.hann_window(WINDOW, device=flat.device)
    spectrum = torch.stft(flat, WINDOW, HOP, window=window, pad_mode="reflect", return_complex=True)
    mel = spectrum[..., :frames].abs().mT @ _triangles(bins).to(flat.device)
    return mel.clamp(min=FLOOR).log().reshape(*samples.shape[:-1], frames, bins)


@cache
def _interpolation(step: int, phases: int) -> tuple[Tensor, int]:
    """Returns (kernels, reach) for resampling by a convolution.

    `kernels`: the convolution kernels, [phases, 1, taps].
    `reach`: the number of zeros to put before the first sample.

    The output rate is to the input rate as `phases` is to `step`. The convolution advances by `step` input samples at a
    time and then gives `phases` output samples, one from each kernel.
    """
    cutoff = min(step, phases) * _ROLLOFF
    reach = ceil(_ZERO_CROSSINGS * step / cutoff)
    taps = torch.arange(-reach, reach + step, dtype=torch.float64) / step
    instants = torch.arange(phases, dtype=torch.float64) / phases
    crossings = ((taps - instants[:, None]) * cutoff).clamp(-_ZERO_CROSSINGS, _ZERO_CROSSINGS)
    window = (crossings * (pi / 2 / _ZERO_CROSSINGS)).cos().square()
    return (crossings.sinc() * window * (cutoff / step))[:, None], reach


@cache
def _triangles(bins: int) -> Tensor:
    """Returns the weights with which the frequencies of a spectrum add up to mel bands, [513, bins] float32.

    A row is a frequency: there are 513 (WINDOW // 2 + 1), equally spaced from 0 to 8000 Hz. A column is a mel band.

    `bins`: the number of mel bands.
    """
    lines = torch.linspace(0, MODEL_RATE // 2, WINDOW // 2 + 1, dtype=torch.float64)
    corners = _hertz(torch.linspace(0, _mel(MODEL_RATE / 2), bins + 2, dtype=torch.float64))
    left, peak, right = corners[:-2], corners[1:-1], corners[2:]
    rise = (lines[:, None] - left) / (peak - left)
    fall = (right - lines[:, None]) / (right - peak)
    return (torch.minimum(rise, fall).clamp(min=0) * (2 / (right - left))).float()


# Slaney's mel scale: linear below 1000 Hz with 200/3 Hz per mel, logarithmic above with 27 mels per factor of 6.4.
_LINEAR_HZ = 200 / 3
_CORNER_HZ = 1000.0
_CORNER = _CORNER_HZ / _LINEAR_HZ
_LOG_STEP = log(6.4) / 27


def _mel(hertz: float) -> float:
    return hertz / _LINEAR_HZ if hertz < _CORNER_HZ else _CORNER + log(hertz / _CORNER_HZ) / _LOG_STEP


def _hertz(mels: Tensor) -> Tensor:
    return torch.where(mels < _CORNER, mels * _LINEAR_HZ, _CORNER_HZ * ((mels - _CORNER) * _LOG_STEP).exp())
