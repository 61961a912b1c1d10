"""Sound on one sample clock: float32 [2, samples] in -1..1, whose length follows from the count of frames."""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from longtake.media.formats import SOUND_RATE

Samples = NDArray[np.float32]

CROSS_FADE_S = 0.015
"""Long enough for no click, short enough to be no audible mix. Between the 10 and 20 ms of the trade."""

LOUDNESS_S = 0.2
"""The end of the kept sound whose loudness the new sound takes up."""

GAIN_RETURN_S = 1.0
"""How long it takes the new sound to come to its own level: too slow to be heard as a change."""

MOST_GAIN = 4.0
"""12 dB: beyond, the model's sound is another one, not a louder one."""

SILENCE = 1e-3
"""-60 dB of full scale."""

MOST_LAG_S = 0.010
"""How far the new sound may be shifted to be in step: half a period of 50 Hz, and too little to be seen."""

LAG_WINDOW_S = 0.030
LEAST_LIKENESS = 0.3

_NEARNESS = 0.05
"""How much less alike the farthest place counts."""


def num_samples(num_frames: int, rate: Fraction, sound_rate: int = SOUND_RATE) -> int:
    """Samples that play beside `num_frames` frames from the start of the file at `rate` frames per second.

    Always ask with the count from the start: lengths of pieces rounded one by one drift from the picture.
    """
    return round(num_frames * sound_rate / rate)


def silence(length: int) -> Samples:
    return np.zeros((2, length), np.float32)


def fit(samples: Samples, length: int) -> Samples:
    """The first `length` samples, with silence after the last where there are fewer."""
    return np.concatenate([samples[:, :length], silence(max(0, length - samples.shape[1]))], axis=1)


def reverse(samples: Samples) -> Samples:
    """The sound played backwards: of a reversed video, each instant keeps the sound it had."""
    return np.ascontiguousarray(samples[:, ::-1])


def fade_out(samples: Samples, sound_rate: int = SOUND_RATE) -> Samples:
    """The same sound, gone to silence within its last `CROSS_FADE_S`: a raised cosine, flat at both ends."""
    length = min(samples.shape[1], _fade_length(sound_rate))
    faded = samples.copy()
    if length:
        faded[:, -length:] *= (0.5 + 0.5 * np.cos(np.pi * _instants(length))).astype(np.float32)
    return faded


def fade_in(samples: Samples, sound_rate: int = SOUND_RATE) -> Samples:
    """The same sound, come from silence within its first `CROSS_FADE_S`."""
    return reverse(fade_out(reverse(samples), sound_rate))


def join(kept: Samples, new: Samples, *, lead: int = 0, likeness: float = 0.0, sound_rate: int = SOUND_RATE) -> Samples:
    """`kept`, then `new` less its first `lead` samples, which are those that sound together with kept's last.

    The cross-fade lies inside the kept part: from the joint on, all is new, and the joint stays where the picture
    has it. `likeness` in 0..1 is the correlation of the two sounds there: between strangers (0) the gains' squares add
    up to 1, between like ones (1) the gains, so that loudness holds. Without a lead the old fades out before the joint
    and the new fades in after it; `silence(n)` as new sound is how a kept sound ends where nothing follows.

    Returns [2, kept + new - lead].
    """
    length = min(kept.shape[1], lead, _fade_length(sound_rate))
    if not length:
        return np.concatenate([fade_out(kept, sound_rate), fade_in(new[:, lead:], sound_rate)], axis=1)
    rise = 0.5 - 0.5 * np.cos(np.pi * _instants(length))
    fall = 1 - rise
    power = rise**2 + fall**2 + 2 * likeness * rise * fall
    mixed = (kept[:, -length:] * fall + new[:, lead - length : lead] * rise) / np.sqrt(power)
    return np.concatenate([kept[:, :-length], mixed.astype(np.float32), new[:, lead:]], axis=1)


