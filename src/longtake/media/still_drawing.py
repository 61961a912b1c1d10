"""Continues a drawn source of which no rule tells how it goes on, without bending it.

A straight line of a drawing that bends is seen at once. So what the layers of the source explain in part goes on as
they say, and slows down to a stop. If they explain too little, the source's last frame stands still.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.media.layers import DRAWN, MAY_BE_LEFT, SAME, Layers
from longtake.media.optical_flow import Pictures, as_picture

FLAT = 4 / 255
"""The colours of a flat area differ by at most this within FLAT_SIDE pixels."""

FLAT_SIDE = 7
"""The side of the square in which they are compared, in pixels."""

LEAST_FLAT = 0.6
"""At least this share of a drawing is flat. Footage that is as flat is mostly black or has noise."""

LEAST_UNCHANGED = 0.5
"""At least this share of it has not changed in the frames that are compared."""

LAGS = (1, 6, 12, 24)
"""The last frame is compared with those that are this many frames earlier."""

SLOWING = 12
"""The number of new frames after which motion that is not sure has 1/e of its speed."""


@dataclass(frozen=True)
class StillDrawing:
    """A drawing that comes to rest.

    nearest: the source's frame next to the new ones, [H, W, 3] in 0..1.
    layers: its layers, if they explain a part of its motion.
    """

    nearest: Pictures
    layers: Layers | None

    @classmethod
    def of(cls, frames: NDArray[np.uint8], swings: bool) -> "StillDrawing | None":
        """Returns the drawing, or None if the source is not a drawing on a ground that stands still, or if it goes on
        well like footage, such as a bar that grows.

        frames: the source's frames [T, H, W, 3], the nearest one first.
        swings: True if it would swing back and forth, carried like footage, because its motion is doubtful.
        """
        if not is_drawing(frames):
            return None
        layers = Layers.of(frames, MAY_BE_LEFT)
        return cls(as_picture(frames[0]), layers) if layers or swings else None

    def carried(self, new_frames: Pictures, distances: Sequence[int]) -> Pictures:
        """Returns frames [t, H, W, 3] in 0..1 in place of the model's new frames.

        new_frames: the model's frames, which are not used.
        distances: for each frame, the number of new frames between the source and this frame: 0 for the frame next to
            the source.
        """
        if self.layers is None:
            return np.stack([self.nearest] * len(distances))
        steps = [SLOWING * (1 - math.exp(-(distance + 1) / SLOWING)) for distance in distances]
        return np.clip([self.layers.drawn(step) for step in steps], 0, 1)


def is_drawing(frames: NDArray[np.uint8]) -> bool:
    """Returns True if the source is surely drawn: most of it is flat, and most of that does not change at all.

    frames: the source's frames [T, H, W, 3], the nearest one first.
    """
    nearest = frames[0]
    around = np.ones((FLAT_SIDE, FLAT_SIDE), np.uint8)
    flat = (cv2.dilate(nearest, around) - cv2.erode(nearest, around)).max(axis=-1) <= round(FLAT * 255)
    if flat.mean() < LEAST_FLAT:
        return False
    lags = [lag for lag in LAGS if lag < len(frames)]
    changes = [np.abs(as_picture(nearest) - as_picture(frames[lag])) for lag in lags]
    unchanged = np.all([cv2.GaussianBlur(change.max(axis=-1), (0, 0), 1) <= SAME for change in changes], axis=0)
    if len(lags) < 2 or unchanged.mean() < LEAST_UNCHANGED:
        return False
    return bool(max(change[unchanged & flat].mean() for change in changes) < DRAWN)
