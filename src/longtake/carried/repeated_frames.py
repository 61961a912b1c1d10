"""Finds out in which frames a source shows a new picture, if it shows each picture in several frames.

Such sources are cartoons with 12 pictures per second in a file of 24 frames per second, films of 24 pictures in a file
of 30, clocks, and programs that show text.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.optical_flow import scaled_down

SIZE = (420, 240)
"""Frames are compared at this many columns and rows, if they have more."""

SAME = 8 / 255
"""Two neighbouring frames show the same picture if no place of them differs by more than this (0..1), smoothed."""

SAME_SHARE = 0.1
"""And if no place differs by more than this share of the greatest such difference. So slow motion is no repetition."""

CLEARLY = 4
"""Most frames with a new picture differ by more than this many times as much as any with the same one. In nearly still
footage they do not: there is no such gap between motion and noise."""

LEAST_INTERVALS = 3
"""Fewer intervals between new pictures do not tell how long a picture is usually shown."""

MOST_INTERVALS = 12
"""Only the last ones count."""

LEAST_PERIOD = 1.1
"""A picture is shown for at least this many frames in the mean if the pictures come regularly."""

LEAST_IRREGULAR_PERIOD = 1.3
"""The same if they do not."""

REGULAR = 0.75
"""The pictures come regularly if none comes more than this many frames too early or too late."""

LEAST_REPEATS = 3
"""They come regularly only if at least this many of the last ones have been shown in more than one frame. Footage that
repeats a frame now and then does not tell when it repeats the next one."""

IDLE = 6
"""A picture that has been shown for this many frames, and for twice as long as usual, stays."""

ROUNDING = 0.25
"""The error of a fitted number of frames."""


@dataclass(frozen=True)
class RepeatedFrames:
    """When a source shows its next pictures.

    numbers: the number of one frame of the source for each of its pictures, 0 for the frame next to the new ones.
    period: for how many frames a picture is shown in the mean. Infinite if the last picture stays.
    shown: for how many frames the last picture has been shown. For a period such as 2.5 it may be a fraction.
    is_regular: True if all pictures are shown equally long.
    """

    numbers: tuple[int, ...]
    period: float
    shown: float
    is_regular: bool = False

    @classmethod
    def of(cls, frames: NDArray[np.uint8]) -> "RepeatedFrames | None":
        """Returns None if almost all frames show new pictures, if all show the same one, or if they are too few to
        tell.

        frames: the source's frames [T, H, W, 3] of one shot, the nearest one first.
        """
        new = np.flatnonzero(_is_new(frames))
        if not len(new):
            return None
        numbers, shown = (0, *(int(each) + 1 for each in new)), float(new[0] + 1)
        recent = new[: MOST_INTERVALS + 1]
        usual = float(np.diff(recent).mean()) if len(recent) > 1 else 1.0
        if shown >= max(IDLE, 2 * usual):
            return cls(numbers, math.inf, shown)
        if len(recent) <= LEAST_INTERVALS:
            return None
        steps = np.arange(len(recent))
        period, first = (float(each) for each in np.polyfit(steps, recent, 1))
        repeats = int((np.diff(recent) > 1).sum())
        if repeats >= LEAST_REPEATS and np.abs(recent - first - period * steps).max() <= REGULAR:
            return cls(numbers, period, first + 1, is_regular=True) if period >= LEAST_PERIOD else None
        return cls(numbers, usual, shown) if usual >= LEAST_IRREGULAR_PERIOD else None

    def steps(self, distance: int) -> int:
        """Returns how many pictures after the source's last one a new frame shows.

        distance: the number of new frames between the source and this frame.
        """
        return max(0, int((self.shown + distance + ROUNDING) / self.period))


def _is_new(frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Returns for each frame but the last one of [T, H, W, 3] if it shows another picture than the following one."""
    lumas = [cv2.cvtColor(scaled_down(frame, *SIZE), cv2.COLOR_RGB2GRAY) for frame in frames]
    found = np.array([np.abs(cv2.GaussianBlur(one - other, (0, 0), 1)).max() for one, other in pairwise(lumas)])
    new: NDArray[np.bool_] = found > min(SAME, SAME_SHARE * float(found.max(initial=0)))
    if new.any() and not new.all() and np.quantile(found[new], 0.25) < CLEARLY * found[~new].max():
        return np.ones_like(new)
    return new
