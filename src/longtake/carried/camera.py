"""The camera of a source, if it moves steadily over a picture, and what it has shown before of its last section."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longtake.carried.camera_path import LEAST_SHOWN, CameraPath, fitted, inside
from longtake.carried.difference import unlike
from longtake.carried.optical_flow import LEAST_SIDE, Pictures, as_picture, pixel_places, sampled, scaled_down

LAGS = (6, 12, 24)
"""The source's last frame is compared with those that are this many frames earlier. They show whether the motion is
steady."""

SEARCHED_SIZE = (420, 240)
"""The motion is searched in frames that are scaled down to at most this many columns and rows."""

LEAST_STEP = 0.03
"""A camera moves if the edge of a frame moves by more than this in one step, in pixels of such a frame."""

MOST_DIFFERENT = 5.0 / 255
"""A drawn picture moves as a whole if its frames, moved onto each other, differ by less than this in the mean. Those of
footage differ more."""

MOST_LEFT = 0.08
"""The motion explains a frame if the squared difference to it falls to at most this share when the motion is undone."""


@dataclass(frozen=True)
class Camera:
    """A camera that moves over a picture.

    frames: the source's frames [T, H, W, 3], the nearest one first.
    lags: the numbers of the frames that are compared with the nearest one.
    changed: True for the pixels in which they differ, in small frames.
    path: the path of the camera that explains them best, in pixels of small frames.
    """

    frames: NDArray[np.uint8]
    lags: Sequence[int]
    changed: NDArray[np.bool_]
    path: CameraPath

    @classmethod
    def of(cls, frames: NDArray[np.uint8]) -> "Camera | None":
        """Returns the camera, or None if it stands still or the source is too short to tell.

        frames: the source's frames [T, H, W, 3], the nearest one first.
        """
        lags = [lag for lag in LAGS if lag < len(frames)]
        if len(lags) < 2 or min(frames.shape[1:3]) < LEAST_SIDE:
            return None
        small = {lag: scaled_down(frames[lag], *SEARCHED_SIZE) for lag in (0, *lags)}
        changed: NDArray[np.bool_] = np.any([unlike(small[0] - small[lag]) for lag in lags], axis=0)
        if not changed.any():
            return None
        path = fitted(small, changed)
        return cls(frames, lags, changed, path) if path.edge_step(changed.shape) >= LEAST_STEP else None

    def small(self, number: int) -> Pictures:
        """Returns a frame by its number, scaled down."""
        return scaled_down(self.frames[number], *SEARCHED_SIZE)

    def at_full_size(self, path: CameraPath) -> CameraPath:
        """Returns a path of small frames in the pixels of the frames' own size."""
        (height, width), (rows, columns) = self.frames.shape[1:3], self.changed.shape
        return path.scaled(width / columns, height / rows)

    def stabilised(self, number: int) -> Pictures:
        """Returns an earlier frame as the nearest one's section of the picture, [H, W, 3] in 0..1. It is NaN where that
        frame does not show this section."""
        size = self.frames.shape[1:3]
        picture = as_picture(self.frames[number])
        if number == 0:
            return picture
        places = self.at_full_size(self.path).earlier(pixel_places(*size), size, number)
        seen = sampled(picture, places)
        seen[~inside(places, size)] = np.nan
        return seen


def explained(left: Pictures, change: Pictures, shown: NDArray[np.bool_]) -> bool:
    """Returns True if a motion explains how an earlier frame differs from the nearest one.

    left: the difference that is left when the motion is undone. change: the difference. Both are [H, W, 3].
    shown: True for the pixels that the earlier frame shows, too, [H, W].
    """
    if shown.mean() < LEAST_SHOWN or np.abs(left)[shown].mean() > MOST_DIFFERENT:
        return False
    return bool(np.square(left)[shown].sum() <= MOST_LEFT * np.square(change)[shown].sum())
