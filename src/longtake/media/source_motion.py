"""Measures how a source moves where it meets the new frames, and tells how the motion goes on into them.

S is the source's frame next to the new frames. Each pixel of S moves in two ways:

- Its steady motion is the mean of the last steps. It goes on and slows down: that of the ground slowly, that of objects
  sooner, because people and animals soon do something else, and because a body that moves in parts would be torn. It
  counts only as far as the source itself proves it: the motion of earlier frames, continued in the same way, must
  predict the source's later frames.
- The rest of its motion, such as the shake of a camera, the sway of a leaf or the nod of a head, swings on and back. It
  takes the way that the source has taken in its last steps, in the same direction first, and then returns.
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

SWING_STEPS = 5
"""Motion that is not steady takes this many steps in one direction, and then as many back."""

WAY_STEPS = 8
"""The source's pixels are followed back over this many steps."""

TEST_STEPS = 8
"""The steady motion is tested on this many steps: that before them is continued and compared with what they show."""

TEST_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The shares of the steady motion that are tested."""

TEST_DOUBT = 1.0
"""The mean squared error, in 8-bit code values, that is added to the errors of a share that is not the best one for the
whole picture, for each unit of distance from it. So flat areas, which prove nothing, move like the rest."""

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

LEAST_SPEED = 0.75
"""The new frames move at least at this share of the source's speed, if swinging can bring that about."""

SWINGS = ((2, 0.0), (2, 0.25), (2, 0.5), (2, 0.75), (2, 1.0), (1, 1.0), (0, 1.0))
"""The ways to swing: the number of steps on each side over which the swinging motion is averaged, so that a repeated
frame stops no motion, and the factor for it. The first one is taken that reaches LEAST_SPEED, otherwise the last."""

