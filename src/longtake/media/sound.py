"""Arithmetic on stereo sound, float32 [2, samples] in -1..1: lengths, fades, and joining source and generated sound."""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from longtake.media.formats import SOUND_RATE

Samples = NDArray[np.float32]
"""Stereo sound [2, samples] in -1..1."""

CROSS_FADE_S = 0.015
"""Seconds of a cross-fade: long enough to avoid a click, too short to be heard as a mix (usual are 10 to 20 ms)."""

LOUDNESS_S = 0.2
"""Seconds at the end of the source's sound whose loudness the generated sound is matched to."""

GAIN_RETURN_S = 1.0
"""Seconds in which the matched sound returns to its own level, slowly enough not to be heard as a change."""

MAX_GAIN = 4.0
"""Largest gain, and its inverse the smallest, of the loudness match (12 dB). A larger difference is another sound."""

SILENCE = 1e-3
"""Amplitude below which a sound counts as silent: -60 dB of full scale."""

MAX_LAG_S = 0.010
"""Most seconds that generated sound is shifted to match the source's phase: half a period of 50 Hz."""

LAG_WINDOW_S = 0.030
"""Seconds of the source's end that are compared to find the shift."""

MIN_CORRELATION = 0.3
"""Below this correlation the generated sound is not shifted."""

_LAG_PENALTY = 0.05
"""Share by which the correlation at the largest shift is reduced, so that of equal ones the smallest shift wins."""


def num_samples(num_frames: int, rate: Fraction, sound_rate: int = SOUND_RATE) -> int:
    """Returns the number of samples that belong to the first `num_frames` frames at `rate` frames per second.

    Count frames from the start of the file: rounded lengths of pieces add up to another sum.
    """
    return round(num_frames * sound_rate / rate)


def silence(length: int) -> Samples:
    return np.zeros((2, length), np.float32)


def fit_length(samples: Samples, length: int) -> Samples:
    """Returns `samples` cut, or extended with silence, to exactly `length` samples."""
    return np.concatenate([samples[:, :length], silence(max(0, length - samples.shape[1]))], axis=1)


def reverse(samples: Samples) -> Samples:
    """Returns the sound played backwards."""
    return np.ascontiguousarray(samples[:, ::-1])


def fade_out(samples: Samples, sound_rate: int = SOUND_RATE) -> Samples:
    """Returns the sound with its last CROSS_FADE_S seconds faded to silence along a raised cosine."""
    length = min(samples.shape[1], _fade_length(sound_rate))
    faded = samples.copy()
    if length:
        faded[:, -length:] *= (0.5 + 0.5 * np.cos(np.pi * _instants(length))).astype(np.float32)
    return faded


def fade_in(samples: Samples, sound_rate: int = SOUND_RATE) -> Samples:
    """Returns the sound with its first CROSS_FADE_S seconds faded in from silence."""
    return reverse(fade_out(reverse(samples), sound_rate))


def cross_fade(
    source: Samples, new: Samples, *, lead: int = 0, correlation: float = 0.0, sound_rate: int = SOUND_RATE
) -> Samples:
    """Returns `source` followed by `new`, of which the first `lead` samples overlap the source's last ones.

    The result has the length source + new - lead. The cross-fade ends at the joint, so that everything after the
    joint is new sound. `correlation` (0..1) is that of the two sounds there: equal power for 0, equal gain for 1, so
    that the loudness is constant. Without a lead, the source fades out before the joint and `new` fades in after it.
    """
    length = min(source.shape[1], lead, _fade_length(sound_rate))
    if not length:
        return np.concatenate([fade_out(source, sound_rate), fade_in(new[:, lead:], sound_rate)], axis=1)
    rise = 0.5 - 0.5 * np.cos(np.pi * _instants(length))
    fall = 1 - rise
    power = rise**2 + fall**2 + 2 * correlation * rise * fall
    mixed = (source[:, -length:] * fall + new[:, lead - length : lead] * rise) / np.sqrt(power)
    return np.concatenate([source[:, :-length], mixed.astype(np.float32), new[:, lead:]], axis=1)


