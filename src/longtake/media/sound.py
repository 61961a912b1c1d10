"""Computes with stereo sound, float32 [2, samples] in -1..1: lengths, fades, and joins of source and new sound."""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from longtake.media.formats import SOUND_RATE

Samples = NDArray[np.float32]
"""Stereo sound [2, samples] in -1..1."""

CROSS_FADE_S = 0.015
"""Length of a cross-fade in seconds. It avoids a click and is too short to be heard as a mix; 10 to 20 ms are usual."""
FADE_SAMPLES = round(CROSS_FADE_S * SOUND_RATE)
"""The length of a cross-fade in samples."""

LOUDNESS_S = 0.2
"""Seconds of the source's sound, next to the new sound, to whose loudness the generated sound is adjusted."""

GAIN_RETURN_S = 1.0
"""Generated sound begins with the loudness of the source's sound. Within this many seconds after the source's end it
returns to its own loudness, too slowly to be noticed."""

MAX_GAIN = 4.0
"""Largest gain (12 dB) that adjusts the loudness of generated sound to the source's; the smallest is 1 / MAX_GAIN. If
the loudness differs more, a part of the difference stays, because the model has generated another kind of sound."""

SILENCE = 1e-3
"""Amplitude below which sound counts as silent: -60 dB of full scale."""

MAX_LAG_S = 0.010
"""Largest number of seconds by which generated sound is shifted to match the source's phase: half a period of a 50 Hz
tone."""

LAG_WINDOW_S = 0.030
"""Seconds at the end of the source's sound that are compared with the generated sound, to find by how much time the
generated sound must be shifted."""

MIN_CORRELATION = 0.3
"""Lowest correlation (0..1) of source and generated sound at which the generated sound is shifted."""

_LAG_PENALTY = 0.05
"""Share by which the correlation is reduced at the largest shift, and proportionally less at smaller shifts. So the
smallest of several equally good shifts is chosen."""


def num_samples(num_frames: int, rate: Fraction, sound_rate: int = SOUND_RATE) -> int:
    """Returns how many samples last as long as `num_frames` frames at `rate` frames per second, rounded.

    `sound_rate` is in Hz. The part of a video from frame m to frame n has num_samples(n) - num_samples(m) samples.
    num_samples(n - m) would be wrong, because rounded lengths of parts do not add up to the length of the video.
    """
    return round(num_frames * sound_rate / rate)


def silence(length: int) -> Samples:
    """Returns `length` silent samples [2, length]."""
    return np.zeros((2, length), np.float32)


def fit_length(samples: Samples, length: int) -> Samples:
    """Returns the first `length` samples, as a view of `samples`. If there are fewer, silence is appended to a copy."""
    missing = length - samples.shape[1]
    return samples[:, :length] if missing <= 0 else np.concatenate([samples, silence(missing)], axis=1)


def reverse(samples: Samples) -> Samples:
    """Returns the samples in reverse order, so that the sound plays backwards."""
    return np.ascontiguousarray(samples[:, ::-1])


def fade_out(samples: Samples) -> Samples:
    """Returns the sound with its last 15 ms (CROSS_FADE_S) faded to silence along a raised cosine."""
    length = min(samples.shape[1], FADE_SAMPLES)
    faded = samples.copy()
    if length:
        faded[:, -length:] *= (0.5 + 0.5 * np.cos(np.pi * _instants(length))).astype(np.float32)
    return faded


def fade_in(samples: Samples) -> Samples:
    """Returns the sound with its first 15 ms (CROSS_FADE_S) faded in from silence along a raised cosine."""
    return reverse(fade_out(reverse(samples)))


def cross_fade(source: Samples, new: Samples, *, lead: int = 0, correlation: float = 0.0) -> Samples:
    """Returns `source` followed by `new`, without a click between them.

    The two sounds overlap: the first `lead` samples of `new` are for the same time as the last `lead` samples of
    `source`. So the result is `lead` samples shorter than the two sounds together.
    - If `lead` is above 0, the sounds are cross-faded during the last 15 ms of `source` (CROSS_FADE_S), or during
      `lead` samples if that is shorter.
    - If `lead` is 0, `source` fades out before its end and `new` fades in after it.

    correlation: similarity (0..1) of the two sounds in the cross-fade. It sets the curve so that the loudness stays
        constant: equal power for 0, equal gain for 1.
    """
    length = min(source.shape[1], lead, FADE_SAMPLES)
    if not length:
        return np.concatenate([fade_out(source), fade_in(new[:, lead:])], axis=1)
    rise = 0.5 - 0.5 * np.cos(np.pi * _instants(length))
    fall = 1 - rise
    power = rise**2 + fall**2 + 2 * correlation * rise * fall
    mixed = (source[:, -length:] * fall + new[:, lead - length : lead] * rise) / np.sqrt(power)
    return np.concatenate([source[:, :-length], mixed.astype(np.float32), new[:, lead:]], axis=1)


