"""Long silence within a stream of sound: pieces that have a length but take no memory, so that they cost no work."""

from collections.abc import Iterator

import numpy as np

from longtake.media.sound import Samples


def gap(length: int) -> Samples:
    """Returns `length` silent samples [2, length] that take no memory, because all of them are the same number.

    They can be read like other samples, and a slice of them is a gap, too. They cannot be written.
    """
    return np.broadcast_to(np.float32(0), (2, length))


def is_gap(piece: Samples, longer_than: int) -> bool:
    """Returns True if `piece` is a gap of more than `longer_than` samples (at least 1)."""
    return piece.shape[1] > longer_than and piece.strides == (0, 0)


def batches(stream: Iterator[Samples], least: int) -> Iterator[Samples]:
    """Yields the sound of `stream` in pieces of at least `least` samples, so that each piece is worth its work.

    Shorter are only the last piece and those before a gap. Gaps of more than `least` samples are yielded as they are.

    stream: consecutive pieces of sound [2, n] of any length.
    """
    waiting: list[Samples] = []
    have = 0
    for piece in stream:
        is_long = is_gap(piece, least)
        if not is_long:
            waiting.append(piece)
            have += piece.shape[1]
        if have >= least or (is_long and have):
            yield np.concatenate(waiting, axis=1)
            waiting, have = [], 0
        if is_long:
            yield piece
    if have:
        yield np.concatenate(waiting, axis=1)
