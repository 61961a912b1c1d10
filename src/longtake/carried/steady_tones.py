"""Finds the steady tones of a sound and continues them with their frequency, level and phase."""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longtake.media.formats import SOUND_RATE

ABOVE_NOISE = 30.0
"""A peak of the spectrum counts as a tone if its power is this many times the median power around it."""

RANGE = 10**-5.5
"""A tone has at least this share of the power of the strongest one. The spectrum's window hides quieter ones."""

MOST_TONES = 48
"""The largest number of tones that go on, the strongest ones."""

LOWEST_HZ = 25.0
"""The lowest tone that is looked for."""

BANDS_PER_OCTAVE = 2
"""The median power is measured in so many bands per octave."""

PIECE_S, STEP_S = 0.2, 0.1
"""The phase and the level of a tone are measured in pieces of this length, which begin this many seconds apart."""

SURE = (0.1, 0.5)
"""The first half of the heard sound, continued, predicts a tone in the second half. If the error has at most the first
share of the tone's power, the tone goes on at its level; at the second share or more, it does not go on."""

APART_HZ, MUCH = 12.0, 0.25
"""Two tones that are closer together cannot be measured in such pieces. A tone with another one beside it that has at
least this share of its power does not go on; these are mostly parts of a voice whose pitch swings."""

NEAR_S = 0.25
"""Level and phase at the joint are those of the last seconds of this length."""

FADE_S = 0.2
"""The part of a tone that is not sure fades with this time constant."""

LEAST_FALL = 0.15
"""A tone whose amplitude falls more slowly than by this share per second is one of constant level."""

_BLOCK = 4800
"""The number of samples that are made at once."""


@dataclass(frozen=True)
class SteadyTones:
    """The steady tones of a sound.

    hertz: the frequency of each tone, [k].
    amplitudes: its complex amplitude at the end of the sound, on both sides, [2, k].
    falls: the share by which its amplitude falls per second, as the exponent of a decay, [k]; 0 for constant level.
    shares: how sure each tone goes on, 0..1, [k].
    """

    hertz: NDArray[np.float64]
    amplitudes: NDArray[np.complex128]
    falls: NDArray[np.float64]
    shares: NDArray[np.float64]

    @classmethod
    def of(cls, sound: NDArray[np.float64]) -> tuple["SteadyTones", NDArray[np.float64]]:
        """Finds the tones of a sound [2, n]. Returns those that are steady, and the frequencies of all of them."""
        peaks, powers = _peaks(sound)
        if not len(peaks):
            return cls(peaks, np.zeros((2, 0), np.complex128), peaks, peaks), peaks
        hertz, falls, shares = _proven(sound, peaks)
        beside = (np.abs(peaks[:, None] - peaks) < APART_HZ) & (powers > MUCH * powers[:, None])
        sure = (shares > 0) & (beside.sum(axis=1) == 1)
        hertz, falls, shares = hertz[sure], falls[sure], shares[sure]
        near = sound[:, -round(NEAR_S * SOUND_RATE) :]
        waves = _waves(hertz, falls, np.arange(-near.shape[1], 0))
        columns = np.concatenate([waves.real, -waves.imag])
        squares = columns @ columns.T
        squares[np.diag_indices_from(squares)] *= 1 + 1e-6
        parts = np.linalg.solve(squares, columns @ near.T).T if len(hertz) else np.zeros((2, 0))
        amplitudes = (parts[:, : len(hertz)] + 1j * parts[:, len(hertz) :]).astype(np.complex128)
        return cls(hertz, amplitudes, falls, shares), peaks

    def at(self, start: int, length: int) -> NDArray[np.float64]:
        """Returns `length` samples of the tones, [2, length].

        start: the number of the first sample, counted from the end of the measured sound; negative before it.
        """
        made = np.zeros((2, length))
        if not len(self.hertz):
            return made
        waves = _waves(self.hertz, self.falls, np.arange(_BLOCK))
        for first in range(0, length, _BLOCK):
            time = (start + first) / SOUND_RATE
            fade = self.shares + (1 - self.shares) * np.exp(-max(0.0, time) / FADE_S)
            here = self.amplitudes * fade * np.exp((2j * np.pi * self.hertz - self.falls) * time)
            block = (here @ waves).real
            made[:, first : first + _BLOCK] = block[:, : length - first]
        return made


