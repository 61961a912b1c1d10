"""Mixes sound of any channel layout down to stereo. The level is only lowered around samples that would clip."""

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.fft import irfft, rfft  # here, because the process that decodes cannot import later
from numpy.typing import NDArray

from longtake.media.gaps import batches, gap, is_gap
from longtake.media.sound import Samples

_HALF = 0.7071
"""The weight that halves the power of a channel."""

_WEIGHTS = {
    **dict.fromkeys(("FL", "DL"), (1.0, 0.0)),
    **dict.fromkeys(("FR", "DR"), (0.0, 1.0)),
    **dict.fromkeys(("BL", "SL", "FLC", "WL", "BFL"), (_HALF, 0.0)),
    **dict.fromkeys(("BR", "SR", "FRC", "WR", "BFR"), (0.0, _HALF)),
    **dict.fromkeys(("TFL", "TSL", "TBL"), (0.5, 0.0)),
    **dict.fromkeys(("TFR", "TSR", "TBR"), (0.0, 0.5)),
    "FC": (_HALF, _HALF),
    **dict.fromkeys(("BC", "BFC"), (0.5, 0.5)),
    **dict.fromkeys(("TC", "TFC", "TBC"), (0.3536, 0.3536)),
}
"""FFmpeg's name of a channel -> its weights in the left and the right output channel. The weights are those of ITU-R
BS.775; channels above the listener have half the power of those at the sides. Low-frequency channels are left out."""

_FRONT, _BACK, _SIDE = ("FL", "FR"), ("BL", "BR"), ("SL", "SR")
_DEFAULT_CHANNELS = {
    2: _FRONT,
    3: (*_FRONT, "FC"),
    4: (*_FRONT, *_BACK),
    5: (*_FRONT, "FC", *_BACK),
    6: (*_FRONT, "FC", "LFE", *_BACK),
    7: (*_FRONT, "FC", "LFE", "BC", *_SIDE),
    8: (*_FRONT, "FC", "LFE", *_BACK, *_SIDE),
}
"""Number of channels -> names of the channels, for files that do not name them (plain PCM in Matroska and AVI)."""

REACH_S = 0.005
"""The limiter lowers the gain during the 2 x REACH_S seconds before a sample that would clip, and raises it again
during the 2 x REACH_S seconds after it. Such a change is heard neither as a click nor as a change of loudness."""

_BATCH = 28
"""The limiter processes at least `_BATCH` x reach samples at a time, plus 4 x reach samples around them, where reach is
the number of samples in 5 ms (REACH_S). The sum, 32 x reach, is a little below a power of 2 at usual sample rates,
which suits the Fourier transform."""


def mixed(planes: Samples, names: tuple[str, ...]) -> Samples:
    """Returns the sound `planes` [channels, n] mixed down to stereo [2, n]. The mix can have samples outside -1..1.

    `names` are FFmpeg's names of the channels, such as "FL". Stereo is unchanged, and a single channel is copied to
    both sides.
    """
    stereo: Samples = planes if names == _FRONT else weights(names) @ planes
    return stereo


@cache
def weights(names: tuple[str, ...]) -> Samples:
    """Returns the weights [2, channels] of the channels in a stereo mix: row 0 for the left side, row 1 for the right.

    names: FFmpeg's names of the channels, such as "FL". Each name has fixed weights (_WEIGHTS), with these exceptions:
    - A single channel has the weight 1 on both sides.
    - Low-frequency channels have the weight 0, and so have unknown names beside known ones.
    - If no name is known, the channels get the usual names for their number.
    - If all weights of one side are 0, each side is the mean of all channels instead.
    """
    if len(names) == 1:
        return np.ones((2, 1), np.float32)
    named = names if _WEIGHTS.keys() & set(names) else _DEFAULT_CHANNELS.get(len(names), names)
    table = np.array([_WEIGHTS.get(name, (0.0, 0.0)) for name in named], np.float32).T
    return table if table.any(axis=1).all() else np.full((2, len(names)), 1 / len(names), np.float32)


def limited(stream: Iterator[Samples], rate: int) -> Iterator[Samples]:
    """Yields the sound of `stream` limited to full scale: its level is lowered smoothly around samples outside -1..1.

    The yielded pieces have other lengths than those of `stream`, but the same number of samples in total.

    stream: consecutive pieces of sound [2, n] of any length.
    rate: number of samples per second.

    The gain falls before a sample outside -1..1 and rises after it. Sound more than 10 ms (2 x REACH_S) from such a
    sample is unchanged.
    """
    reach = max(1, round(REACH_S * rate))
    # The gain of a sample depends on 2 x `reach` samples on each side.
    kept = gap(2 * reach)
    for piece in batches(stream, _BATCH * reach):
        is_long = is_gap(piece, _BATCH * reach)
        waiting = np.concatenate([kept, piece[:, : 4 * reach] if is_long else piece], axis=1)
        if waiting.shape[1] > 4 * reach:
            yield _lowered(waiting, reach)
        kept = waiting[:, -4 * reach :]
        if is_long:
            yield piece[:, 4 * reach :]
    yield _lowered(np.concatenate([kept, gap(2 * reach)], axis=1), reach)


def _lowered(samples: Samples, reach: int) -> Samples:
    """Returns `samples` [2, n] limited to full scale, without the first and the last 2 x `reach` samples.

    reach: the gain of a sample depends on the 2 x `reach` samples before it, and on as many after it.
    """
    inner = samples[:, 2 * reach : samples.shape[1] - 2 * reach]
    peaks = np.abs(samples).max(axis=0)
    if peaks.max(initial=0) <= 1:
        return inner
    return np.asarray(inner * _gain(peaks, reach), np.float32)


def _gain(peaks: NDArray[np.float32], reach: int) -> NDArray[np.float64]:
    """Returns the factors (0..1) by which the limiter multiplies the samples: [n - 4 x reach].

    The first 2 x `reach` samples and the last 2 x `reach` samples get no factor.

    peaks: for each sample, the larger absolute value of its two channels, [n].
    reach: for each sample, the lowest factor that a sample within `reach` samples needs is found, and then averaged
        over `reach` samples on each side. So a factor depends on the 2 x `reach` samples on each side.
    """
    needed = 1 / np.maximum(peaks, 1.0).astype(np.float64)
    # The lowest gain that any sample within `reach` samples needs.
    lowest = _minima(needed, 2 * reach + 1)
    # The average of these gains over `reach` samples on each side. It is low enough for the sample in the middle,
    # because each of the averaged gains is.
    window = np.hanning(2 * reach + 3)[1:-1]
    return _averages(lowest, window / window.sum())


def _minima(values: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Returns the minimum of each run of `length` consecutive values: from [n], an array [n - length + 1]."""
    # The minima of 1, 2, 4, ... values. Two of them that overlap give those of any other number.
    have = 1
    while have < length:
        step = min(have, length - have)
        values = np.minimum(values[:-step], values[step:])
        have += step
    return values


def _averages(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the weighted sum of each run of k consecutive values: from [n], an array [n - k + 1].

    `weights` [k] must be symmetric. A Fourier transform computes the sums, so the time hardly depends on k.
    """
    size = 1 << (len(values) - 1).bit_length()
    averages = irfft(rfft(values, size) * rfft(weights, size), size)
    return averages[len(weights) - 1 : len(values)]
