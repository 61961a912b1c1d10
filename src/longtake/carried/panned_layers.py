"""Continues a drawn source in which objects move over a picture, and a camera, too.

Earlier frames are brought onto the nearest one by the path of the camera, so that the ground stands still. There the
layers are separated. A new frame shows what the camera sees of them. Objects do not bounce off its edges.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from longtake.carried.camera import Camera, explained
from longtake.carried.camera_path import CameraPath
from longtake.carried.layers import Layers
from longtake.carried.optical_flow import Pictures, as_picture, pixel_places
from longtake.carried.separation import Film, separated


@dataclass(frozen=True)
class PannedLayers:
    """The layers of the source's frame next to the new frames, and the path of the camera over their ground."""

    layers: Layers
    path: CameraPath

    @classmethod
    def of(cls, camera: Camera) -> "PannedLayers | None":
        """Returns the layers, or None if no objects explain how the source differs from what the camera shows."""
        path = camera.at_full_size(camera.path)
        layers = separated(Film(len(camera.frames), camera.stabilised, path.motion[:2].astype(np.float32)))
        return cls(layers, path) if layers and layers.are_sure and _explain(layers, camera) else None

    def carried(self, new_frames: Pictures, distances: Sequence[int]) -> Pictures:
        """Returns frames [t, H, W, 3] in 0..1 in place of the model's new frames.

        new_frames: the model's frames, which are not used.
        distances: for each frame, the number of new frames between the source and this frame: 0 for the frame next to
            the source.
        """
        size = self.layers.ground.shape[:2]
        pixels = pixel_places(*size)
        places = [self.path.later(pixels, size, distance + 1) for distance in distances]
        frames = [self.layers.drawn(distance + 1, seen) for distance, seen in zip(distances, places, strict=True)]
        return np.clip(frames, 0, 1)


def _explain(layers: Layers, camera: Camera) -> bool:
    """Returns True if layers, seen by a camera, explain how the source's last frame differs from earlier ones."""
    for lag in camera.lags:
        shown = camera.stabilised(lag)
        change = layers.nearest - as_picture(camera.frames[lag])
        if not explained(layers.drawn(-lag) - shown, change, ~np.isnan(shown[..., 0])):
            return False
    return True