SPEED_FRAMES = (4, 12, 20)
"""The speed of the new frames is the mean of the speeds after these frames."""


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
class SourceMotion:
    """The motion of the source at the joint, where it meets the new frames.

    steady: the motion that goes on.
    object_frames: the number of new frames after which the continued motion of each pixel relative to the ground has
        1/e of its speed, [h, w].
    ways: the displacement from each pixel of the source's frame next to the new ones to its place in each earlier
        frame, [n, h, w, 2]; the first one is 0. With n = 1 the source's motion is not known.
    swing: the displacements that are added to the steady motion, [k, h, w, 2]. New frames use them one after the other,
        from the first to the last and back again.
    doubt: how doubtful it is that the source moves on as a picture of the model's own world does, 0..1.
    """

    steady: SteadyMotion
    object_frames: NDArray[np.float32]
    ways: NDArray[np.float32]
    swing: NDArray[np.float32]
    doubt: float

    @classmethod
    def of(cls, frames: NDArray[np.uint8], doubt: float) -> "SourceMotion":
        """Measures the motion of the source, as a displacement of each pixel, in its frames next to the new ones.

        frames: [T, H, W, 3], ordered by their distance from the new frames, the nearest one first. With only one frame
            no motion is known, and all displacements of the result are 0.
        doubt: how unlike the model's own world the source is, 0..1. With 0, all steady motion goes on, that of objects
            like that of the ground, and nothing swings.
        """
        used = frames[: max(WAY_STEPS, TEST_STEPS + MOTION_STEPS) + 1]
        lumas = [small_luma(frame.astype(np.float32) / 255) for frame in used]
        if len(lumas) < 2:
            still = np.zeros((*lumas[0].shape, 2), np.float32)
            steady = SteadyMotion(still, still[..., 0], still[..., 0], still[0, 0])
            return cls(steady, np.ones_like(steady.steadiness), still[None], still[None], doubt)
        flows = [rough_flow(near, far) for near, far in itertools.pairwise(lumas)]
        steady = SteadyMotion.of(lumas[0], flows)
        proven, left = _proven(lumas, flows)
        doubt *= float(np.interp(left, SURE, (0, 1)))
        steady = replace(steady, steadiness=steady.steadiness * (1 - np.float32(doubt) * (1 - proven)))
        weights = contrast(lumas[0])
        steps = _smooth_steps(followed(flows[:WAY_STEPS]), steady.ground, weights)
        ways = np.concatenate([np.zeros_like(steps[:1]), np.cumsum(steps, axis=0)])
        speed = float(np.average(length(steps[:SWING_STEPS]).mean(axis=0), weights=weights))
        lasting = _lasting(steady, proven, doubt)
        for reach, strength in SWINGS:
            even = enumerate(_even(ways, reach)[: SWING_STEPS + 1])
            swing = np.float32(doubt * strength) * np.stack([way - steady.way(step, step) for step, way in even])
            motion = cls(steady, lasting, ways, swing, doubt)
            if motion.speed(weights) >= LEAST_SPEED * speed:
                break
        return motion

    @property
    def known(self) -> bool:
        """True if the source has enough frames to show a motion."""
        return len(self.ways) > 1

    def way(self, distance: int) -> Field:
        """Returns the displacement [h, w, 2] from the place of each pixel of the source in a new frame to its own.

        distance: the number of new frames between the source and the new frame.
        """
        last = len(self.swing) - 1
        turn = (distance + 1) % max(2 * last, 1)
        object_steps = self.object_frames * (1 - np.exp(-np.float32(distance + 1) / self.object_frames))
        steady = self.steady.way(self._ground_steps(distance), object_steps[..., None])
        way: Field = steady + self.swing[min(turn, 2 * last - turn)]
        return way

    def arrived(self, distance: int) -> tuple[Field, NDArray[np.float32], NDArray[np.float32]]:
        """Returns three facts about a new frame's pixels: displacement [h, w, 2], steadiness [h, w] and reach [h, w].

        They are those of the source's pixels that have arrived there. Where several pixels arrive at one place, the one
        counts whose motion differs most from that of the ground: a moving object hides the ground before it. Where none
        arrives, the motion is that of the pixels around. The reach is the greatest length in pixels of a displacement
        that is in keeping with the source's motion.

        distance: the number of new frames between the source and the new frame.
        """
        way, steps = self.way(distance), np.float32(self._ground_steps(distance))
        moved = _arrived(np.dstack([way, self.steady.steadiness, self.steady.reach]), way, self.steady.ground * steps)
        return moved[..., :2], moved[..., 2], moved[..., 3] * steps

    def _ground_steps(self, distance: int) -> float:
        """Returns how many steps of the source the ground has moved on in the new frame after `distance` others."""
        frames = _ground_frames(self.doubt)
        return frames * (1 - math.exp(-(distance + 1) / frames))

    def speed(self, weights: NDArray[np.float32]) -> float:
        """Returns the mean length in pixels of a step of the new frames. `weights` [h, w] are those of the pixels."""
        steps = np.stack([self.way(frame + 1) - self.way(frame) for frame in SPEED_FRAMES])
        return float(np.average(length(steps).mean(axis=0), weights=weights))


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


def _even(ways: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    """Returns displacements [n, h, w, 2], each as the mean over as many steps on either side as `reach` says.

    Fewer steps count near the last one. The first displacement is 0 and stays 0.
    """
    last = len(ways) - 1
    both = np.concatenate([-ways[:0:-1], ways])
    reaches = [min(reach, last - step) for step in range(last + 1)]
    return np.stack([both[last + k - r : last + k + r + 1].mean(axis=0) for k, r in enumerate(reaches)])


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
            there = pixels + _arrived(way, way, earlier.ground * share * np.float32(step))
            drawn = cv2.remap(lumas[steps], there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
            difference = np.square(drawn.astype(np.float32) - lumas[steps - step])
            error += cv2.GaussianBlur(difference, (0, 0), height / 16)
    means = errors.mean(axis=(1, 2)) + np.float32(0.1)
    best = shares[means.argmin()]
    errors += np.float32(TEST_DOUBT) * np.abs(shares - best)[:, None, None] + np.float32(0.1)
    weights = np.exp(-TEST_CHOICE * (errors / errors.min(axis=0) - 1))
    chosen = np.tensordot(shares, weights, axes=1) / weights.sum(axis=0)
    proven: NDArray[np.float32] = cv2.GaussianBlur(chosen.astype(np.float32), (0, 0), height / 32)
    return proven, float(means[-1] / means[0])


def _arrived(values: NDArray[np.float32], displacement: Field, ground: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns values [h, w, n] of pixels at the places where the pixels go.

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
    arrived, known = np.zeros_like(values), np.zeros((height, width), np.float32)
    arrived[target] = values.reshape(height * width, -1)[order[pixel]]
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
