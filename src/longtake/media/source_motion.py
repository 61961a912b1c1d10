"""Measures how a source moves where it meets the new frames, and tells how the motion goes on into them.

Each pixel of the source moves in two ways:

- Its steady motion is the mean of the last steps. It goes on and slows down: that of the ground slowly, that of objects
  sooner, because people and animals soon do something else, and because a body that moves in parts would be torn. It
  counts only as far as the source itself proves it: the motion of earlier frames, continued in the same way, must
  predict the source's later frames.
- The rest of its motion, such as the shake of a camera, the sway of a leaf or a gesture, swings: it goes back the way
  that it has come, and forth again. For this the new frames show the source's last frames one after the other, each
  with its steady motion continued up to the new frame. The first swing shows one frame besides the last one, and each
  further swing one more: soon after the joint, the picture is still most like the source's last frame.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.media.optical_flow import (
    Field,
    Luma,
    as_picture,
    contrast,
    followed,
    length,
    pixel_places,
    rough_flow,
    small_luma,
    smoothed,
)

MOTION_STEPS = 4
"""The steady motion is averaged over at most this many pairs of neighbouring frames, those next to the new frames."""

SWING_STEPS = 4
"""Motion that is not steady goes back over at most this many steps of the source, and then as many forth."""

REPEATED = 0.25
"""A frame that differs from the one before it by less than this share of the usual difference is a repeated frame."""

CUT = 4.0
"""A difference of two neighbouring frames that is more than this many times as great as any other one is a cut."""

SAMPLED = 4
"""The difference of two frames is measured at one pixel of each square of this many by this many."""

TEST_STEPS = 8
"""The steady motion is tested on this many steps: that before them is continued and compared with what they show."""

TEST_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The shares of the steady motion that are tested."""

TEST_DOUBT = 1.0
"""The error of a share that is not the best one for the whole picture counts more, by this much for each unit of
distance from the best one. So areas that prove nothing move like the rest."""

SURE = (0.25, 0.75)
"""If the tested motion leaves at most the first share of the error of a picture that stands still, there is no doubt
that it goes on; if it leaves the second share or more, the doubt is not less than without the test."""

TEST_CHOICE = 8.0
"""How clearly the best share of the steady motion is preferred: one with an error 1/8 greater has 1/e of its weight."""

GROUND_FRAMES = (150, 60)
"""The number of new frames after which the continued motion of the ground has 1/e of its speed: where there is no doubt
that it goes on, and where it is doubtful."""

OBJECT_FRAMES = 16
"""The same number for the motion of objects that the source does not prove, before it is reduced by bending."""

MAX_BENDING = 0.7
"""The continued motion may bend and stretch the picture by about this much: the displacements of two pixels may differ
by this share of the distance between them. So a body of which only a part moves is not torn."""

PROOF = 8
"""The power of the proven share of an object's motion, as a factor for the frames that the motion lasts longer. So only
motion that is proven almost wholly lasts as long as that of the ground."""

LEAST_MOTION = 0.3
"""Where the source's motion is smoothed, each displacement is also weighted by its distance from the motion of the
ground plus this length in pixels. So an object that moves over the ground keeps its motion up to its edge: the ground
hardly changes the mean, even where the camera moves."""

MAX_LENGTHENING = 1.5
"""Smoothing makes displacements shorter. They are lengthened again afterwards, by at most this factor."""

MAX_STRETCHING = 3.0
"""Pixels whose motion stretches the area around them to more than this multiple do not hide what they move over."""


