"""Carries the stereo balance of a source's sound into sound that is equally loud on both sides.

The small models in this package make such sound, whatever they hear: their audio autoencoder and their vocoder lose the
difference between left and right.

A balance is a number: -1 if only the left side sounds, 0 if both are equally loud, 1 if only the right side sounds. The
loudness of both sides together does not depend on it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longtake.media.formats import SOUND_RATE
from longtake.media.sound import SILENCE, Samples

PIECE_S = 0.05
"""The balance is measured in pieces of the sound that last this many seconds."""

HEARD_S = 2.0
"""The seconds of the source's sound, next to the new sound, in which a change of the balance is measured."""

NEAR_S = 1.0
"""A balance that does not change steadily is averaged over this many seconds next to the new sound."""

LEAST_PIECES = 8
"""With fewer pieces of sound, no change of the balance is measured."""

SURE = (0.25, 0.75)
"""The change of the first half of the heard sound, continued, predicts the balance of the second half. If it leaves at
most the first share of the squared error of a balance that stays the same, it goes on with its whole speed; if it
leaves the second share or more, it does not go on."""

NOISE = 0.02
"""An error of the balance that does not count when the change is tested."""

LASTING_S = 2.5
"""The seconds after which a change that goes on has 1/e of its speed."""

FARTHEST = 0.5
"""A change ends where one side is 8 dB louder than the other, so that no side falls silent. A sound that has been
farther at one side stays there."""


@dataclass(frozen=True)
class Balance:
    """The balance of a source's sound, and how it goes on.

    joint: the balance where the source meets the new sound.
    speed: its change per second there, away from the source.
    """

    joint: float
    speed: float

    @classmethod
    def of(cls, sound: Samples) -> "Balance":
        """Measures the balance at the end of a sound [2, n] at SOUND_RATE Hz. That of silence is 0."""
        length = round(PIECE_S * SOUND_RATE)
        count = min(sound.shape[1] // length, round(HEARD_S / PIECE_S))
        end = sound[:, sound.shape[1] - count * length :].astype(np.float64)
        left, right = np.square(end).reshape(2, count, length).mean(axis=2)
        power = left + right
        if not (power > SILENCE**2).any():
            return cls(0.0, 0.0)
        heard = np.arctan2(np.sqrt(right), np.sqrt(left)) * 4 / np.pi - 1
        times = (np.arange(count) - count + 0.5) * PIECE_S
        near = slice(-round(NEAR_S / PIECE_S), None)
        mean = np.average(heard[near], weights=power[near] + SILENCE**2)
        share = _proven(times, heard, power + SILENCE**2)
        joint, speed = _line(times, heard, power + SILENCE**2)
        return cls(float(np.clip(share * joint + (1 - share) * mean, -1, 1)), share * speed)

    @property
    def is_central(self) -> bool:
        """True if both sides are equally loud and stay so."""
        return abs(self.joint) < NOISE and abs(self.speed) < NOISE

    def at(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the balance at times after the source. At times before its end, it is the balance there."""
        way = self.speed * LASTING_S * (1 - np.exp(-np.maximum(seconds, 0) / LASTING_S))
        farthest = min(-FARTHEST, self.joint), max(FARTHEST, self.joint)
        balance: NDArray[np.float64] = np.clip(self.joint + way, *farthest)
        return balance

    def applied(self, sound: Samples, start_s: float) -> Samples:
        """Returns new sound [2, n], which is equally loud on both sides, with this balance.

        sound: the sound in the direction away from the source, at SOUND_RATE Hz.
        start_s: the time of its first sample in seconds after the source; negative for sound that is of the same time
            as the end of the source's sound.

        If a sample would exceed full scale, all are made quieter.
        """
        angle = (self.at(start_s + np.arange(sound.shape[1]) / SOUND_RATE) + 1) * np.pi / 4
        sides = sound * (np.sqrt(2) * np.stack([np.cos(angle), np.sin(angle)]))
        within: Samples = (sides / max(1.0, float(np.abs(sides).max(initial=0)))).astype(np.float32)
        return within


def _line(
    times: NDArray[np.float64], balance: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[float, float]:
    """Returns the straight line that fits the balance best: its value at the time 0, and its change per second."""
    time, mean = np.average(times, weights=weights), np.average(balance, weights=weights)
    spread = np.average(np.square(times - time), weights=weights)
    speed = np.average((times - time) * (balance - mean), weights=weights) / max(float(spread), 1e-9)
    return float(mean - speed * time), float(speed)


def _proven(times: NDArray[np.float64], balance: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Returns the share, 0..1, of the change of the balance that the sound itself proves (see SURE)."""
    half = len(times) // 2
    if len(times) < LEAST_PIECES:
        return 0.0
    joint, speed = _line(times[:half], balance[:half], weights[:half])
    same = np.average(balance[:half], weights=weights[:half])
    errors = [
        np.average(np.square(balance[half:] - predicted), weights=weights[half:]) + NOISE**2
        for predicted in (same, joint + speed * times[half:])
    ]
    return float(np.interp(errors[1] / errors[0], SURE, (1, 0)))
