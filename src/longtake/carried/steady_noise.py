"""Measures the spectrum of a sound's steady noise and makes more noise of the same spectrum."""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longtake.media.formats import SOUND_RATE

PIECE = 2048
"""The noise is measured and made in pieces of this many samples, which overlap by half: 43 ms."""

BLOCK = 5
"""The loudness over time is measured in blocks of this many pieces: 0.13 s."""

BANDS_PER_OCTAVE = 4
"""The spectrum is measured in so many bands per octave, but a band has at least one bin of 23 Hz."""

LEAST_BINS = 12
"""Where noise is told from a voice whose pitch changes, a band has at least this many bins."""

OCTAVE_EDGES = (0, 8, 16, 32, 64, 128, 256, 512, PIECE // 2 + 1)
"""The bins at which the bands begin whose loudness over time is measured."""

BESIDE_TONES = 3
"""The bins at most this far from a tone are not measured."""

STEADY_DB = (3.0, 8.0)
"""In each octave, the noise is as loud as its quietest third if the mean is louder by the second number of dB or more,
so that a voice or a bump does not go on. If it is louder by the first number at most, the noise keeps the mean."""

TONAL = (3.0, 5.0)
"""How unequal the powers of an octave's bins are at one time: the mean of their squares, over the square of their mean.
It is 2 for noise. From the first number on, ever less of the octave is taken for noise, but for a voice whose pitch
changes; at the second number, only the ground below it."""

MEDIAN = np.log(2)
"""The median of the powers of noise, as a factor of their mean."""

FADE_S = 0.2
"""The loudness at the joint changes to that of the noise that goes on with this time constant."""

SEED = 20
"""The seed of the random phases."""


@dataclass(frozen=True)
class SteadyNoise:
    """The noise at the end of a sound.

    spectrum: its mean power on both sides in each bin of a piece, [2, PIECE // 2 + 1], per sample.
    last: in each bin, the noise's power at the end of the sound, as a factor of the mean.
    lasting: the power that lasts, as a factor of the mean.
    likeness: how much both sides have the same noise, from 0 (nothing in common) to 1.
    """

    spectrum: NDArray[np.float64]
    last: NDArray[np.float64]
    lasting: NDArray[np.float64]
    likeness: float

    @classmethod
    def of(cls, sound: NDArray[np.float64], tones: NDArray[np.float64]) -> "SteadyNoise":
        """Measures the noise of a sound [2, n] without its steady tones. n is at least BLOCK * PIECE.

        tones: the frequencies of all tones of the sound in Hz. There the noise is taken to be as loud as beside them.
        """
        count = (sound.shape[1] // (PIECE // 2) - 1) // BLOCK * BLOCK
        window = np.hanning(PIECE)
        starts = sound.shape[1] - PIECE - np.arange(count)[::-1] * (PIECE // 2)
        pieces = np.stack([sound[:, start : start + PIECE] for start in starts], axis=1)
        power = np.square(np.abs(np.fft.rfft(pieces * window))) / np.square(window).sum()  # [2, count, bins]
        bins = np.arange(power.shape[2])
        heard = np.ones(len(bins), bool)
        for tone in tones * PIECE / SOUND_RATE:
            heard &= np.abs(bins - tone) > BESIDE_TONES
        if not heard.any():
            nothing = np.zeros(len(bins))
            return cls(np.zeros((2, len(bins))), nothing, nothing, 0.0)
        spectrum = np.stack([_smoothed(side, heard, 1) for side in power.mean(axis=1)])
        together = power.sum(axis=0)
        flat = together / np.maximum(_smoothed(together.mean(axis=0), heard, LEAST_BINS), 1e-30)
        last, lasting = np.ones(len(bins)), np.ones(len(bins))
        for first, end in itertools.pairwise(OCTAVE_EDGES):
            part = slice(max(1, first), end)
            if heard[part].any():
                last[part], lasting[part] = _course(flat[:, part][:, heard[part]])
        likeness = float((sound[0] * sound[1]).sum() / np.sqrt(np.square(sound).sum(axis=1).prod() + 1e-60))
        return cls(spectrum, last, lasting, max(0.0, likeness))

    @property
    def power(self) -> float:
        """The power of the noise that lasts, of both sides together."""
        return float((self.spectrum * self.lasting)[:, 1:].sum() * 2 / PIECE)

    def made(self, length: int, before: int) -> NDArray[np.float64]:
        """Returns `length` samples of noise, [2, length], always the same ones.

        before: the number of samples before the end of the measured sound.
        """
        random = np.random.default_rng(SEED)
        half = PIECE // 2
        made = np.zeros((2, (length // half + 3) * half))
        window = np.sin((np.arange(PIECE) + 0.5) * np.pi / PIECE)
        for start in range(0, made.shape[1] - half, half):
            time = max(0, start - before) / SOUND_RATE
            level = self.lasting + (self.last - self.lasting) * np.exp(-time / FADE_S)
            same, left, right = random.normal(size=(3, half + 1, 2)) @ np.array([1, 1j]) * np.sqrt(0.5)
            both = np.sqrt(self.likeness) * same + np.sqrt(1 - self.likeness) * np.stack([left, right])
            piece = np.fft.irfft(both * np.sqrt(self.spectrum * level * PIECE), PIECE)
            made[:, start : start + PIECE] += piece * window
        return made[:, half : half + length]


def _course(power: NDArray[np.float64]) -> tuple[float, float]:
    """Returns how loud the noise of an octave is at its end, and how loud it lasts, as factors of its mean power.

    power: the power of its bins over time, [pieces, bins], as factors of their mean.
    """
    power = power + 1e-30
    loud = power.mean(axis=1).reshape(-1, BLOCK).mean(axis=1)
    mean, low = loud.mean(), np.sort(loud)[: max(1, len(loud) // 3)].mean()
    doubt = np.interp(10 * np.log10(mean / low), STEADY_DB, (0, 1))
    unequal = (np.square(power).mean(axis=1) / np.square(power.mean(axis=1))).mean()
    ground = min(1.0, float(np.median(power) / MEDIAN / mean)) ** np.interp(unequal, TONAL, (0, 1))
    return float((loud[-1] / mean) ** doubt * ground), float((low / mean) ** doubt * ground)


def _smoothed(power: NDArray[np.float64], heard: NDArray[np.bool_], least: int) -> NDArray[np.float64]:
    """Returns a spectrum [bins] as means of bands of at least `least` bins. `heard` says which bins are measured."""
    edges = [1]
    while edges[-1] < len(power):
        edges.append(edges[-1] + max(least, round(edges[-1] * (2 ** (1 / BANDS_PER_OCTAVE) - 1))))
    centres, means = [], []
    for first, end in itertools.pairwise(edges):
        measured = power[first:end][heard[first:end]]
        if len(measured):
            centres.append((first + end - 1) / 2)
            means.append(measured.mean())
    bins = np.arange(len(power))
    smooth: NDArray[np.float64] = np.exp(np.interp(bins, centres, np.log(np.maximum(means, 1e-30))))
    smooth[0] = 0
    return smooth
