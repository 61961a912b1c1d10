"""Sound on one sample clock: float32 [2, samples] in -1..1, whose length follows from the count of frames."""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from longtake.media.formats import SOUND_RATE

Samples = NDArray[np.float32]

CROSS_FADE_S = 0.015
"""Long enough for no click, short enough to be no audible mix. Between the 10 and 20 ms of the trade."""


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


def join(
    kept: Samples, new: Samples, *, lead: int = 0, continues: bool = False, sound_rate: int = SOUND_RATE
) -> Samples:
    """`kept`, then `new` less its first `lead` samples, which are those that sound together with kept's last.

    The cross-fade lies inside the kept part: from the joint on, all is new, and the joint stays where the picture
    has it. `continues`: the new sound was made to continue the old, so both are alike and are mixed linearly;
    unlike sounds are mixed at equal power. Without a lead the old fades out before the joint and the new fades
    in after it; `silence(n)` as new sound is how a kept sound ends where nothing follows.

    Returns [2, kept + new - lead].
    """
    length = min(kept.shape[1], lead, _fade_length(sound_rate))
    if not length:
        return np.concatenate([fade_out(kept, sound_rate), fade_in(new[:, lead:], sound_rate)], axis=1)
    rise = _instants(length) if continues else np.sin(np.pi / 2 * _instants(length))
    fall = 1 - rise if continues else np.cos(np.pi / 2 * _instants(length))
    mixed = kept[:, -length:] * fall + new[:, lead - length : lead] * rise
    return np.concatenate([kept[:, :-length], mixed.astype(np.float32), new[:, lead:]], axis=1)


def _fade_length(sound_rate: int) -> int:
    return round(CROSS_FADE_S * sound_rate)


def _instants(length: int) -> NDArray[np.float64]:
    """Sample centres within a fade, in 0..1."""
    return (np.arange(length) + 0.5) / length