@dataclass(frozen=True)
class SteadyMotion:
    """The mean motion of a source's last steps. A step leads from a frame to the next one away from the new frames.

    Motion is measured in frames that are scaled down to h rows (240 at most) and w columns.

    mean: the mean displacement (x, y) of each pixel in one step, [h, w, 2].
    steadiness: the length of `mean` divided by the mean length of the pixel's displacements, [h, w]: 1 where a pixel
        moves in one direction, 0 where it moves back and forth or its motion is not known.
    reach: the mean length of a pixel's displacements in pixels, [h, w]. Motion back and forth counts here, although it
        cancels out in `mean`.
    ground: the displacement (x, y) of the ground in one step, [2]: the median of all pixels.
    """

    mean: Field
    steadiness: NDArray[np.float32]
    reach: NDArray[np.float32]
    ground: NDArray[np.float32]

    @classmethod
    def of(cls, luma: Luma, flows: Sequence[Field]) -> "SteadyMotion":
        """Measures the steady motion.

        The displacements are smoothed, which makes them shorter where neighbouring pixels move differently. So all of
        them are then multiplied by one factor, 1 to 1.5, that restores their mean length.

        luma: the frame at which the motion is wanted.
        flows: the optical flow of the steps from this frame on. At most 4 are used.
        """
        weights = contrast(luma)
        rough = followed(flows[:MOTION_STEPS])
        ground: NDArray[np.float32] = np.median(rough.mean(axis=0), axis=(0, 1))
        smooth = _smooth_steps(rough, ground, weights)
        mean, reach = smooth.mean(axis=0), length(smooth).mean(axis=0)
        rough_length = np.average(length(rough).mean(axis=0), weights=weights)
        smooth_length = max(float(np.average(reach, weights=weights)), 1e-6)
        lengthening = np.float32(np.clip(rough_length / smooth_length, 1, MAX_LENGTHENING))
        mean, reach = mean * lengthening, reach * lengthening
        return cls(mean, length(mean) / np.maximum(reach, 1e-6), reach, ground)

    def way(self, ground_steps: float, object_steps: float | NDArray[np.float32]) -> Field:
        """Returns the displacement [h, w, 2] of each pixel's steady motion.

        ground_steps: the number of steps that the ground has moved.
        object_steps: the number of steps that each pixel has moved relative to the ground, one number or [h, w, 1].
        """
        moved = self.ground * np.float32(ground_steps) + (self.mean - self.ground) * object_steps
        way: Field = self.steadiness[..., None] * moved
        return way


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

        frames: [T, H, W, 3], ordered by their distance from the new frames, the nearest one first. With only one frame
            no motion is known, and all displacements of the result are 0.
        doubt: how unlike the model's own world the source is, 0..1. With 0, all steady motion goes on, that of objects
            like that of the ground, and nothing swings.
        """
        used = frames[: TEST_STEPS + MOTION_STEPS + 1]
        lumas = [small_luma(as_picture(frame)) for frame in used]
        if len(lumas) < 2:
            still = np.zeros((*lumas[0].shape, 2), np.float32)
            steady = SteadyMotion(still, still[..., 0], still[..., 0], still[0, 0])
            return cls(steady, np.ones_like(steady.steadiness), (0,), doubt, known=False)
        flows = [rough_flow(near, far) for near, far in itertools.pairwise(lumas)]
        steady = SteadyMotion.of(lumas[0], flows)
        proven, left = _proven(lumas, flows)
        doubt *= float(np.interp(left, SURE, (0, 1)))
        steady = replace(steady, steadiness=steady.steadiness * (1 - np.float32(doubt) * (1 - proven)))
        return cls(steady, _lasting(steady, proven, doubt), _swing(used, doubt), doubt, known=True)

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
        way = _arrived(self.way(distance), self.steady.ground * steps)
        there = pixel_places(*way.shape[:2]) + way
        step, steadiness, reach = (
            cv2.remap(known, there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for known in (self.steady.way(1, 1), self.steady.steadiness, self.steady.reach)
        )
        return Arrived(way, step, steadiness, reach * steps)

    def _ground_steps(self, distance: int) -> float:
        """Returns how many steps of the source the ground has moved on in the new frame after `distance` others."""
        frames = _ground_frames(self.doubt)
        return frames * (1 - math.exp(-(distance + 1) / frames))


def _lasting(steady: SteadyMotion, proven: NDArray[np.float32], doubt: float) -> NDArray[np.float32]:
    """Returns the number of new frames after which each pixel's motion relative to the ground has 1/e of its speed.

    The result is [h, w], at most that of the ground. It is less where the motion bends the picture.

    proven: the share of each pixel's motion that the source proves, [h, w].
    doubt: 0..1. With 0, the result is that of the ground everywhere.
    """
    unproven, ground = np.float32(doubt) * (1 - proven**PROOF), _ground_frames(doubt)
    straight = ground + unproven * (OBJECT_FRAMES - ground)
    lasting = 1 / (1 / straight + np.float32(doubt) * _bending(steady) / MAX_BENDING)
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


def _ground_frames(doubt: float) -> float:
    """Returns the number of new frames after which the ground has 1/e of its speed. `doubt` is 0..1."""
    sure, doubtful = GROUND_FRAMES
    return 1 / ((1 - doubt) / sure + doubt / doubtful)


def _smooth_steps(
    steps: NDArray[np.float32], ground: NDArray[np.float32], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Returns the displacements of steps [n, h, w, 2], smoothed.

    ground: the displacement of the ground in one step, (x, y).
    weights: the weights of the pixels, [h, w]. Pixels that move unlike the ground weigh more.
    """
    moving = weights * (length(steps.mean(axis=0) - ground) + LEAST_MOTION)
    return np.stack([smoothed(step, moving) for step in steps])