def continue_sound(source: Samples, generated: Samples, lead: int) -> Samples:
    """Returns `source` continued by `generated`, so that the transition is inaudible.

    The first `lead` samples of `generated` are the model's version of the last `lead` samples of `source`. The result
    is `lead` samples shorter than the two sounds together. The model's version has another phase and loudness than
    `source`, so three steps hide the transition at the end of `source`:
    1. `generated` is shifted by at most 10 ms (MAX_LAG_S) to match the phase of `source` (`best_lag`).
    2. Each channel of `generated` is scaled to the loudness of `source`. The gain returns to 1 within 1 s
       (GAIN_RETURN_S) after the end of `source`.
    3. The two sounds are cross-faded. Only the last 15 ms of `source` (CROSS_FADE_S) change.

    If `lead` is 0, or the end of `source` is silent and `generated` is not silent there, there is no overlap: `source`
    fades out, then `generated` fades in.

    The last 25 ms (MAX_LAG_S + CROSS_FADE_S) of the result may be disturbed: the shifted sound can be too short, and is
    then cross-faded to the unshifted sound. To avoid that, pass 25 ms more of generated sound, and cut them off the
    result.
    """
    audible = min(lead, source.shape[1], round(LOUDNESS_S * SOUND_RATE))
    end = source[:, source.shape[1] - audible :]
    gain = matching_gain(end, generated[:, lead - audible : lead])
    lag, correlation = best_lag(source, generated, lead)
    levelled = _levelled(_shifted(generated, lag), lead, gain)
    if not end.any() and generated[:, lead - audible : lead].any():
        return cross_fade(source, levelled[:, lead:])
    return cross_fade(source, levelled, lead=lead, correlation=correlation)


def matching_gain(source: Samples, generated: Samples) -> NDArray[np.float64]:
    """Returns for each channel the factor that makes `generated` as loud as `source`, as an array [2].

    Factors are in 1/4..4 (MAX_GAIN), and 1 if `source` has no samples. Both sounds are measured as if they also
    contained noise with the root mean square 0.001 (SILENCE), so that faint noise is not amplified.
    """
    if not source.shape[1]:
        return np.ones(2)
    powers = [np.square(side, dtype=np.float64).mean(axis=1) + SILENCE**2 for side in (source, generated)]
    gain: NDArray[np.float64] = np.clip(np.sqrt(powers[0] / powers[1]), 1 / MAX_GAIN, MAX_GAIN)
    return gain


def loudness(samples: Samples) -> float:
    """Returns the root mean square of the samples of both channels, 0..1; 0 if there are none."""
    return float(np.sqrt(np.square(samples, dtype=np.float64).mean())) if samples.size else 0.0


def amplified(samples: Samples, least: float) -> Samples:
    """Returns the sound amplified to the loudness `least`, a root mean square in 0..1. A louder sound is unchanged.

    All samples are multiplied by the same factor. It is limited so that no sample exceeds full scale. In this case the
    result is quieter than `least`.
    """
    peak = max(float(np.abs(samples).max(initial=0)), 1e-9)
    gain = min(least / max(loudness(samples), 1e-9), 1 / peak)
    return samples if gain <= 1 else (samples * gain).astype(np.float32)


def best_lag(source: Samples, generated: Samples, lead: int) -> tuple[int, float]:
    """Returns (lag, correlation): the shift in samples at which `generated` best matches the phase of `source`.

    The first `lead` samples of `generated` are for the same time as the last ones of `source`. The two sounds are
    compared there.

    lag: sample n of the shifted sound is sample n + lag of `generated`. It is in -480..480 (10 ms, MAX_LAG_S). If
        several lags match equally well, as for a tone, the one nearest to 0 is chosen. The lag is 0 if the correlation
        is below 0.3 (MIN_CORRELATION) at every lag.
    correlation: similarity (0..1) of the two sounds at this lag.

    If the sounds are too short to compare, the result is (0, 0).
    """
    least = FADE_SAMPLES
    most = min(round(MAX_LAG_S * SOUND_RATE), generated.shape[1] - lead, lead - least)
    length = min(source.shape[1], lead - most, round(LAG_WINDOW_S * SOUND_RATE))
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
    """Returns the sound shifted so that its sample n is sample n + lag of `samples`; the length stays the same.

    If `lag` is negative, the result begins with silence. If it is positive, the shifted sound is `lag` samples too
    short, so the result is cross-faded to the unshifted sound at its end.
    """
    if lag <= 0:
        return np.concatenate([silence(-lag), samples[:, : samples.shape[1] + lag]], axis=1)
    return cross_fade(samples[:, lag:], samples, lead=samples.shape[1] - lag)


def _levelled(samples: Samples, joint: int, gain: NDArray[np.float64]) -> Samples:
    """Returns the sound with each channel multiplied by its factor in `gain` [2].

    Samples before the index `joint` are multiplied by the full factor. In the second after it (GAIN_RETURN_S), the gain
    in dB falls to 0 along a cosine. If a sample within a second of `joint` would exceed full scale, the factor of its
    channel is reduced.

    joint: index of the first sample after the source's sound.
    """
    length = round(GAIN_RETURN_S * SOUND_RATE)
    peak = np.abs(samples[:, max(0, joint - length) : joint + length]).max(axis=1, initial=0)
    gain = np.minimum(gain, np.maximum(1, 1 / np.maximum(peak, 1e-9)))
    share = np.ones(samples.shape[1])
    after = share[joint:]
    after[:] = 0
    after[:length] = (0.5 + 0.5 * np.cos(np.pi * _instants(length)))[: after.size]
    return (samples * gain[:, None] ** share).astype(np.float32)


def _instants(length: int) -> NDArray[np.float64]:
    """Returns the time of each sample in a fade of `length` samples, as a share (0..1) of the fade's duration."""
    return (np.arange(length) + 0.5) / length
