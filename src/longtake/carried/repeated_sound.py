"""Finds the period of a sound that repeats itself exactly, such as beeps, and repeats its last period."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longtake.media.formats import SOUND_RATE
from longtake.media.sound import FADE_SAMPLES, Samples

KNOWN_S = (8.0, 4.0, 2.0)
"""A period is looked for in so many of the source's last seconds, first in the longest time: a sound may have begun
late to repeat itself."""

LEAST_S = 1.0
"""A shorter sound does not tell whether it repeats itself."""

SHORTEST_S = 0.1
"""The shortest period in seconds."""

LEAST_LIKENESS = 0.9
"""A sound repeats itself if it is at least so much like the sound one period before (see `_likeness`)."""

LEAST_GAIN = 0.02
"""A longer period is taken instead of a shorter one if the sound is more like itself by more than this."""

BESIDE = 1.25
"""The best period is taken of those that are up to this many times as long as the shortest: a beep is also like itself
if it is shifted by a few of its waves, which gives several periods."""

NOTHING = 1e-9
"""A period whose mean power is smaller than this is silent."""


@dataclass(frozen=True)
class RepeatedSound:
    """The period of a sound that repeats itself.

    period: its length in samples, which may have a fraction.
    likeness: how much the sound is like the sound one period before, 0.9 to 1.
    """

    period: float
    likeness: float

    @classmethod
    def of(cls, sound: Samples) -> "RepeatedSound | None":
        """Finds the period at the end of a sound [2, n] at SOUND_RATE Hz.

        Returns None if the sound does not repeat itself, as speech and most music, or if it is shorter than a second.
        """
        lengths = (min(sound.shape[1], round(seconds * SOUND_RATE)) for seconds in KNOWN_S)
        for length in dict.fromkeys(length for length in lengths if length >= LEAST_S * SOUND_RATE):
            found = cls._of_whole(sound[:, sound.shape[1] - length :].astype(np.float64))
            if found:
                return found
        return None

    @classmethod
    def _of_whole(cls, sound: NDArray[np.float64]) -> "RepeatedSound | None":
        """Returns the shortest period with which a whole sound [2, n] repeats itself."""
        first = round(SHORTEST_S * SOUND_RATE)
        sound = sound - sound.mean(axis=1, keepdims=True)  # a constant offset repeats itself under any sound
        likeness = _likeness(sound)
        here = likeness[first:-1]
        is_peak = (here >= likeness[first - 1 : -2]) & (here >= likeness[first + 1 :]) & (here >= LEAST_LIKENESS)
        peaks = np.flatnonzero(is_peak) + first
        peaks = peaks[likeness[peaks] >= likeness[peaks].max(initial=0) - LEAST_GAIN]
        while len(peaks):
            beside = peaks[peaks <= BESIDE * peaks[0]]
            lag = int(beside[likeness[beside].argmax()])
            period = _multiple(likeness, lag)
            if period and _goes_on(sound, lag):
                return cls(period, float(likeness[lag]))
            peaks = peaks[len(beside) :]
        return None

    def continued(self, source: Samples, length: int) -> Samples:
        """Returns the source's sound [2, n] followed by `length` samples in which its last period is repeated.

        Each repetition begins in phase. In the last 15 ms before it, the sound is cross-faded to what is before the
        repeated period, so that it begins without a click.
        """
        fade = FADE_SAMPLES
        times = np.arange(-fade, length)
        count = np.floor(times / self.period)
        starts, ends = (np.round((count + more) * self.period).astype(int) for more in (0, 1))
        begin = source.shape[1] - round(self.period)
        left = ends - times
        rise = 0.5 + 0.5 * np.cos(np.pi * np.clip((left - 0.5) / fade, 0, 1))
        here = source[:, np.minimum(begin + times - starts, source.shape[1] - 1)]
        new = here * (1 - rise) + source[:, begin - np.minimum(left, fade)] * rise
        before = source[:, : source.shape[1] - fade]
        # The source may be hours long, so it stays in 32 bits.
        return np.concatenate([before, new.astype(np.float32)], axis=1)


def _likeness(sound: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns how much a sound [2, n] is like itself so many samples before, for lags from 0 to n // 2, up to 1.

    It is 1 less half of the power of the difference, as a share of the sound's mean power. So it is smaller than the
    correlation if the level changes.
    """
    length, most = sound.shape[1], sound.shape[1] // 2
    size = 1 << (length + most).bit_length()
    spectrum = np.square(np.abs(np.fft.rfft(sound, size))).sum(axis=0)
    products = np.fft.irfft(spectrum, size)[: most + 1]
    energy = np.concatenate([[0.0], np.cumsum(np.square(sound).sum(axis=0))])
    lags = np.arange(most + 1)
    energies = (energy[-1] - energy[lags] + energy[length - lags]) / 2
    likeness: NDArray[np.float64] = products / np.maximum(energies, NOTHING * length)
    return likeness


def _multiple(likeness: NDArray[np.float64], lag: int) -> float | None:
    """Returns a period more exactly: its longest known multiple, divided. `lag` is the period in whole samples.

    Returns None if the sound does not repeat itself after this multiple, as one that fades or changes.
    """
    times = (len(likeness) - 1) // lag
    first = max(0, times * lag - times)
    around = likeness[first : times * lag + times + 1]
    best = int(around.argmax())
    return (first + best) / times if around[best] >= LEAST_LIKENESS else None


def _goes_on(sound: NDArray[np.float64], lag: int) -> bool:
    """Returns True if the last `lag` samples of a sound [2, n] are like those before, and not silent."""
    last, before = sound[:, -lag:], sound[:, -2 * lag : -lag]
    power = (np.square(last) + np.square(before)).mean()
    return bool(power > NOTHING and 2 * (last * before).mean() >= LEAST_LIKENESS * power)
