"""Continues a drawn source in which objects move over a picture, and a camera, too.

Earlier frames are brought onto the nearest one by the path of the camera, so that the ground stands still. There the
layers are separated. A new frame shows what the camera sees of them. Objects do not bounce off its edges.
"""

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

    def drawn(self, steps: float) -> Pictures:
        """Returns a frame [H, W, 3] in 0..1 that is `steps` frames after the nearest one."""
        size = self.layers.ground.shape[:2]
        return self.layers.drawn(steps, self.path.later(pixel_places(*size), size, steps))


def _explain(layers: Layers, camera: Camera) -> bool:
    """Returns True if layers, seen by a camera, explain how the source's last frame differs from earlier ones."""
    for lag in camera.lags:
        shown = camera.stabilised(lag)
        change = layers.nearest - as_picture(camera.frames[lag])
        if not explained(layers.drawn(-lag) - shown, change, ~np.isnan(shown[..., 0])):
            return False
    return True
