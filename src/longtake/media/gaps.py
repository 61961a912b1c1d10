"""Long silence within a stream of sound, as arrays that take no memory and that need not be processed."""

from collections.abc import Iterator

import numpy as np

from longtake.media.sound import Samples


def gap(length: int) -> Samples:
    """Returns `length` silent samples [2, length] that take no memory: all elements of the array share one stored 0.

    The array is read-only. A slice of it is a gap, too.
    """
    return np.broadcast_to(np.float32(0), (2, length))


def is_gap(piece: Samples, longer_than: int) -> bool:
    """Returns True if `piece` [2, n] is a gap of more than `longer_than` samples.

    A gap is silence that takes no memory: an array that `gap` has made, or a slice of such an array. Other silence is
    no gap.

    `longer_than` is at least 1.
    """
    return piece.shape[1] > longer_than and piece.strides == (0, 0)


def batches(stream: Iterator[Samples], least: int) -> Iterator[Samples]:
    """Yields the sound of `stream` in longer pieces, because many short ones are processed slowly.

    Pieces are joined until they have at least `least` samples together. Fewer samples are yielded only at the end of
    `stream` and before a long gap. A long gap is silence made by `gap`, which takes no memory, of more than `least`
    samples. It is yielded unchanged.

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
