"""Continues a drawn source that moves as a whole, as if a camera panned over it or zoomed. Parts of it may stand still.

How the picture moves is described in `longtake.carried.camera_path`. Such a source is a drawn one, or a photograph over
which a program lets a camera move: what a camera films is never so exactly the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.camera import Camera, explained
from longtake.carried.camera_path import CameraPath, fitted, rest
from longtake.carried.inpainting import Mask
from longtake.carried.optical_flow import Pictures, as_picture, pixel_places
from longtake.carried.plain_ground import WidePicture
from longtake.carried.still_parts import behind, grown, still_parts

STILL_LAGS = (3, 7, 13, 19, 24)
"""The nearest frame is compared with these earlier ones to find its still parts. The numbers have no common divisor,
because pictures often repeat themselves, as lines of text do."""

FAR_LAGS = (36, 48)
"""The motion is also fitted to these earlier frames, unless it was another one then."""


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
    def of(cls, camera: Camera) -> "CameraMotion | None":
        """Returns the motion, or None if the source is not a drawn picture that moves as a whole."""
        far, still_lags = ([lag for lag in some if lag < len(camera.frames)] for some in (FAR_LAGS, STILL_LAGS))
        small = {lag: camera.small(lag) for lag in {0, *camera.lags, *far, *still_lags}}
        chosen = None
        for path in _paths(camera, small, far):
            still = still_parts({lag: small[lag] for lag in (0, *still_lags)}, path)
            if not _explains(small, path, still, camera.lags):
                break
            chosen = camera.at_full_size(path), still
        return cls._at_full_size(camera.frames, still_lags, *chosen) if chosen else None

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

    @cached_property
    def _wide(self) -> WidePicture:
        return WidePicture.of(self.nearest)

    def drawn(self, steps: float) -> Pictures:
        """Returns a frame [H, W, 3] in 0..1 that is `steps` frames after the nearest one."""
        size = self.nearest.shape[:2]
        picture = self._wide.at(self.path.later(pixel_places(*size), size, steps))
        return picture if self.cover is None else picture + self.cover * (self.front - picture)


def _paths(camera: Camera, small: Mapping[int, Pictures], far: Sequence[int]) -> Iterator[CameraPath]:
    """Yields the camera's path, and then the path that also explains the frames with the numbers `far` best."""
    yield camera.path
    if far:
        yield fitted({lag: small[lag] for lag in (0, *camera.lags, *far)}, camera.changed)


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
        if not explained(left, change, shown):
            return False
    return True
