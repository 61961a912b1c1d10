"""Continues a drawn source that moves as a whole, as if a camera panned over it or zoomed. Parts of it may stand still.

How the picture moves is described in `longtake.carried.camera_path`. Such a source is a drawn one, or a photograph over
which a program lets a camera move: what a camera films is never so exactly the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.camera_path import LEAST_SHOWN, CameraPath, fitted, rest
from longtake.carried.inpainting import Mask
from longtake.carried.optical_flow import LEAST_SIDE, Pictures, as_picture, pixel_places, sampled, scaled_down
from longtake.carried.still_parts import behind, grown, still_parts, unlike

STILL_LAGS = (3, 7, 13, 19, 24)
"""The nearest frame is compared with these earlier ones to find its still parts. The numbers have no common divisor,
because pictures often repeat themselves, as lines of text do."""

LAGS = (6, 12, 24)
"""The source's last frame is compared with those that are this many frames earlier. They show whether the motion is
steady."""

FAR_LAGS = (36, 48)
"""The motion is also fitted to these earlier frames, unless it was another one then."""

SEARCHED_SIZE = (420, 240)
"""The motion is searched in frames that are scaled down to at most this many columns and rows."""

SAME = 5.0 / 255
"""A drawn picture moves as a whole if its frames, moved onto each other, differ by less than this in the mean. Those of
footage differ more."""

MOST_LEFT = 0.08
"""The motion explains a frame if the squared difference to it falls to at most this share when the motion is undone."""

LEAST_STEP = 0.03
"""A picture moves if its edge moves by more than this in one step, in pixels of such a frame."""


@dataclass(frozen=True)
class CameraMotion:
    """The source's frame next to the new frames, and how its picture moves.

    nearest: that frame without its still parts, [H, W, 3] in 0..1.
    path: how it moves.
    front: the still parts, [H, W, 3] in 0..1.
    cover: how much of each pixel they cover, [H, W, 1] in 0..1. None if no part stands still.
    """

    nearest: Pictures
    path: CameraPath
    front: Pictures
    cover: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, frames: NDArray[np.uint8]) -> "CameraMotion | None":
        """Returns the motion, or None if the source is not a drawn picture that moves steadily as a whole.

        frames: the source's frames [T, H, W, 3], the nearest one first.
        """
        lags, size = [lag for lag in LAGS if lag < len(frames)], frames.shape[1:3]
        if len(lags) < 2 or min(size) < LEAST_SIDE:
            return None
        far, still_lags = ([lag for lag in some if lag < len(frames)] for some in (FAR_LAGS, STILL_LAGS))
        small = {lag: scaled_down(frames[lag], *SEARCHED_SIZE) for lag in {0, *lags, *far, *still_lags}}
        changed = np.any([unlike(small[0] - small[lag]) for lag in lags], axis=0)
        if not changed.any():
            return None
        chosen = None
        for used in (lags, [*lags, *far]) if far else (lags,):
            path = fitted({lag: small[lag] for lag in (0, *used)}, changed)
            still = still_parts({lag: small[lag] for lag in (0, *still_lags)}, path)
            if path.edge_step(changed.shape) < LEAST_STEP or not _explains(small, path, still, lags):
                break
            chosen = path.scaled(size[1] / changed.shape[1], size[0] / changed.shape[0]), still
        return cls._at_full_size(frames, still_lags, *chosen) if chosen else None

    @classmethod
    def _at_full_size(
        cls, frames: NDArray[np.uint8], still_lags: Sequence[int], path: CameraPath, still: Mask | None
    ) -> "CameraMotion":
        """Returns the motion at the frames' own size.

        path: the path at this size.
        still: the still parts in smaller frames; None if there are none.
        """
        nearest = as_picture(frames[0])
        if still is None:
            return cls(nearest, path, nearest)
        parts = still_parts({lag: as_picture(frames[lag]) for lag in (0, *still_lags)}, path)
        if parts is None:
            parts = cv2.resize(still, nearest.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        cover = cv2.GaussianBlur(parts.astype(np.float32), (0, 0), 0.7)[..., None]
        return cls(behind(list(frames), path, parts), path, nearest, cover)

    def carried(self, new_frames: Pictures, distances: Sequence[int]) -> Pictures:
        """Returns frames [t, H, W, 3] in 0..1 in place of the model's new frames.

        new_frames: the model's frames, which are not used.
        distances: for each frame, the number of new frames between the source and this frame: 0 for the frame next to
            the source.
        """
        size = self.nearest.shape[:2]
        pixels = pixel_places(*size)
        frames = []
        for distance in distances:
            picture = sampled(self.nearest, self.path.later(pixels, size, distance + 1))
            if self.cover is not None:
                picture = picture + self.cover * (self.front - picture)
            frames.append(np.clip(picture, 0, 1))
        return np.stack(frames)


def _explains(small: Mapping[int, Pictures], path: CameraPath, still: Mask | None, lags: Sequence[int]) -> bool:
    """Returns True if the motion explains how the source's last frame differs from all earlier ones."""
    size = small[0].shape[:2]
    for lag in lags:
        left, shown = rest(small[0], small[lag], path, lag)
        change = small[0] - small[lag]
        if still is not None:
            there = path.earlier(pixel_places(*size), size, lag)
            hidden = cv2.remap(grown(still), there, None, cv2.INTER_LINEAR, borderValue=0) > 0
            left, shown = np.where(still[..., None] > 0, change, left), (shown & ~hidden) | (still > 0)
        if shown.mean() < LEAST_SHOWN:
            return False
        if (
            np.abs(left)[shown].mean() > SAME
            or np.square(left)[shown].sum() > MOST_LEFT * np.square(change)[shown].sum()
        ):
            return False
    return True
