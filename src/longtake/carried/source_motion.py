"""Measures how a source moves where it meets the new frames, and tells how the motion goes on into them.

Each pixel of the source moves in two ways:

- Its steady motion (`longtake.carried.steady_motion`) goes on. It slows down within a second, or hardly at all where
  there is no doubt; sooner where it bends the picture, because a body that moves in parts would be torn. It counts only
  as far as the source itself proves it: the motion of earlier frames, continued in the same way, must predict the
  source's later frames.
- The rest of its motion, such as the shake of a camera, the sway of a leaf or a gesture, swings: it goes back the way
  that it has come, and forth again. For this the new frames show the source's last frames one after the other, each
  with its steady motion continued up to the new frame. The first swing shows one frame besides the last one, and each
  further swing one more: soon after the joint, the picture is still most like the source's last frame.
"""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.optical_flow import Field, as_picture, length, pixel_places, small_luma
from longtake.carried.shot import changes
from longtake.carried.steady_motion import FAR_STEPS, TEST_STEPS, SteadyMotion, arrived, measured

SWING_STEPS = 4
"""Motion that is not steady goes back over at most this many steps of the source, and then as many forth."""

SWING_DOUBT = 0.05
"""Nothing swings with less doubt than this that all motion is steady."""

REPEATED = 0.25
"""A frame that differs from the one before it by less than this share of the usual difference is a repeated frame."""

USUAL_FRAMES = 13
"""The usual difference of two neighbouring frames is measured among this many frames."""

SURE = (0.25, 0.75)
"""If the tested motion leaves at most the first share of the error of a picture that stands still, there is no doubt
that it goes on; if it leaves the second share or more, the doubt is not less than without the test."""

DOUBTFUL_FRAMES = 16
"""The number of new frames after which the continued motion has 1/e of its speed if it is doubtful that it goes on.
People and animals soon do something else, and so does whoever holds a camera."""

FARTHEST = 2.0
"""Where there is no doubt, the ground slows down so that it goes this many times the frame's height at most. So a fast
camera slows down before the picture has left the frame."""

MAX_BENDING = 0.3
"""The continued motion may bend and stretch the picture by about this much: the displacements of two pixels may differ
by this share of the distance between them. So a body of which only a part moves is not torn."""

BENDING_DOUBT = 0.5
"""The limit of bending holds in full from this doubt on. With less doubt, more bending is allowed."""

PROOF = 4
"""The power of the proven share of a doubtful motion, as a factor for the motion. So only what is proven almost wholly
goes on: motion that has become slower in the frames that are tested does not."""


@dataclass(frozen=True)
class Arrived:
    """The motion of the source's pixels that have arrived at each place of a new frame.

    way: the displacement (x, y) from a pixel's place in the new frame to its place in the source, [h, w, 2].
    step: the displacement of its steady motion in one step of the source, [h, w, 2].
    steadiness: how steadily it moves, 0..1, [h, w].
    reach: the greatest length in pixels of a displacement that is in keeping with the source's motion, [h, w].
    """

    way: Field
    step: Field
    steadiness: NDArray[np.float32]
    reach: NDArray[np.float32]