def _waves(hertz: NDArray[np.float64], falls: NDArray[np.float64], samples: NDArray[np.int_]) -> NDArray[np.complex128]:
    """Returns tones of amplitude 1, [k, n], at samples that are counted from the time 0."""
    waves: NDArray[np.complex128] = np.exp((2j * np.pi * hertz - falls)[:, None] * samples / SOUND_RATE)
    return waves


def _peaks(sound: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the frequencies of the tones of a sound [2, n] in Hz, [k], and their relative powers, [k]. The tones are
    the peaks of its spectrum."""
    length = sound.shape[1]
    power = np.square(np.abs(np.fft.rfft(sound * np.blackman(length)))).sum(axis=0)
    low = max(3, round(LOWEST_HZ * length / SOUND_RATE))
    edges = np.unique(np.geomspace(low, len(power), BANDS_PER_OCTAVE * 10 + 1).round().astype(int))
    edges = edges[np.concatenate([[True], np.diff(edges) > 0])]
    medians = [np.median(power[first:last]) for first, last in itertools.pairwise(edges)]
    centres = np.sqrt(edges[:-1] * edges[1:])
    bins = np.arange(low, len(power) - 3)
    # Where the spectrum is steep, as at the end of a codec's band, the louder side counts.
    louder = np.max([np.pad(medians, 1, "edge")[first : first + len(medians)] for first in range(3)], axis=0)
    around = np.exp(np.interp(np.log(bins), np.log(centres), np.log(np.maximum(louder, 1e-30))))
    highest = np.max([power[bins + step] for step in range(-3, 4)], axis=0)
    here = power[bins]
    found = bins[(here == highest) & (here > ABOVE_NOISE * around) & (here > RANGE * power.max())]
    found = np.sort(found[np.argsort(power[found])[::-1][:MOST_TONES]])
    left, middle, right = (np.log(np.maximum(power[found + step], 1e-30)) for step in (-1, 0, 1))
    offset = 0.5 * (left - right) / np.minimum(left - 2 * middle + right, -1e-9)
    hertz: NDArray[np.float64] = (found + np.clip(offset, -0.5, 0.5)) * SOUND_RATE / length
    return hertz, power[found]


def _proven(
    sound: NDArray[np.float64], peaks: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns frequency, fall and share (see `SteadyTones`) of the tones with about the frequencies `peaks` [k]."""
    piece, step = round(PIECE_S * SOUND_RATE), round(STEP_S * SOUND_RATE)
    starts = np.arange(sound.shape[1] - piece, -1, -step)[::-1]
    pieces = np.stack([sound[:, start : start + piece] for start in starts])  # [p, 2, piece]
    kernels = np.conj(_waves(peaks, np.zeros_like(peaks), np.arange(piece))) * np.hanning(piece)
    turned = np.einsum("kn,pcn->kpc", kernels, pieces, optimize=True)
    turned = turned * np.exp(-2j * np.pi * peaks[:, None] * starts / SOUND_RATE)[..., None]
    half = (len(starts) + 1) // 2
    times = np.arange(len(starts)) * STEP_S
    loud = 0.5 * np.log(np.square(np.abs(turned)).sum(axis=2) + 1e-30)
    later = np.square(np.abs(turned[:, half:])).sum(axis=(1, 2)) + 1e-30
    turn = _turn(turned[:, :half])
    errors = []
    for fall in (np.zeros(len(peaks)), -np.polyfit(times[:half], loud[:, :half].T, 1)[0]):
        course = np.exp((1j * turn - fall)[:, None] * times)[..., None]
        start = (turned[:, :half] / course[:, :half]).mean(axis=1, keepdims=True)
        errors.append(np.square(np.abs(turned[:, half:] - start * course[:, half:])).sum(axis=(1, 2)) / later)
    shares = np.interp(np.minimum(*errors), SURE, (1, 0))
    falls = -np.polyfit(times, loud.T, 1)[0]
    falls = np.where((errors[1] < errors[0]) & (falls > LEAST_FALL), falls, 0)
    return peaks + _turn(turned) / (2 * np.pi), falls, shares


def _turn(turned: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Returns by how many radians per second the complex amplitudes [k, p, 2] of pieces turn, [k]."""
    turn: NDArray[np.float64] = np.angle((turned[:, 1:] * np.conj(turned[:, :-1])).sum(axis=(1, 2))) / STEP_S
    return turn