def continue_sound(source: Samples, generated: Samples, lead: int, sound_rate: int = SOUND_RATE) -> Samples:
    """Returns `source` continued by `generated`, joined inaudibly: [2, source + generated - lead].

    The first `lead` samples of `generated` are the model's rendition of the source's last ones, with another phase and
    loudness. So `generated` is shifted to the source's phase at the joint, by at most MAX_LAG_S, and scaled to its
    loudness, channel by channel; over GAIN_RETURN_S it returns to its own. The source changes only in its last
    CROSS_FADE_S. After silence, or without a lead, `generated` fades in at the joint.

    The shift is undone within the last MAX_LAG_S + CROSS_FADE_S of the result. To avoid that, pass as much more
    generated sound and cut it off.
    """
    audible = min(lead, source.shape[1], round(LOUDNESS_S * sound_rate))
    end = source[:, source.shape[1] - audible :]
    gain = matching_gain(end, generated[:, lead - audible : lead])
    lag, correlation = best_lag(source, generated, lead, sound_rate)
    levelled = _levelled(_shifted(generated, lag), lead, gain, sound_rate)
    if not end.any():
        return cross_fade(source, levelled[:, lead:], sound_rate=sound_rate)
    return cross_fade(source, levelled, lead=lead, correlation=correlation, sound_rate=sound_rate)


def precede_sound(generated: Samples, source: Samples, lead: int, sound_rate: int = SOUND_RATE) -> Samples:
    """Mirrors `continue_sound`: the last `lead` samples of `generated` are a rendition of the source's first ones."""
    return reverse(continue_sound(reverse(source), reverse(generated), lead, sound_rate))


def matching_gain(source: Samples, generated: Samples) -> NDArray[np.float64]:
    """Returns the gain of each channel, [2], that makes `generated` as loud as `source`, in 1 / MAX_GAIN..MAX_GAIN.

    Levels below SILENCE count as SILENCE, so that noise is not amplified. No samples give a gain of 1.
    """
    if not source.shape[1]:
        return np.ones(2)
    powers = [np.square(side, dtype=np.float64).mean(axis=1) + SILENCE**2 for side in (source, generated)]
    gain: NDArray[np.float64] = np.clip(np.sqrt(powers[0] / powers[1]), 1 / MAX_GAIN, MAX_GAIN)
    return gain


def best_lag(source: Samples, generated: Samples, lead: int, sound_rate: int = SOUND_RATE) -> tuple[int, float]:
    """Returns (lag, correlation): how many samples later `generated` is read to match the phase of the source's end.

    The lag is within MAX_LAG_S both ways; of equal correlations (a tone) the smallest lag wins. It is 0 if no lag
    reaches MIN_CORRELATION. The correlation is in 0..1.
    """
    least = _fade_length(sound_rate)
    most = min(round(MAX_LAG_S * sound_rate), generated.shape[1] - lead, lead - least)
    length = min(source.shape[1], lead - most, round(LAG_WINDOW_S * sound_rate))
    if most < 0 or length < least:
        return 0, 0.0
    end = source[:, -length:].astype(np.float64)
    around = generated[:, lead - length - most : lead + most].astype(np.float64)
    products = sum(np.correlate(there, here, "valid") for there, here in zip(around, end, strict=True))
    energy = np.concatenate([[0.0], np.cumsum(np.square(around).sum(axis=0))])
    energies = (energy[length:] - energy[:-length]) * np.square(end).sum()
    correlations = products / np.sqrt(np.maximum(energies, (length * SILENCE**2) ** 2))
    lags = np.arange(-most, most + 1)
    best = int(np.argmax(correlations * (1 - _LAG_PENALTY * np.abs(lags) / max(1, most))))
    if correlations[best] < MIN_CORRELATION:
        best = most
    return int(lags[best]), float(np.clip(correlations[best], 0, 1))


def _shifted(samples: Samples, lag: int) -> Samples:
    """Returns the sound read `lag` samples later, of equal length; a cross-fade at the end undoes a positive lag."""
    if lag <= 0:
        return np.concatenate([silence(-lag), samples[:, : samples.shape[1] + lag]], axis=1)
    return cross_fade(samples[:, lag:], samples, lead=samples.shape[1] - lag)


def _levelled(samples: Samples, joint: int, gain: NDArray[np.float64], sound_rate: int) -> Samples:
    """Returns the sound with `gain` [2] up to sample `joint`, returning to gain 1 along a cosine in dB after it.

    A gain that would make samples around the joint clip is reduced.
    """
    length = round(GAIN_RETURN_S * sound_rate)
    peak = np.abs(samples[:, max(0, joint - length) : joint + length]).max(axis=1, initial=0)
    gain = np.minimum(gain, np.maximum(1, 1 / np.maximum(peak, 1e-9)))
    share = np.ones(samples.shape[1])
    after = share[joint:]
    after[:] = 0
    after[:length] = (0.5 + 0.5 * np.cos(np.pi * _instants(length)))[: after.size]
    return (samples * gain[:, None] ** share).astype(np.float32)


def _fade_length(sound_rate: int) -> int:
    return round(CROSS_FADE_S * sound_rate)


def _instants(length: int) -> NDArray[np.float64]:
    """Returns the times of the samples in a fade of `length` samples, in 0..1."""
    return (np.arange(length) + 0.5) / length