def _swing(frames: NDArray[np.uint8], doubt: float) -> tuple[int, ...]:
    """Returns the numbers of the frames that the new frames show one after the other, as in `SourceMotion`.

    The less doubt, the fewer. Frames that only repeat the one next to the new frames are left out, because the picture
    would stand still at the joint. So are frames before a cut.

    frames: the source's frames [T, H, W, 3], at least two, the nearest one first.
    """
    few = frames[:, ::SAMPLED, ::SAMPLED].astype(np.float32)
    changes = np.abs(np.diff(few, axis=0)).mean(axis=(1, 2, 3))
    repeated = np.logical_and.accumulate(changes < REPEATED * np.median(changes)).sum()
    greatest, second = changes.max(), np.sort(changes)[-2:][0]  # the same one, if there is no other
    shot = int(changes.argmax()) + 1 if greatest > CUT * second else len(frames)
    steps = min(SWING_STEPS, int(doubt * (SWING_STEPS + 1)))
    return (0, *range(1 + int(repeated), shot)[:steps])


def _proven(lumas: Sequence[Luma], flows: Sequence[Field]) -> tuple[NDArray[np.float32], float]:
    """Returns how well the steady motion would have predicted the source's last frames.

    The first result [h, w] is the share, 0..1, of each pixel's steady motion that would have predicted them best. The
    second is the squared error that is left by all of the motion, divided by that of a picture that stands still. They
    are 1 and 0 if there are too few frames to tell.

    lumas: the source's frames, the one next to the new frames first.
    flows: the optical flow of each step from one of these frames to the next.
    """
    steps = min(TEST_STEPS, len(flows) - MOTION_STEPS)
    height, width = lumas[0].shape
    if steps < 2:
        return np.ones((height, width), np.float32), 0.0
    earlier = SteadyMotion.of(lumas[steps], flows[steps:])
    pixels = pixel_places(height, width)
    shares = np.array(TEST_SHARES, np.float32)
    errors = np.zeros((len(shares), height, width), np.float32)
    for error, share in zip(errors, shares, strict=True):
        for step in (steps // 2, steps):
            way = earlier.way(share * step, share * step)
            there = pixels + _arrived(way, earlier.ground * share * np.float32(step))
            drawn = cv2.remap(lumas[steps], there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
            difference = np.square(drawn.astype(np.float32) - lumas[steps - step])
            error += cv2.GaussianBlur(difference, (0, 0), height / 16)
    errors += np.float32(0.1)
    means = errors.mean(axis=(1, 2))
    best = shares[means.argmin()]
    errors *= 1 + np.float32(TEST_DOUBT) * np.abs(shares - best)[:, None, None]
    weights = np.exp(-TEST_CHOICE * (errors / errors.min(axis=0) - 1))
    chosen = np.tensordot(shares, weights, axes=1) / weights.sum(axis=0)
    proven: NDArray[np.float32] = cv2.GaussianBlur(chosen.astype(np.float32), (0, 0), height / 32)
    return proven, float(means[-1] / means[0])


def _arrived(displacement: Field, ground: NDArray[np.float32]) -> Field:
    """Returns the displacements of pixels at the places where the pixels go.

    displacement: for each pixel, the displacement from the place where it goes back to where it is.
    ground: the same displacement (x, y) of the ground.
    """
    height, width = displacement.shape[:2]
    goals = pixel_places(height, width) - displacement
    # Each pixel arrives at the four places around its goal, so that an object that is stretched a little has no holes.
    x, y = (np.floor(axis).reshape(-1, 1).astype(int) for axis in (goals[..., 0], goals[..., 1]))
    x, y = x + np.array([0, 1, 0, 1]), y + np.array([0, 0, 1, 1])
    # Of the values that are assigned to one place, the last one stays. It is that of the pixel that moves fastest over
    # the ground. Pixels of an area that is stretched so far that they would leave holes come first: they hide nothing.
    down, across = np.gradient(goals, axis=(0, 1))
    area = np.abs(across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0])
    order = np.argsort(length(displacement - ground) * (area < MAX_STRETCHING), axis=None, kind="stable")
    x, y = x[order], y[order]
    pixel, corner = np.nonzero((x >= 0) & (x < width) & (y >= 0) & (y < height))
    target = y[pixel, corner], x[pixel, corner]
    arrived, known = np.zeros_like(displacement), np.zeros((height, width), np.float32)
    arrived[target] = displacement.reshape(height * width, 2)[order[pixel]]
    known[target] = 1
    return _filled(arrived, known)


def _filled(values: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns values [h, w, n], with a mean of the known values around where a value is not known.

    known: 1 for each pixel whose value is known, else 0, [h, w]. Without any known value, the result is 0.
    """
    height, width = known.shape
    if known.all() or known.size == 1:
        return values
    half = ((width + 1) // 2, (height + 1) // 2)
    share = cv2.resize(known, half, interpolation=cv2.INTER_AREA)
    total = cv2.resize(values * known[..., None], half, interpolation=cv2.INTER_AREA)
    coarse = _filled(total / np.maximum(share, 1e-6)[..., None], (share > 1e-6).astype(np.float32))
    return np.where(known[..., None] > 0, values, cv2.resize(coarse, (width, height)))