@dataclass(frozen=True)
class SourceMotion:
    """The motion of the source at the joint, where it meets the new frames.

    steady: the motion that goes on.
    object_frames: the number of new frames after which the continued motion of each pixel relative to the ground has
        1/e of its speed, [h, w].
    swing: the numbers of the source's frames that the new frames show, 0 for the one next to them. New frames use them
        one after the other, forwards to the second number and back, then to the third and back, and so on. When a swing
        has reached the last number, the following ones do, too.
    doubt: how doubtful it is that the source moves on as a picture of the model's own world does, 0..1.
    known: True if the source has enough frames to show a motion.
    """

    steady: SteadyMotion
    object_frames: NDArray[np.float32]
    swing: tuple[int, ...]
    doubt: float
    known: bool

    @classmethod
    def of(cls, frames: NDArray[np.uint8], doubt: float) -> "SourceMotion":
        """Measures the motion of the source, as a displacement of each pixel, in its frames next to the new ones.

        frames: [T, H, W, 3] of one shot, ordered by their distance from the new frames, the nearest one first. With
            only one frame no motion is known, and all displacements of the result are 0.
        doubt: how unlike the model's own world the source is, 0..1. With 0, all steady motion goes on, that of objects
            like that of the ground, and nothing swings.
        """
        lumas = [small_luma(as_picture(frame)) for frame in frames[: TEST_STEPS + FAR_STEPS + 1]]
        if len(lumas) < 2:
            still = np.zeros((*lumas[0].shape, 2), np.float32)
            steady = SteadyMotion(still, still[..., 0], still[..., 0], still[0, 0])
            return cls(steady, np.ones_like(steady.steadiness), (0,), doubt, known=False)
        steady, proof = measured(lumas)
        doubt *= float(np.interp(proof.left, SURE, (0, 1)))
        proven = 1 - np.float32(doubt) * (1 - proof.share**PROOF)
        steady = replace(steady, steadiness=steady.steadiness * proven)
        swing = _swing(frames[:USUAL_FRAMES], doubt)
        return cls(steady, _lasting(steady, doubt), swing, doubt, known=True)

    def way(self, distance: int) -> Field:
        """Returns the displacement [h, w, 2] from the place of each pixel of the source in a new frame to its own.

        distance: the number of new frames between the source and the new frame.
        """
        object_steps = self.object_frames * (1 - np.exp(-np.float32(distance + 1) / self.object_frames))
        return self.steady.way(self._ground_steps(distance), object_steps[..., None])

    def number(self, distance: int) -> int:
        """Returns the number of the source's frame that a new frame shows: 0 for the frame next to the new ones.

        distance: the number of new frames between the source and the new frame.
        """
        last = len(self.swing) - 1
        turn, reach = distance + 1, min(1, last)
        while reach < last and turn > 2 * reach:
            turn, reach = turn - 2 * reach, reach + 1
        turn %= max(2 * reach, 1)
        return self.swing[min(turn, 2 * reach - turn)]

    def arrived(self, distance: int) -> Arrived:
        """Returns the motion of the source's pixels that have arrived at each place of a new frame.

        Where several pixels arrive at one place, the one counts whose motion differs most from that of the ground: a
        moving object hides the ground before it. Where none arrives, the motion is that of the pixels around.

        distance: the number of new frames between the source and the new frame.
        """
        steps = np.float32(self._ground_steps(distance))
        way = arrived(self.way(distance), self.steady.ground * steps)
        there = pixel_places(*way.shape[:2]) + way
        step, steadiness, reach = (
            cv2.remap(known, there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for known in (self.steady.way(1, 1), self.steady.steadiness, self.steady.reach)
        )
        return Arrived(way, step, steadiness, reach * steps)

    def _ground_steps(self, distance: int) -> float:
        """Returns how many steps of the source the ground has moved on in the new frame after `distance` others."""
        frames = _ground_frames(self.steady, self.doubt)
        return frames * (1 - math.exp(-(distance + 1) / frames))


def _lasting(steady: SteadyMotion, doubt: float) -> NDArray[np.float32]:
    """Returns the number of new frames after which each pixel's motion relative to the ground has 1/e of its speed.

    The result is [h, w]: that of the ground, and less where the motion bends the picture. With a `doubt` of 0 (0..1),
    it is that of the ground everywhere.
    """
    limited = np.float32(min(1, doubt / BENDING_DOUBT))
    lasting = 1 / (1 / _ground_frames(steady, doubt) + limited * _bending(steady) / MAX_BENDING)
    return lasting.astype(np.float32)


def _bending(steady: SteadyMotion) -> NDArray[np.float32]:
    """Returns how much one step of the steady motion bends or stretches the picture around each pixel, [h, w].

    It is the greatest change of the displacement between neighbouring pixels within an eighth of the height, smoothed.
    """
    height = len(steady.mean)
    smooth = cv2.GaussianBlur(steady.way(1, 1), (0, 0), height / 40)
    down, across = np.gradient(smooth, axis=(0, 1))
    bending = np.hypot(length(down), length(across)).astype(np.float32)
    around = cv2.dilate(bending, np.ones((height // 8 * 2 + 1,) * 2, np.uint8))
    most: NDArray[np.float32] = cv2.GaussianBlur(around, (0, 0), height / 16)
    return most


def _ground_frames(steady: SteadyMotion, doubt: float) -> float:
    """Returns the number of new frames after which the ground has 1/e of its speed. `doubt` is 0..1."""
    slowing = float(length(steady.mean).mean()) / (FARTHEST * len(steady.mean))
    return 1 / max((1 - doubt) * slowing + doubt / DOUBTFUL_FRAMES, 1e-6)


def _swing(frames: NDArray[np.uint8], doubt: float) -> tuple[int, ...]:
    """Returns the numbers of the frames that the new frames show one after the other, as in `SourceMotion`.

    Without doubt it is one frame. Frames that only repeat the frame before them in this list are left out, because the
    picture would stand still.

    frames: the source's frames [T, H, W, 3], at least two, the nearest one first.
    """
    found = changes(frames)
    new = 1 + np.flatnonzero(found >= REPEATED * np.median(found))
    steps = SWING_STEPS if doubt >= SWING_DOUBT else 0
    return (0, *(int(number) for number in new[:steps]))
