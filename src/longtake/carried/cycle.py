"""Finds the cycle in which an object changes its shape, as in a walk, and how far it moves on in the meantime."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.still_ground import MARGIN, FollowedObject

LEAST_PERIOD = 6
"""The shortest cycle that is searched, in frames. One that is shorter is found as two or more."""

LEAST_PAIRS = 4
"""At least this many frames are compared with those one period before."""

REPEATS = 0.12
"""A shape repeats if the difference of the shapes one period apart is at most this share of their contrast to the
ground."""

SWING_STEPS = 8
"""A shape that does not repeat goes back over at most this many frames, and then forth again."""

MEASURED = 16
"""The velocity of such an object is measured in this many frames."""


@dataclass(frozen=True)
class Cycle:
    """How an object goes on.

    velocity: (x, y) in pixels per frame.
    period: the number of frames after which the shape repeats; None if it goes backwards and forwards.
    reach: the number of frames over which it goes back, if it does.
    left: the difference of the shapes that are one period apart, as a share of their contrast to the ground.
    """

    velocity: NDArray[np.float64]
    period: int | None
    reach: int
    left: float

    @classmethod
    def of(cls, frames: NDArray[np.uint8], ground: NDArray[np.uint8], track: FollowedObject) -> "Cycle":
        """Returns how a followed object goes on.

        frames: the source's frames [T, H, W, 3], the nearest one first.
        ground: the same without objects, [H, W, 3].
        """
        shapes, centres, count = _shapes(frames, ground, track), track.centres, len(track.masks)
        periods = range(LEAST_PERIOD, count - LEAST_PAIRS + 1)
        errors = {period: _difference(shapes, period) for period in periods}
        period = min(errors, key=lambda each: errors[each], default=None)
        if period is not None and errors[period] <= REPEATS:
            ways = centres[:-period] - centres[period:]
            return cls(np.median(ways[:period], axis=0) / period, period, 0, errors[period])
        few = centres[:MEASURED]
        slope = np.polyfit(np.arange(len(few)), few, 1)[0] if len(few) > 1 else np.zeros(2)
        return cls(-slope, None, min(SWING_STEPS, count - 1), 1.0)

    def number(self, steps: int) -> int:
        """Returns the number of the frame whose shape is shown, `steps` frames after the nearest one: 0 for this."""
        if self.period is not None:
            return -steps % self.period
        turn = steps % max(1, 2 * self.reach)
        return min(turn, 2 * self.reach - turn)

    def way(self, steps: int) -> NDArray[np.float64]:
        """Returns how far (x, y) it is then from its place in that frame, in pixels."""
        return self.velocity * (steps + self.number(steps))


@dataclass(frozen=True)
class _Shape:
    """The surroundings of an object's centre in a frame.

    colours: [h, w, 3]. mask: 1 for the object's pixels, [h, w]. inner: 1 for those that are not at its edge, [h, w].
    contrast: the squared difference to the ground, [h, w].
    """

    colours: NDArray[np.float32]
    mask: NDArray[np.float32]
    inner: NDArray[np.float32]
    contrast: NDArray[np.float32]


def _shapes(frames: NDArray[np.uint8], ground: NDArray[np.uint8], track: FollowedObject) -> list[_Shape]:
    """Returns the shapes of an object in all frames of its track, of the same size."""
    boxes = np.array([cv2.boundingRect(mask) for mask in track.masks])
    size = tuple(int(side) for side in boxes[:, 2:].max(axis=0) + 4)
    middles = boxes[:, :2] + boxes[:, 2:] / 2
    offset = np.median(middles - track.centres, axis=0)
    shapes, disc = [], np.ones((2 * round(len(ground) * MARGIN / 2) + 1,) * 2, np.uint8)
    for frame, mask, centre in zip(frames[track.first :], track.masks, track.centres, strict=False):
        place = tuple(float(each) for each in centre + offset)
        cuts = [cv2.getRectSubPix(picture, size, place).astype(np.float32) for picture in (frame, ground)]
        inside = cv2.getRectSubPix(mask * np.uint8(255), size, place) / np.float32(255)
        shapes.append(_Shape(cuts[0], inside, cv2.erode(inside, disc), np.square(cuts[0] - cuts[1]).sum(axis=-1)))
    return shapes


def _difference(shapes: Sequence[_Shape], period: int) -> float:
    """Returns the mean difference of the shapes that are `period` frames apart, as in `Cycle.left`."""
    pairs = range(0, min(period, len(shapes) - period), 2)
    left, contrast = 0.0, 0.0
    for one, other in ((shapes[number], shapes[number + period]) for number in pairs):
        change = np.square(one.colours - other.colours).sum(axis=-1)
        left += float((one.inner * other.inner * change).sum())
        left += float(
            (one.inner * (1 - other.mask) * one.contrast + other.inner * (1 - one.mask) * other.contrast).sum()
        )
        contrast += float((one.inner * one.contrast + other.inner * other.contrast).sum()) / 2
    return left / max(contrast, 1e-6)
