"""Finds where the shot begins that meets the new frames: what a source shows before a cut says nothing about them."""

import numpy as np
from numpy.typing import NDArray

CUT = 4.0
"""At a cut, two neighbouring frames differ by more than this many times as much as any other two around it."""

AROUND = 12
"""The number of differences on each side that it is compared with."""

LEAST_CHANGE = 8.0
"""At a cut, two neighbouring frames differ by at least this much in the mean, of 255."""

SAMPLED = 4
"""The difference of two frames is measured at one pixel of each square of this many by this many."""


def changes(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns the mean difference of each two neighbouring frames, 0..255, of frames [T, H, W, 3]: [T - 1]."""
    few = frames[:, ::SAMPLED, ::SAMPLED].astype(np.float32)
    found: NDArray[np.float32] = np.abs(np.diff(few, axis=0)).mean(axis=(1, 2, 3))
    return found


def shot_length(frames: NDArray[np.uint8]) -> int:
    """Returns how many of a source's frames [T, H, W, 3], the nearest one first, are of the shot that meets the new
    frames: those after the last cut."""
    found = changes(frames)
    for number, change in enumerate(found):
        around = np.concatenate([found[max(0, number - AROUND) : number], found[number + 1 : number + 1 + AROUND]])
        if len(around) and change >= LEAST_CHANGE and change > CUT * around.max():
            return number + 1
    return len(frames)
