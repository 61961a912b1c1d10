"""Whether a tone goes on where two sounds meet: its pitch and its phase on both sides."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longtake.media.formats import SOUND_RATE
from longtake.media.sound import CROSS_FADE_S

LOWEST_HZ, HIGHEST_HZ = 40.0, 4000.0
SEGMENT_S = 0.1
CLEAREST = 0.85
"""A sound repeats itself at its period with at least this correlation, or it has no pitch."""

SAME_TONE_CENTS = 50.0
"""Half a semitone: between tones further apart there is no phase to compare."""

_FIRST_PEAK = 0.9
_POINTS = 1 << 15
_QUIET = 1e-3


@dataclass(frozen=True)
class ToneFigures:
    """`pitch_step_cents`: how much higher the sound is after the joint (100 to a semitone); None where a side has no
    pitch. `phase_jump_degrees` in 0..180: how far the strongest partial is out of step with its own course before;
    None where there is no pitch or it is another tone. Both are 0 where nobody hears the joint."""

    pitch_step_cents: float | None
    phase_jump_degrees: float | None


def tone_figures(sound: NDArray[np.float32], joint: int, sound_rate: int = SOUND_RATE) -> ToneFigures:
    """The figures of sound [2, n] whose sample `joint` is the first behind the joint; a cross-fade on either side is
    left out."""
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
    # Each phase is that of its segment's middle; they are compared half way between.
    course = np.pi * (hz + other_hz) * (length + 2 * fade) / sound_rate
    jump = (other_phase - phase - course + np.pi) % (2 * np.pi) - np.pi
    return ToneFigures(step, float(abs(np.degrees(jump))))


def pitch(mono: NDArray[np.float64], sound_rate: int = SOUND_RATE) -> float | None:
    """The pitch in Hz, LOWEST_HZ to HIGHEST_HZ, or None where there is none: the first clear peak of the normalised
    square difference function (McLeod & Wyvill 2005)."""
    wave = mono - mono.mean()
    if np.sqrt(np.square(wave).mean()) < _QUIET:
        return None
    longest, shortest = round(sound_rate / LOWEST_HZ), round(sound_rate / HIGHEST_HZ)
    spectrum = np.fft.rfft(wave, 2 * wave.size)
    alike = np.fft.irfft(np.abs(spectrum) ** 2)[: longest + 2]
    energy = np.concatenate([[0.0], np.cumsum(wave**2)])
    lags = np.arange(longest + 2)
    alike = 2 * alike / (energy[wave.size - lags] + energy[-1] - energy[lags])
    peaks = [lag for lag in range(shortest, longest + 1) if alike[lag - 1] < alike[lag] >= alike[lag + 1] > 0]
    clearest = max((alike[lag] for lag in peaks), default=0.0)
    if clearest < CLEAREST:
        return None
    first = next(lag for lag in peaks if alike[lag] >= _FIRST_PEAK * clearest)
    return float(sound_rate / (first + _summit(alike[first - 1 : first + 2])))


def _strongest(mono: NDArray[np.float64], sound_rate: int) -> tuple[float, float]:
    """Frequency in Hz of the strongest partial, and its phase in the segment's middle."""
    window = np.hanning(mono.size)
    levels = np.log(np.abs(np.fft.rfft(mono * window, _POINTS)) + 1e-12)
    line = int(np.argmax(levels[1:-1])) + 1
    hz = (line + _summit(levels[line - 1 : line + 2])) * sound_rate / _POINTS
    turns = 2 * np.pi * hz * (np.arange(mono.size) - mono.size / 2) / sound_rate
    return float(hz), float(np.angle(np.sum(mono * window * np.exp(-1j * turns))))


def _summit(three: NDArray[np.float64]) -> float:
    """Where between -1 and 1 the parabola through three values is highest."""
    lower, at, upper = three
    bend = lower - 2 * at + upper
    return float((lower - upper) / (2 * bend)) if bend < 0 else 0.0


def _cents(before: float, after: float) -> float:
    return float(1200 * np.log2(after / before))
