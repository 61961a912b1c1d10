"""Finds the positions of decoded pieces of sound by their timestamps, which can be wrong by milliseconds and can drift.

A drift is a growing difference between the timestamps and the number of samples. It arises if two clocks differ.
"""

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np

from longtake.media.sound import Samples

Piece = tuple[int | None, Samples]
"""A decoded piece of sound: (position, samples [2, n]). The position is the timestamp as a number of samples, or None
if the piece has no timestamp."""

_GAP_S = 0.015
"""A step of the timestamps of more than this many seconds counts as a gap or an overlap; a smaller one, as an error of
the clock. In most codecs a packet lasts at least 20 ms, so one lost packet is a gap."""

_ROUNDING_S = 0.001
"""Largest error in seconds of a timestamp that a file stores in whole milliseconds."""

_WINDOW = 13
"""Number of consecutive pieces of decoded sound whose timestamps are compared with the lengths of the pieces before
them. There is a gap before the first piece only if the timestamps of all are later than these lengths say. A single
late one proves nothing: browsers give packets times that are wrong by some milliseconds, or by tens of milliseconds if
they are busy."""

_OUT_OF_STEP_S = 0.04
"""Largest difference in seconds between the sound and its timestamps that is left as it is. If a slow drift makes it
larger, sound and lips would visibly not match, so the sound is lengthened or shortened a little."""

_STRETCH = 1 / 500
"""Largest share by which a piece of sound is lengthened or shortened to correct a drift. It changes the pitch by 4
cents, too little to hear."""


def placed(pieces: Iterable[Piece], rate: int) -> Iterator[tuple[int, Samples]]:
    """Corrects the timestamps of decoded sound: yields each piece as (position of its first sample, samples [2, n]).

    Positions are counted in samples. Position 0 is at the timestamp 0.

    pieces: pairs (timestamp as a number of samples, or None if unknown; samples [2, n]) in the order of the file.
    rate: number of samples per second.

    A piece begins where the previous one ended, except at gaps and overlaps. Timestamps that are wrong by some
    milliseconds, and slow drifts of the clock, do not count as gaps. If a drift makes the sound more than 40 ms earlier
    or later than its timestamps, pieces are lengthened or shortened by up to 0.2 %.
    """
    end = drift = 0
    first = True
    for window in _windows(pieces):
        if first:
            end, first = _beginning(window, rate), False
        step = _lasting_step(window, end + drift)
        if abs(step) > _GAP_S * rate:
            end += step
        else:
            drift += step
        _, samples = window[0]
        change = _compensation(drift, samples.shape[1], rate)
        if change:
            samples = stretched(samples, samples.shape[1] + change)
            drift -= change
        yield end, samples
        end += samples.shape[1]


def _windows(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Yields for each piece of sound a list of this piece and the pieces after it, at most 13 (_WINDOW) in all."""
    waiting: deque[Piece] = deque()
    for piece in pieces:
        waiting.append(piece)
        if len(waiting) == _WINDOW:
            yield list(waiting)
            waiting.popleft()
    while waiting:
        yield list(waiting)
        waiting.popleft()


def _delays(window: list[Piece], expected: int) -> list[int]:
    """Returns by how many samples each timestamp in `window` is later than expected; negative if it is earlier.

    window: consecutive pieces of decoded sound, each with its timestamp. Those without one are left out of the result.
    expected: position at which the first piece is expected. Each other piece is expected at this position plus the
        number of samples of the pieces before it.
    """
    delays = []
    for position, samples in window:
        if position is not None:
            delays.append(position - expected)
        expected += samples.shape[1]
    return delays


def _beginning(window: list[Piece], rate: int) -> int:
    """Returns the sample number at which the file's sound begins, according to the timestamps of its first pieces.

    Usually the result is the timestamp of the first piece (0 if it has none). That timestamp can be wrong. So the
    beginning is also computed from each piece that no gap precedes: its timestamp minus the number of samples of the
    pieces before it. If the median of these values differs by more than 1 ms, the median is the result.

    window: the file's first pieces.
    rate: number of samples per second.
    """
    position = window[0][0] or 0
    # Pieces after a gap do not count. Timestamps are rounded by up to 1 ms.
    near = [delay for delay in _delays(window, position) if abs(delay) <= _GAP_S * rate]
    delay = round(float(np.median(near))) if near else 0
    return position if abs(delay) <= _ROUNDING_S * rate else position + delay


def _lasting_step(window: list[Piece], expected: int) -> int:
    """Returns the number of samples by which all pieces of sound are too late, or minus the number by which all are too
    early.

    If all are too late or all too early, it is the delay of the piece that is nearest to its expected position;
    otherwise 0. Examples: 20 for delays of 20, 30 and 25 samples; -20 for -20, -30 and -25; 0 for -5, 30 and 25.

    window: consecutive pieces of decoded sound. Those without a timestamp do not count.
    expected: position at which the first piece is expected. Each other piece is expected at this position plus the
        number of samples of the pieces before it.
    """
    delays = _delays(window, expected)
    least, most = min(delays, default=0), max(delays, default=0)
    return least if least > 0 else min(most, 0)


def _compensation(drift: int, length: int, rate: int) -> int:
    """Returns by how many samples a piece of sound is lengthened to correct a drift. A negative number shortens it.

    drift: number of samples by which the timestamps are later than the sound; negative if they are earlier.
    length: number of samples of the piece.
    rate: number of samples per second.

    Only the part of the drift above 40 ms (_OUT_OF_STEP_S) is corrected, by at most 1/500 (_STRETCH) of `length`.
    """
    excess = max(0, abs(drift) - round(_OUT_OF_STEP_S * rate))
    change = min(excess, round(length * _STRETCH))
    return change if drift > 0 else -change


def stretched(samples: Samples, length: int) -> Samples:
    """Returns the sound [2, n] resampled to `length` samples by cubic interpolation. `n` must be at least 4."""
    have = samples.shape[1]
    at = np.arange(length) * (have / length)
    near = np.clip(at.astype(int), 1, have - 3)
    t = at - near
    weights = (
        -t * (t - 1) * (t - 2) / 6,
        (t + 1) * (t - 1) * (t - 2) / 2,
        -(t + 1) * t * (t - 2) / 2,
        (t + 1) * t * (t - 1) / 6,
    )
    total = sum(weight * samples[:, near + offset] for offset, weight in zip(range(-1, 3), weights, strict=True))
    return np.asarray(total, np.float32)
