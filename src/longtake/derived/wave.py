"""Computes the waveform of a video's sound, as a browser draws it."""

import math
from fractions import Fraction
from typing import Any

import numpy as np

from longtake.media.source import SourceReader

_RATE = 16_000
"""Samples per second at which the sound is read."""

_BLOCK_S = 60
"""Seconds of sound that are in memory at a time."""


def waveform(source: SourceReader, *, points: int) -> dict[str, Any]:
    """Divides the video into `points` equal parts and measures the sound in each. Returns {duration, peaks}.

    duration: length of the video in seconds.
    peaks: for each part, the largest absolute value of its samples, 0..1; None if the video has no sound.
    """
    facts = source.facts
    duration_s = facts.num_frames / facts.rate
    num_samples = math.ceil(duration_s * _RATE)
    peaks = np.zeros(points)
    for first in range(0, num_samples, _BLOCK_S * _RATE):
        stop = min(first + _BLOCK_S * _RATE, num_samples)
        samples = source.sound(Fraction(first, _RATE), Fraction(stop, _RATE), _RATE)
        if samples is None:
            return {"duration": facts.duration_s, "peaks": None}
        parts = np.arange(first, stop) * points // num_samples
        np.maximum.at(peaks, parts, np.abs(samples).max(axis=0))
    return {"duration": facts.duration_s, "peaks": [round(min(float(peak), 1.0), 5) for peak in peaks]}
