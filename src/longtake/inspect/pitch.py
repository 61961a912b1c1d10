"""Compares pitch and phase of the sound before and after a joint, where source and new sound meet. If both match, a
tone continues without a break."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longtake.media.formats import SOUND_RATE
from longtake.media.sound import CROSS_FADE_S

LOWEST_HZ, HIGHEST_HZ = 40.0, 4000.0
"""Lowest and highest pitch that can be found."""

SEGMENT_S = 0.1
"""Seconds of sound before and after the joint (where source and new sound meet) that are compared."""

MIN_PERIODICITY = 0.85
"""Lowest correlation (0..1) of a sound with itself one period later. A sound below it has no pitch."""

SAME_TONE_CENTS = 50.0
"""Largest difference in cents at which the sounds before and after the joint (where source and new sound meet) count as
the same tone: half a semitone."""

_FIRST_PEAK = 0.9
"""A sound's period is at its first correlation peak that has at least this share of the highest peak. Later peaks are
at multiples of the period."""

_FFT_SIZE = 1 << 15
_MIN_RMS = 1e-3
"""Amplitude (1 is full scale) below which a sound is too quiet to have a pitch."""


@dataclass(frozen=True)
class ToneFigures:
    """How much a tone changes at a joint, where source and new sound meet. Both figures are 0 for an inaudible joint.

    pitch_step_cents: how much higher the pitch is after the joint than before it; a semitone is 100 cents. None if one
        side has no pitch.
    phase_jump_degrees: the difference between the expected and the actual phase of the strongest partial after the
        joint, 0..180 degrees. None if one side has no pitch or the strongest partial is not the same on both sides.
    """

    pitch_step_cents: float | None
    phase_jump_degrees: float | None


def tone_figures(sound: NDArray[np.float32], joint: int, sound_rate: int = SOUND_RATE) -> ToneFigures:
    """Returns how much pitch and phase of `sound` [2, n] change at the joint, where source and new sound meet.

    joint: index of the first sample after the joint.
    sound_rate: samples per second.

    On each side, 100 ms of sound are measured. The 15 ms between them and the joint are left out, because the sounds
    are cross-faded there. Both figures are None if there is less than 115 ms of sound on one side.
    """
    mono = sound.mean(axis=0, dtype=np.float64)
    length, fade = round(SEGMENT_S * sound_rate), round(CROSS_FADE_S * sound_rate)
    start = joint - fade - length
    if start < 0 or joint + fade + length > mono.size:
        return ToneFigures(None, None)
    before, after = mono[start : start + length], mono[joint + fade : joint + fade + length]
    pitches = [pitch(side, sound_rate) for side in (before, after)]
    if pitches[0] is None or pitches[1] is None:
        return ToneFigures(None, None)
    step = _cents(pitches[0], pitches[1])
    (hz, phase), (other_hz, other_phase) = (_strongest(side, sound_rate) for side in (before, after))
    if abs(_cents(hz, other_hz)) > SAME_TONE_CENTS:
        return ToneFigures(step, None)
    # `phase` and `other_phase` are measured in the middle of each segment. Between the middles the tone advances by
    # `advance` radians.
    advance = np.pi * (hz + other_hz) * (length + 2 * fade) / sound_rate
    jump = (other_phase - phase - advance + np.pi) % (2 * np.pi) - np.pi
    return ToneFigures(step, float(abs(np.degrees(jump))))


def pitch(mono: NDArray[np.float64], sound_rate: int = SOUND_RATE) -> float | None:
    """Returns the pitch in Hz of the samples `mono` [n], or None if they have no clear pitch.

    The pitch is in 40..4000 Hz (LOWEST_HZ, HIGHEST_HZ). The period is the first clear peak of the normalised square
    difference function (McLeod & Wyvill 2005). `sound_rate` is the number of samples per second.
    """
    wave = mono - mono.mean()
    if np.sqrt(np.square(wave).mean()) < _MIN_RMS:
        return None
    longest, shortest = round(sound_rate / LOWEST_HZ), round(sound_rate / HIGHEST_HZ)
    spectrum = np.fft.rfft(wave, 2 * wave.size)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: longest + 2]
    energy = np.concatenate([[0.0], np.cumsum(wave**2)])
    lags = np.arange(longest + 2)
    correlation = 2 * correlation / (energy[wave.size - lags] + energy[-1] - energy[lags])
    peaks = [
        lag
        for lag in range(shortest, longest + 1)
        if correlation[lag - 1] < correlation[lag] >= correlation[lag + 1] > 0
    ]
    highest = max((correlation[lag] for lag in peaks), default=0.0)
    if highest < MIN_PERIODICITY:
        return None
    first = next(lag for lag in peaks if correlation[lag] >= _FIRST_PEAK * highest)
    return float(sound_rate / (first + _vertex(correlation[first - 1 : first + 2])))


def _strongest(mono: NDArray[np.float64], sound_rate: int) -> tuple[float, float]:
    """Returns (frequency, phase) of the strongest partial of the samples `mono` [n].

    The frequency is in Hz. The phase is in radians, at the middle of the samples.
    """
    window = np.hanning(mono.size)
    levels = np.log(np.abs(np.fft.rfft(mono * window, _FFT_SIZE)) + 1e-12)
    peak = int(np.argmax(levels[1:-1])) + 1
    hz = (peak + _vertex(levels[peak - 1 : peak + 2])) * sound_rate / _FFT_SIZE
    turns = 2 * np.pi * hz * (np.arange(mono.size) - mono.size / 2) / sound_rate
    return float(hz), float(np.angle(np.sum(mono * window * np.exp(-1j * turns))))


def _vertex(three: NDArray[np.float64]) -> float:
    """Returns the position in -1..1 of the maximum of the parabola through three values at -1, 0 and 1."""
    lower, at, upper = three
    bend = lower - 2 * at + upper
    return float((lower - upper) / (2 * bend)) if bend < 0 else 0.0


def _cents(before: float, after: float) -> float:
    return float(1200 * np.log2(after / before))
