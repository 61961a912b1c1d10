"""Chooses how the picture of a source goes on in new frames: by a rule for drawn pictures, or else like footage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.animated_layers import AnimatedLayers
from longtake.carried.camera import Camera
from longtake.carried.camera_motion import CameraMotion
from longtake.carried.detail import Detail, is_of_own_world
from longtake.carried.difference import SAME, largest, smooth_size
from longtake.carried.moved_layers import MovedLayers
from longtake.carried.optical_flow import Pictures, as_picture
from longtake.carried.panned_layers import PannedLayers
from longtake.carried.separation import DRAWN, Film, separated
from longtake.carried.shot import shot_length
from longtake.carried.slowing_layers import SlowingLayers

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


class CarriedPicture(Protocol):
    """The part of a source's picture that new frames get: its fine detail, or all that they show."""

    def carried(self, new_frames: Pictures, distances: Sequence[int]) -> Pictures:
        """Returns the new frames [t, H, W, 3] in 0..1 with this part.

        new_frames: the model's frames, of the same shape.
        distances: for each frame, the number of new frames between the source and this frame.
        """


class Rule(Protocol):
    """A rule by which a source goes on, without the model's frames."""

    def drawn(self, steps: int) -> Pictures:
        """Returns the frame [H, W, 3], about in 0..1, that is `steps` frames after the source's nearest one."""


@dataclass(frozen=True)
class RuledPicture:
    """A picture that goes on by a rule."""

    rule: Rule

    def carried(self, new_frames: Pictures, distances: Sequence[int]) -> Pictures:
        """Returns frames in place of the model's, which are not used, as in `CarriedPicture`."""
        return np.stack([np.clip(self.rule.drawn(distance + 1), 0, 1) for distance in distances])


def carried_picture(frames: NDArray[np.uint8], rendition: Pictures) -> CarriedPicture:
    """Returns what of a source is carried into the new frames, and how it moves.

    frames: the source's frames [T, H, W, 3], the nearest one first.
    rendition: the nearest frame after the model's autoencoder has encoded and decoded it, [H, W, 3] in 0..1.
    """
    shot = frames[: shot_length(frames)]
    rule = rule_of(shot, rendition)
    return RuledPicture(rule) if rule else Detail.of(shot, rendition)


def rule_of(frames: NDArray[np.uint8], rendition: Pictures) -> Rule | None:
    """Returns the rule by which a shot goes on, or None if it is carried like footage.

    The parameters are those of `carried_picture`, but the frames are of one shot.
    """
    layers = separated(Film.of(frames))
    if layers and layers.are_sure:
        return layers
    camera = Camera.of(frames)
    motion = CameraMotion.of(camera) if camera else None
    if motion:
        return motion
    is_known = is_of_own_world(frames[0], rendition)  # then the model knows how such a picture goes on
    animated = None if is_known else AnimatedLayers.of(frames)
    if animated:
        return animated
    drawn = is_drawing(frames)
    moved = (PannedLayers.of(camera) if camera else None) or (MovedLayers.of(frames) if drawn else None)
    if moved or is_known:
        return moved
    return SlowingLayers(layers) if layers and drawn else None


def is_drawing(frames: NDArray[np.uint8]) -> bool:
    """Returns True if the source is surely drawn: most of it is flat, and most of that does not change at all.

    frames: the source's frames [T, H, W, 3], the nearest one first.
    """
    nearest = frames[0]
    around = np.ones((FLAT_SIDE, FLAT_SIDE), np.uint8)
    flat = largest(cv2.dilate(nearest, around) - cv2.erode(nearest, around)) <= round(FLAT * 255)
    if flat.mean() < LEAST_FLAT:
        return False
    lags = [lag for lag in LAGS if lag < len(frames)]
    changes = [np.abs(as_picture(nearest) - as_picture(frames[lag])) for lag in lags]
    unchanged = np.all([smooth_size(change) <= SAME for change in changes], axis=0)
    if len(lags) < 2 or unchanged.mean() < LEAST_UNCHANGED:
        return False
    return bool(max(change[unchanged & flat].mean() for change in changes) < DRAWN)
