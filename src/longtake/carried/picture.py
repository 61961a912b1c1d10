"""Chooses how the picture of a source goes on in new frames: by a rule for drawn pictures, or else like footage."""

import math
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
from longtake.carried.repeated_frames import RepeatedFrames
from longtake.carried.separation import DRAWN, Film, separated
from longtake.carried.shot import shot_length
from longtake.carried.slowing_layers import SlowingLayers

FLAT = 4 / 255
"""The colours of a flat area differ by at most this within FLAT_SIDE pixels."""

FLAT_SIDE = 7
"""The side of the square in which they are compared, in pixels."""

LEAST_FLAT = 0.6
"""At least this share of a drawing is flat. Footage that is as flat is mostly black or has noise."""

LEAST_FLAT_REPEATED = 0.4
"""The same if frames repeat each other. Then less doubt is left, and text has few flat areas."""

LEAST_UNCHANGED = 0.5
"""At least this share of it has not changed in the frames that are compared."""

LEAST_PICTURES = 7
"""Fewer different pictures do not show how a source moves if each is shown in several frames."""

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


@dataclass(frozen=True)
class Held:
    """The rule by which a picture stays as it is."""

    nearest: Pictures

    def drawn(self, steps: int) -> Pictures:
        """Returns the source's last picture."""
        return self.nearest


@dataclass(frozen=True)
class RepeatedPicture:
    """A source that shows each of its pictures in several frames, and goes on so.

    rule: how its pictures go on.
    nearest: the source's last picture.
    repeated: when the next ones are shown.
    """

    rule: CarriedPicture
    nearest: Pictures
    repeated: RepeatedFrames

    def carried(self, new_frames: Pictures, distances: Sequence[int]) -> Pictures:
        """Returns new frames, as in `CarriedPicture`. The first ones may repeat the source's last picture."""
        steps = [self.repeated.steps(distance) for distance in distances]
        pairs = zip(new_frames, steps, strict=True)
        return np.stack(
            [self.rule.carried(frame[None], [step - 1])[0] if step else self.nearest for frame, step in pairs]
        )


def carried_picture(frames: NDArray[np.uint8], rendition: Pictures) -> CarriedPicture:
    """Returns what of a source is carried into the new frames, and how it moves.

    frames: the source's frames [T, H, W, 3], the nearest one first.
    rendition: the nearest frame after the model's autoencoder has encoded and decoded it, [H, W, 3] in 0..1.
    """
    shot = frames[: shot_length(frames)]
    repeated = RepeatedFrames.of(shot)
    found = _of_repeated(shot, rendition, repeated) if repeated else None
    if found:
        return found
    rule = rule_of(shot, rendition)
    return RuledPicture(rule) if rule else Detail.of(shot, rendition)


def _of_repeated(shot: NDArray[np.uint8], rendition: Pictures, repeated: RepeatedFrames) -> CarriedPicture | None:
    """Returns how a source goes on that shows each of its pictures in several frames.

    The result is None if it goes on as if all frames were different: where the model knows such a picture, or where
    the different pictures of footage are few.
    """
    pictures, nearest = shot[list(repeated.numbers)], as_picture(shot[0])
    rule = None if math.isinf(repeated.period) else rule_of(pictures, rendition)
    if rule:
        return RepeatedPicture(RuledPicture(rule), nearest, repeated)
    if is_of_own_world(shot[0], rendition):
        return None
    is_known = repeated.is_regular and len(pictures) >= LEAST_PICTURES
    if not is_known and is_drawing(shot, LEAST_FLAT_REPEATED):
        return RuledPicture(Held(nearest))  # what is seen backwards and forwards would undo what has just been drawn
    if math.isinf(repeated.period) or len(pictures) < LEAST_PICTURES:
        return None
    return RepeatedPicture(Detail.of(pictures, rendition), nearest, repeated)


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


def is_drawing(frames: NDArray[np.uint8], least_flat: float = LEAST_FLAT) -> bool:
    """Returns True if the source is surely drawn: most of it is flat, and most of that does not change at all.

    frames: the source's frames [T, H, W, 3], the nearest one first.
    least_flat: at least this share of it is flat.
    """
    nearest = frames[0]
    around = np.ones((FLAT_SIDE, FLAT_SIDE), np.uint8)
    flat = largest(cv2.dilate(nearest, around) - cv2.erode(nearest, around)) <= round(FLAT * 255)
    if flat.mean() < least_flat:
        return False
    lags = [lag for lag in LAGS if lag < len(frames)]
    changes = [np.abs(as_picture(nearest) - as_picture(frames[lag])) for lag in lags]
    unchanged = np.all([smooth_size(change) <= SAME for change in changes], axis=0)
    if len(lags) < 2 or unchanged.mean() < LEAST_UNCHANGED:
        return False
    return bool(max(change[unchanged & flat].mean() for change in changes) < DRAWN)
