"""Chooses how the picture of a source goes on in new frames: by a rule for drawn pictures, or else like footage."""

import numpy as np
from numpy.typing import NDArray

from longtake.media.camera_motion import CameraMotion
from longtake.media.detail import OWN_WORLD, Detail
from longtake.media.layers import Layers
from longtake.media.moved_layers import MovedLayers
from longtake.media.optical_flow import Pictures
from longtake.media.still_drawing import StillDrawing, is_drawing

DrawnMotion = Layers | CameraMotion | MovedLayers | StillDrawing
"""How a drawn picture goes on."""


def carried_picture(frames: NDArray[np.uint8], rendition: Pictures) -> DrawnMotion | Detail:
    """Returns what of a source is carried into the new frames, and how it moves.

    frames: the source's frames [T, H, W, 3], the nearest one first.
    rendition: the nearest frame after the model's autoencoder has encoded and decoded it, [H, W, 3] in 0..1.
    """
    drawn = sure_motion(frames)
    if drawn is not None:
        return drawn
    detail = Detail.of(frames, rendition)
    if detail.fidelity >= OWN_WORLD:  # the model knows how such a picture goes on
        return detail
    return StillDrawing.of(frames, swings=len(detail.motion.swing) > 1) or detail


def sure_motion(frames: NDArray[np.uint8]) -> DrawnMotion | None:
    """Returns how a drawn source goes on: as its layers do, those of its last frame or of an earlier one, or as a
    camera moves over it. Returns None if none of these explains its frames.

    frames: the source's frames [T, H, W, 3], the nearest one first.
    """
    found = Layers.of(frames) or CameraMotion.of(frames)
    return found or (MovedLayers.of(frames) if is_drawing(frames) else None)
