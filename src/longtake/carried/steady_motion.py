"""Measures the steady motion of a source next to the new frames, and tests whether it goes on.

It is measured in two ways. Over the last few steps, each pixel is followed from frame to frame: this is true at any
time, but displacements of less than a pixel are known badly. Over many frames the displacement is large and known well,
but only motion that stays nearly the same for so long is measured rightly, such as that of a camera. The test says
which one to use: the motion of earlier frames, continued, must predict the source's last frames.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.optical_flow import (
    Field,
    Luma,
    contrast,
    followed,
    length,
    pixel_places,
    rough_flow,
    smoothed,
)

MOTION_STEPS = 4
"""Motion is measured step by step over at most this many pairs of neighbouring frames, those next to the new frames."""

FAR_STEPS = 16
"""Motion is measured at once over at most this many steps."""

TEST_STEPS = 8
"""The steady motion is tested on this many steps: that before them is continued and compared with what they show."""

TEST_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The shares of the steady motion that are tested."""

TEST_DOUBT = 1.0
"""The error of a share that is not the best one for the whole picture counts more, by this much for each unit of
distance from the best one. So areas that prove nothing move like the rest."""

TEST_CHOICE = 8.0
"""How clearly the best share of the steady motion is preferred: one with an error 1/8 greater has 1/e of its weight."""

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
    def of(cls, luma: Luma, steps: NDArray[np.float32]) -> "SteadyMotion":
        """Returns the steady motion that the displacements of some steps have in common.

        The displacements are smoothed, which makes them shorter where neighbouring pixels move differently. So all of
        them are then multiplied by one factor, 1 to 1.5, that restores their mean length.

        luma: the frame at which the motion is wanted.
        steps: the displacement of each pixel of this frame in each step, [n, h, w, 2].
        """
        weights = contrast(luma)
        ground: NDArray[np.float32] = np.median(steps.mean(axis=0), axis=(0, 1))
        moving = weights * (length(steps.mean(axis=0) - ground) + LEAST_MOTION)
        smooth = np.stack([smoothed(step, moving) for step in steps])
        mean, reach = smooth.mean(axis=0), length(smooth).mean(axis=0)
        rough_length = np.average(length(steps).mean(axis=0), weights=weights)
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
class Proof:
    """How well the motion of earlier frames, continued, predicts the source's last frames.

    share: the share of each pixel's motion that predicts them best, 0..1, [h, w].
    left: the squared error that is left by all of the motion, divided by that of a picture that stands still.
    """

    share: NDArray[np.float32]
    left: float


def measured(lumas: Sequence[Luma]) -> tuple[SteadyMotion, Proof]:
    """Measures the steady motion of a source, in the one of two ways that predicts its last frames better.

    With too few frames to test it, all of it counts as proven, but it is as doubtful as a motion that fails the test.

    lumas: the source's frames, the one next to the new frames first; at least two.
    """
    tested = min(TEST_STEPS, len(lumas) - 1 - MOTION_STEPS)
    if tested < 2:
        return _step_by_step(lumas), Proof(np.ones(lumas[0].shape, np.float32), 1.0)
    ways = (_step_by_step, _at_once)
    proofs = [_proof(lumas[: tested + 1], way(lumas[tested:])) for way in ways]
    way, proof = min(zip(ways, proofs, strict=True), key=lambda pair: pair[1].left)
    return way(lumas), proof


def _step_by_step(lumas: Sequence[Luma]) -> SteadyMotion:
    """Measures the motion of the first frame's pixels by following them from frame to frame."""
    pairs = itertools.pairwise(lumas[: MOTION_STEPS + 1])
    steps = followed([rough_flow(near, far) for near, far in pairs])
    return SteadyMotion.of(lumas[0], steps)


def _at_once(lumas: Sequence[Luma]) -> SteadyMotion:
    """Measures the motion of the first frame's pixels over the nearer half of the frames, 17 at most.

    Whether it is steady is measured in both halves. What has become slower goes on as slowly as it is now. Each flow
    starts from the one to the frame before, so that large displacements are found, too.
    """
    last = min(FAR_STEPS, len(lumas) - 1)
    half, flows = last // 2, list[Field]()
    for luma in lumas[1 : last + 1]:
        flows.append(rough_flow(lumas[0], luma, flows[-1] if flows else None))
    near, far = flows[half - 1] / np.float32(half), (flows[-1] - flows[half - 1]) / np.float32(last - half)
    both = SteadyMotion.of(lumas[0], np.stack([near, far]))
    return replace(SteadyMotion.of(lumas[0], near[None]), steadiness=both.steadiness)


def _proof(lumas: Sequence[Luma], earlier: SteadyMotion) -> Proof:
    """Tests a steady motion.

    lumas: the source's last frames, the one next to the new frames first.
    earlier: the motion at the last one of them, which is continued to the others.
    """
    steps, (height, width) = len(lumas) - 1, lumas[0].shape
    pixels = pixel_places(height, width)
    shares = np.array(TEST_SHARES, np.float32)
    errors = np.zeros((len(shares), height, width), np.float32)
    for error, part in zip(errors, shares, strict=True):
        for step in (steps // 2, steps):
            way = earlier.way(part * step, part * step)
            there = pixels + arrived(way, earlier.ground * part * np.float32(step))
            drawn = cv2.remap(lumas[steps], there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
            difference = np.square(drawn.astype(np.float32) - lumas[steps - step])
            error += cv2.GaussianBlur(difference, (0, 0), height / 16)
    errors += np.float32(0.1)
    means = errors.mean(axis=(1, 2))
    best = shares[means.argmin()]
    errors *= 1 + np.float32(TEST_DOUBT) * np.abs(shares - best)[:, None, None]
    weights = np.exp(-TEST_CHOICE * (errors / errors.min(axis=0) - 1))
    chosen = np.tensordot(shares, weights, axes=1) / weights.sum(axis=0)
    share: NDArray[np.float32] = cv2.GaussianBlur(chosen.astype(np.float32), (0, 0), height / 32)
    return Proof(share, float(means[-1] / means[0]))


def arrived(displacement: Field, ground: NDArray[np.float32]) -> Field:
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
    values, known = np.zeros_like(displacement), np.zeros((height, width), np.float32)
    values[target] = displacement.reshape(height * width, 2)[order[pixel]]
    known[target] = 1
    return _filled(values, known)


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