def continue_sound(kept: Samples, made: Samples, lead: int, sound_rate: int = SOUND_RATE) -> Samples:
    """`kept` with the model's continuation, so that nobody hears the joint: [2, kept + made - lead].

    `made` [2, m] begins with the model's rendition of kept's last `lead` samples. It comes with another phase and
    level than the original; so it is shifted by the few milliseconds that bring its wave in step with kept's at the
    joint, and begins as loud as kept ends, each channel for itself; its own level is back after GAIN_RETURN_S.
    All of `kept` but the cross-fade in its last CROSS_FADE_S stays sample for sample. After silence, or without a
    lead, the new sound fades in behind the joint. A shift that runs out of sound is taken back in the last
    MOST_LAG_S + CROSS_FADE_S: give so much more than is wanted and cut it off.
    """
    audible = min(lead, kept.shape[1], round(LOUDNESS_S * sound_rate))
    gain = matching_gain(kept[:, kept.shape[1] - audible :], made[:, lead - audible : lead])
    lag, likeness = best_lag(kept, made, lead, sound_rate)
    levelled = _levelled(_shifted(made, lag), lead, gain, sound_rate)
    if not kept[:, kept.shape[1] - audible :].any():
        return join(kept, levelled[:, lead:], sound_rate=sound_rate)
    return join(kept, levelled, lead=lead, likeness=likeness, sound_rate=sound_rate)


def precede_sound(made: Samples, kept: Samples, lead: int, sound_rate: int = SOUND_RATE) -> Samples:
    """The mirror of `continue_sound`: `made` ends with the model's rendition of kept's first `lead` samples."""
    return reverse(continue_sound(reverse(kept), reverse(made), lead, sound_rate))


def matching_gain(kept: Samples, made: Samples) -> NDArray[np.float64]:
    """What `made` [2, n] is to be multiplied with to be as loud as `kept` [2, n], per channel, within MOST_GAIN both
    ways. What is below the threshold of hearing counts as being at it: noise is not raised to answer silence."""
    if not kept.shape[1]:
        return np.ones(2)
    powers = [np.square(side, dtype=np.float64).mean(axis=1) + SILENCE**2 for side in (kept, made)]
    gain: NDArray[np.float64] = np.clip(np.sqrt(powers[0] / powers[1]), 1 / MOST_GAIN, MOST_GAIN)
    return gain


def best_lag(kept: Samples, made: Samples, lead: int, sound_rate: int = SOUND_RATE) -> tuple[int, float]:
    """By how many samples later than its place `made` is to be read to be in step with kept's end, and how alike the
    two then are (correlation in 0..1). No shift where no place within MOST_LAG_S is LEAST_LIKENESS alike; of several
    that are, as with a tone, the nearest."""
    least = _fade_length(sound_rate)
    most = min(round(MOST_LAG_S * sound_rate), made.shape[1] - lead, lead - least)
    length = min(kept.shape[1], lead - most, round(LAG_WINDOW_S * sound_rate))
    if most < 0 or length < least:
        return 0, 0.0
    end = kept[:, -length:].astype(np.float64)
    around = made[:, lead - length - most : lead + most].astype(np.float64)
    products = sum(np.correlate(there, here, "valid") for there, here in zip(around, end, strict=True))
    energy = np.concatenate([[0.0], np.cumsum(np.square(around).sum(axis=0))])
    energies = (energy[length:] - energy[:-length]) * np.square(end).sum()
    alike = products / np.sqrt(np.maximum(energies, (length * SILENCE**2) ** 2))
    lags = np.arange(-most, most + 1)
    best = int(np.argmax(alike * (1 - _NEARNESS * np.abs(lags) / max(1, most))))
    if alike[best] < LEAST_LIKENESS:
        best = most
    return int(lags[best]), float(np.clip(alike[best], 0, 1))


def _shifted(samples: Samples, lag: int) -> Samples:
    """Read `lag` samples later; where that runs out at the end, the sound is faded over to its own place."""
    if lag <= 0:
        return np.concatenate([silence(-lag), samples[:, : samples.shape[1] + lag]], axis=1)
    return join(samples[:, lag:], samples, lead=samples.shape[1] - lag)


def _levelled(samples: Samples, joint: int, gain: NDArray[np.float64], sound_rate: int) -> Samples:
    """Times `gain` per channel up to the joint, then, along a cosine in dB, back to the own level; never so much that
    it would clip."""
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
    """Sample centres within a fade, in 0..1."""
    return (np.arange(length) + 0.5) / length
