"""Continues the steady part of a source's sound: tones with their frequency, level and phase, and noise as noise.

The small models in this package know the sounds of a toy world only. They continue another sound at another pitch and
too quietly.
"""

from dataclasses import dataclass

import numpy as np

from longtake.carried.steady_noise import SteadyNoise
from longtake.carried.steady_tones import SteadyTones
from longtake.media.formats import SOUND_RATE
from longtake.media.sound import FADE_SAMPLES, Samples

HEARD_S = 1.0
"""The seconds of the source's sound, next to the new sound, in which its steady part is measured."""

LEAST_S = 0.5
"""A shorter sound does not tell what of it is steady."""

LEAST_SHARE = 2 / 3
"""A sound goes on if at least this share of its power is steady."""

NOTHING = 1e-5
"""A sound whose samples are all smaller than this is silent. The smallest step of 16-bit sound is three times as
large."""


@dataclass(frozen=True)
class SteadySound:
    """The steady part of a source's sound. A silent sound has neither tones nor noise.

    tones: its steady tones; None if it has none.
    noise: its noise; None if it has none.
    tonal: how much of the sound's power the tones explain, wave by wave, up to 1.
    """

    tones: SteadyTones | None
    noise: SteadyNoise | None
    tonal: float = 0.0

    @classmethod
    def of(cls, sound: Samples) -> "SteadySound | None":
        """Measures the steady part at the end of a sound [2, n] at SOUND_RATE Hz.

        Returns None if less than two thirds of the sound's power is steady, as in speech or a siren, or if the sound is
        shorter than half a second and not silent.
        """
        near = sound[:, -round(HEARD_S * SOUND_RATE) :].astype(np.float64)
        if np.abs(near).max(initial=0) < NOTHING:
            return cls(None, None)
        if near.shape[1] < round(LEAST_S * SOUND_RATE):
            return None
        tones, peaks = SteadyTones.of(near)
        sure = tones.at(-near.shape[1], near.shape[1])
        noise = SteadyNoise.of(near - sure, peaks)
        power = np.square(near).mean(axis=1).sum()
        steady = np.square(sure).mean(axis=1).sum() + noise.power
        tonal = 1 - np.square(near - sure).mean(axis=1).sum() / power
        return cls(tones, noise, float(tonal)) if steady >= LEAST_SHARE * power else None

    @property
    def is_silent(self) -> bool:
        """True if the source's sound is silent."""
        return self.tones is None and self.noise is None

    def continued(self, source: Samples, length: int) -> Samples:
        """Returns the source's sound [2, n] followed by `length` samples of its steady part.

        The noise is cross-faded with the source's during the last 15 ms of the source. Tones go on in phase.
        """
        fade = min(FADE_SAMPLES, source.shape[1])
        new = np.zeros((2, fade + length))
        if self.noise is not None:
            new += self.noise.made(fade + length, fade)
        if self.tones is not None:
            tones = self.tones.at(-fade, fade + length)
            angle = (np.arange(fade) + 0.5) / max(1, fade) * np.pi / 2
            rest = source[:, source.shape[1] - fade :] - tones[:, :fade]
            new[:, :fade] = new[:, :fade] * np.sin(angle) + rest * np.cos(angle)
            new += tones
        before = source[:, : source.shape[1] - fade]
        # The source may be hours long, so it stays in 32 bits.
        return np.concatenate([before, np.clip(new, -1, 1).astype(np.float32)], axis=1)
