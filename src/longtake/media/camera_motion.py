"""Continues a drawn source that moves as a whole, as if a camera panned over it or zoomed.

An earlier frame shows the content of the pixel p at

    E(p, k) = c + exp(z k) (p - c) + v k,

where k is the number of frames between the two, c the frame's centre, v the velocity in pixels per frame and z the
change of the logarithm of the scale per frame. So the frame that comes n frames after the source shows at p what the
source's last frame shows at E(p, n). Such a source is a drawn one: footage is never so exactly the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longtake.media.optical_flow import (
    LEAST_SIDE,
    Pictures,
    as_picture,
    contrast,
    pixel_places,
    rough_flow,
    sampled,
    scaled_down,
    small_luma,
)

LAGS = (6, 12, 24)
"""The source's last frame is compared with those that are this many frames earlier. They show whether the motion is
steady."""

SEARCHED_SIZE = (256, 128)
"""The motion is searched in frames that are scaled down to at most this many columns and rows."""

SEARCH = (2.0, 1.0, 0.5, 0.25, 0.1)
"""The search changes how far the frame's edge moves between two frames by these lengths, in pixels of such frames, one
after the other."""

MOST_CHANGES = 30
"""The search makes at most so many changes of each length."""

SAME = 2.0 / 255
"""A drawn picture moves as a whole if its frames, moved onto each other, differ by less than this in the mean. Those of
footage differ more."""

LEAST_SHOWN = 0.5
"""Frames are compared if the earlier one shows at least this share of the nearest one."""

MOST_LEFT = 0.05
"""The motion explains a frame if the squared difference to it falls to at most this share when the motion is undone."""

LEAST_STEP = 0.02
"""A picture moves if its edge moves by more than this in one step, in pixels of such a frame."""


@dataclass(frozen=True)
class CameraMotion:
    """The source's frame next to the new frames, and how the whole picture moves.

    nearest: that frame, [H, W, 3] in 0..1.
    motion: (v_x, v_y, z), in the units of the formula above.
    """

    nearest: Pictures
    motion: NDArray[np.float64]

    @classmethod
    def of(cls, frames: NDArray[np.uint8]) -> "CameraMotion | None":
        """Returns the motion, or None if the source is not a drawn picture that moves steadily as a whole.

        frames: the source's frames [T, H, W, 3], the nearest one first.
        """
        lags, (height, width) = [lag for lag in LAGS if lag < len(frames)], frames.shape[1:3]
        if len(lags) < 2 or min(height, width) < LEAST_SIDE:
            return None
        small = {lag: scaled_down(frames[lag], *SEARCHED_SIZE) for lag in (0, *lags)}
        motion, (rows, columns) = _searched(small), small[0].shape[:2]
        if _edge_step(motion, (columns, rows)) < LEAST_STEP or not _explains(small, motion, lags):
            return None
        scale = np.array([width / columns, height / rows, 1])
        return cls(as_picture(frames[0]), motion * scale)

    def carried(self, new_frames: Pictures, distances: Sequence[int]) -> Pictures:
        """Returns frames [t, H, W, 3] in 0..1 in place of the model's new frames.

        new_frames: the model's frames, which are not used.
        distances: for each frame, the number of new frames between the source and this frame: 0 for the frame next to
            the source.
        """
        places = [earlier_places(self.nearest.shape[:2], self.motion, distance + 1) for distance in distances]
        frames: Pictures = np.clip([sampled(self.nearest, place) for place in places], 0, 1)
        return frames


def earlier_places(size: tuple[int, ...], motion: NDArray[np.float64], steps: float) -> NDArray[np.float32]:
    """Returns for each pixel of a frame of `size` (H, W) where its content was `steps` frames earlier, [H, W, 2]."""
    height, width = size
    centre = np.array([width - 1, height - 1]) / 2
    places = pixel_places(height, width)
    moved: NDArray[np.float64] = centre + np.exp(motion[2] * steps) * (places - centre) + motion[:2] * steps
    return moved.astype(np.float32)


def _searched(small: dict[int, Pictures]) -> NDArray[np.float64]:
    """Returns the motion with which the earlier frames look most like the nearest one.

    small: number of a frame -> the frame, scaled down.
    """
    first, last = sorted(small)[1], max(small)
    nearest = small_luma(small[0])
    flow = rough_flow(nearest, small_luma(small[first])) / np.float32(first)
    height, width = nearest.shape
    weights, outwards = contrast(nearest), pixel_places(height, width) - np.array([width - 1, height - 1]) / 2
    velocity = np.average(flow, axis=(0, 1), weights=weights)
    away = ((flow - velocity) * outwards).sum(axis=-1)
    zoom = np.average(away, weights=weights) / max(np.average((outwards**2).sum(axis=-1), weights=weights), 1e-9)
    starts = [np.array([*velocity, zoom]), np.zeros(3)]
    units = np.diag([1.0, 1.0, 2 / max(height, width)])
    for lag in sorted(small)[1:]:
        starts = [_nearer(small[0], small[lag], start, lag, units) for start in starts]
    return min(starts, key=lambda each: _difference(small[0], small[last], each, last))


def _nearer(
    nearest: Pictures, earlier: Pictures, motion: NDArray[np.float64], lag: int, units: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns the motion with the least difference of two frames that is found by small changes of a motion.

    units: for each number of the motion, the change that moves the frame's edge by one pixel per step.
    """
    best, least = motion, _difference(nearest, earlier, motion, lag)
    for reach in SEARCH:
        for _ in range(MOST_CHANGES):
            around = [best + sign * reach / lag * unit for unit in units for sign in (-1, 1)]
            errors = [_difference(nearest, earlier, each, lag) for each in around]
            if not min(errors) < least:
                break
            best, least = around[int(np.argmin(errors))], min(errors)
    return best


def _difference(nearest: Pictures, earlier: Pictures, motion: NDArray[np.float64], lag: int) -> float:
    """Returns the mean squared difference of two frames, where the motion brings both together."""
    return float(np.square(_rest(nearest, earlier, motion, lag)).mean())


def _rest(nearest: Pictures, earlier: Pictures, motion: NDArray[np.float64], lag: int) -> NDArray[np.float32]:
    """Returns the differences [n, 3] of the pixels of the nearest frame to an earlier frame, without those that the
    earlier frame does not show. If it does not show half of them, all differences are 1."""
    height, width = nearest.shape[:2]
    places = earlier_places((height, width), motion, lag)
    shown = (places >= 0).all(-1) & (places <= np.array([width - 1, height - 1])).all(-1)
    if shown.mean() < LEAST_SHOWN:
        return np.ones((1, 3), np.float32)
    rest: NDArray[np.float32] = (nearest - sampled(earlier, places))[shown]
    return rest


def _explains(small: dict[int, Pictures], motion: NDArray[np.float64], lags: Sequence[int]) -> bool:
    """Returns True if the motion explains how the source's last frame differs from all earlier ones."""
    for lag in lags:
        rest = _rest(small[0], small[lag], motion, lag)
        change = np.square(_rest(small[0], small[lag], np.zeros(3), lag)).mean()
        if np.abs(rest).mean() > SAME or np.square(rest).mean() > MOST_LEFT * change:
            return False
    return True


def _edge_step(motion: NDArray[np.float64], size: tuple[int, int]) -> float:
    """Returns how far the motion moves the frame's edge in one step, in pixels of a frame of (width, height) `size`."""
    return float(np.abs(motion[:2]).max() + abs(motion[2]) * max(size) / 2)
