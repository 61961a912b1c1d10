"""Adds the fine detail of the source to the new frames of a small model that draws real video blurred.

The new frames are blurred, but they show where things move. The source's pixels are moved to the same places:

- S is the source's frame next to the new frames.
- R is the same frame after the model has encoded and decoded it. S - R is the detail that the model loses.
- M_t is the t-th new frame, as the model has drawn it.
- f_t is the displacement: M_t shows at the pixel x what S shows at the pixel x + f_t.
- p is the trust in the model at each pixel, 0..1.

The new frame becomes S(x + f_t) + p * (M_t - R(x + f_t)):

- p is near 1 if R looks like S and nothing has moved steadily at this place. The result is the model's frame with the
  lost detail.
- p is near 0 if R is blurred, or at a place where something moved steadily in the source, or to which it has moved on
  since. There the motion measured in the source predicts the place of a pixel better than the new frame does. The
  result is the source's frame, moved.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.float32]
"""Frames [t, H, W, 3], or one frame [H, W, 3], in 0..1."""

Luma = NDArray[np.uint8]
"""The luma of a frame, [h, w]."""

Field = NDArray[np.float32]
"""A displacement (right, down) in pixels for each pixel of a frame that is scaled down to h rows (at most FLOW_HEIGHT)
and w columns: [h, w, 2]."""

FLOW_HEIGHT = 240
"""Frames with more rows than this are scaled down to this many rows before optical flow is computed."""

SMOOTHING = 1 / 20
"""Standard deviation of the Gaussian that smooths the optical flow, as a share of the frame's height. Without smoothing
the moved picture would look torn."""

MOTION_STEPS = 4
"""The source's motion is averaged over at most this many pairs of neighbouring frames, those next to the new frames."""

MOTION_FRAMES = 60
"""The number of new frames after which the source's motion, which is continued into the new frames more and more
slowly, has 1/e of its speed. The continued motion tells where the source's fine detail belongs in a new frame."""

BLUR_ERROR = 0.06
"""The error at which `_fidelity`, the measure of how well a model draws a picture, is 1/2. The error is the root mean
square of the differences (0..1) between a picture and the same picture after the model's autoencoder has encoded and
decoded it. Differences at contours weigh most. The small models in this package reach 0.03 to 0.06 on clips like those
they were trained on, and 0.1 or more on real video."""

LEAST_CONTRAST = 2.0
"""Where the motion of pixels is averaged, each pixel is weighted by the contrast around it. This much contrast, in
8-bit code values per pixel, is added to every weight, so that flat areas count a little, too."""

LEAST_MOTION = 0.3
"""Where the source's motion is smoothed, each displacement is also weighted by its distance from the motion of the
ground plus this length in pixels. So an object that moves over the ground keeps its motion up to its edge: the ground
hardly changes the mean, even where the camera moves."""

MAX_LENGTHENING = 1.5
"""Smoothing makes displacements shorter. They are lengthened again afterwards, by at most this factor."""


MAX_STRETCHING = 3.0
"""Pixels whose motion stretches the area around them to more than this multiple do not hide what they move over."""


@dataclass(frozen=True)
class SourceMotion:
    """The motion of the source at the joint, where it meets the new frames, averaged over up to four steps.

    A step leads from one frame of the source to the neighbouring frame that is farther from the new frames. Motion is
    measured in frames that are scaled down to h rows (240 at most) and w columns.

    mean: the mean displacement (x, y) of each pixel in one step, [h, w, 2].
    reach: the mean length of a pixel's displacements in pixels, [h, w]. Motion back and forth counts here, although it
        cancels out in `mean`. Infinite if the source has only one frame.
    steadiness: the length of `mean` divided by `reach`, [h, w]: 1 where a pixel moves in one direction, 0 where it
        moves back and forth or the motion is not known.
    ground: the displacement (x, y) of the ground in one step, [2]: the median of all pixels.
    """

    mean: Field
    reach: NDArray[np.float32]
    steadiness: NDArray[np.float32]
    ground: NDArray[np.float32]

    @classmethod
    def of(cls, frames: NDArray[np.uint8]) -> "SourceMotion":
        """Measures the motion of the source, as a displacement of each pixel, in its frames next to the new ones.

        frames: [T, H, W, 3], ordered by their distance from the new frames, the nearest one first. With only one frame
            no motion is known, and all displacements of the result are 0.

        The displacements are smoothed, which makes them shorter where neighbouring pixels move differently. So all of
        them are then multiplied by one factor, 1 to 1.5, that restores their mean length.
        """
        lumas = [_small_luma(frame.astype(np.float32) / 255) for frame in frames[: MOTION_STEPS + 1]]
        still = np.zeros(lumas[0].shape, np.float32)
        if len(lumas) < 2:
            return cls(np.stack([still, still], axis=-1), np.full_like(still, np.inf), still, np.zeros(2, np.float32))
        weights = _contrast(lumas[0])
        rough = _followed([_rough_flow(near, far) for near, far in itertools.pairwise(lumas)])
        step = np.mean(rough, axis=0)
        ground: NDArray[np.float32] = np.median(step, axis=(0, 1))
        moving = weights * (_length(step - ground) + LEAST_MOTION)
        smooth = np.stack([_smoothed(flow, moving) for flow in rough])
        mean, reach = smooth.mean(axis=0), _length(smooth).mean(axis=0)
        rough_length = np.average(_length(rough).mean(axis=0), weights=weights)
        smooth_length = max(float(np.average(reach, weights=weights)), 1e-6)
        lengthening = np.float32(np.clip(rough_length / smooth_length, 1, MAX_LENGTHENING))
        mean, reach = mean * lengthening, reach * lengthening
        return cls(mean, reach, _length(mean) / np.maximum(reach, 1e-6), ground)

    def after(self, steps: float) -> "SourceMotion":
        """Returns the motion where its pixels are after they have moved on steadily by `steps` steps.

        Where several pixels arrive at one place, the one counts whose motion differs most from that of the ground: a
        moving object hides the ground before it. Where none arrives, the motion is that of the pixels around.
        """
        values = np.dstack([self.mean, self.reach, self.steadiness])
        length = np.float32(steps)
        moved = _arrived(values, self.steadiness[..., None] * self.mean * length, self.ground * length)
        return SourceMotion(moved[..., :2], moved[..., 2], moved[..., 3], self.ground)


@dataclass(frozen=True)
class Detail:
    """Everything that is needed to add the source's fine detail to the new frames (see `carry_detail`).

    source: the source's frame next to the new frames, [H, W, 3] in 0..1.
    rendition: the same frame after the model's autoencoder has encoded and decoded it, [H, W, 3] in 0..1.
    motion: how far each pixel of the source moves from frame to frame where the source meets the new frames (see
        `SourceMotion`).
    fidelity: how well the model draws the source, from 0 (badly) to 1 (without an error).
    """

    source: Pictures
    rendition: Pictures
    motion: SourceMotion
    fidelity: float

    @classmethod
    def of(cls, frames: NDArray[np.uint8], rendition: Pictures) -> "Detail":
        """Returns the `Detail` with which `carry_detail` adds the source's fine detail to new frames.

        Its `motion` is measured in `frames`. Its `fidelity` is measured by comparing `frames[0]` with `rendition`.

        frames: the source's frames [T, H, W, 3], ordered by their distance from the new frames, the nearest one first.
        rendition: `frames[0]` after the model's autoencoder has encoded and decoded it, [H, W, 3] in 0..1.
        """
        source = frames[0].astype(np.float32) / 255
        return cls(source, rendition, SourceMotion.of(frames), _fidelity(source, rendition))


def carry_detail(new_frames: Pictures, detail: Detail, distances: Sequence[int]) -> Pictures:
    """Returns the model's new frames [t, H, W, 3] in 0..1 with the fine detail of the source added to them.

    detail: the source's frame next to the new ones, the model's version of that frame, and the source's motion.
    distances: for each frame of `new_frames`, the number of new frames between the source and this frame: 0 for the
        frame next to the source.
    """
    rendition = _small_luma(detail.rendition)
    size = (new_frames.shape[2], new_frames.shape[1])
    carried = np.empty_like(new_frames)
    for index, (frame, distance) in enumerate(zip(new_frames, distances, strict=True)):
        steps = MOTION_FRAMES * (1 - math.exp(-(distance + 1) / MOTION_FRAMES))
        motion = detail.motion.after(steps)
        unsteadiness = 1 - np.maximum(motion.steadiness, detail.motion.steadiness)
        trust = (detail.fidelity * unsteadiness).astype(np.float32)
        flow = _model_flow(_small_luma(frame), rendition)
        places = _places(_displacement(flow, motion, trust, steps), size)
        drawn = _sampled(detail.source, places)
        added = cv2.resize(trust, size)[..., None] * (frame - _sampled(detail.rendition, places))
        carried[index] = np.clip(drawn + added, 0, 1)
    return carried


def _fidelity(source: Pictures, rendition: Pictures) -> float:
    """Returns how well a model draws the picture `source`, from 0 (badly) to 1 (without an error).

    Errors at contours count most, because a blur shows there.

    source: the picture, [H, W, 3].
    rendition: the same picture after the model's autoencoder has encoded and decoded it, [H, W, 3].
    """
    luma = _small_luma(source)
    error = np.square(source - rendition).mean(axis=-1)
    error = cv2.resize(error, (luma.shape[1], luma.shape[0]), interpolation=cv2.INTER_AREA)
    edges = _contrast(luma) - LEAST_CONTRAST
    mean = float(np.average(error, weights=edges)) if edges.any() else float(error.mean())
    return float(1 / (1 + (mean**0.5 / BLUR_ERROR) ** 4))


def _displacement(flow: Field, motion: SourceMotion, trust: NDArray[np.float32], steps: float) -> Field:
    """Returns the displacement from each pixel of a new frame to its place in the source's frame next to the new ones.

    It is a weighted mean of three displacements:
    - Where the model is trusted: `flow`.
    - Where it is not trusted and the source moves steadily: the source's motion, continued.
    - Elsewhere: `flow`, shortened where it is longer than the source's continued motion.

    flow: the displacement according to the model's frames alone.
    motion: the source's motion, at the places of the new frame (see `SourceMotion.after`).
    trust: how much of the model's own drawing is used at each pixel, from 0 (none) to 1 (all of it), [h, w].
    steps: the length of the source's continued motion, in steps of `motion`.
    """
    share, steady = trust[..., None], motion.steadiness[..., None]
    limit = np.minimum(1, motion.reach * steps / np.maximum(_length(flow), 1e-6))[..., None]
    going_on = steady * motion.mean * steps + (1 - steady) * limit * flow
    displacement: Field = (share * flow + (1 - share) * going_on).astype(np.float32)
    return displacement


def _arrived(values: NDArray[np.float32], displacement: Field, ground: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns values [h, w, n] of pixels at the places where the pixels go.

    displacement: for each pixel, the displacement from the place where it goes back to where it is.
    ground: the same displacement (x, y) of the ground.
    """
    height, width = displacement.shape[:2]
    goals = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1) - displacement
    # Each pixel arrives at the four places around its goal, so that an object that is stretched a little has no holes.
    x, y = (np.floor(axis).reshape(-1, 1).astype(int) for axis in (goals[..., 0], goals[..., 1]))
    x, y = x + np.array([0, 1, 0, 1]), y + np.array([0, 0, 1, 1])
    # Of the values that are assigned to one place, the last one stays. It is that of the pixel that moves fastest over
    # the ground. Pixels of an area that is stretched so far that they would leave holes come first: they hide nothing.
    down, across = np.gradient(goals, axis=(0, 1))
    area = np.abs(across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0])
    order = np.argsort(_length(displacement - ground) * (area < MAX_STRETCHING), axis=None, kind="stable")
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


def _model_flow(luma: Luma, rendition: Luma) -> Field:
    """Returns how far each pixel of a new frame is from its place in the model's version of a source frame.

    The displacement is (right, down) in pixels: [h, w, 2], the size of `luma`.

    luma: the luma of the new frame, as the model has drawn it.
    rendition: the luma of the source's frame after the model's autoencoder has encoded and decoded it.
    """
    return _smoothed(_rough_flow(luma, rendition), _contrast(luma))


def _rough_flow(to: Luma, back: Luma) -> Field:
    """Returns for each pixel of the picture `to` where it is in the picture `back`: the displacement (x, y) in pixels,
    [h, w, 2].

    It is found by dense inverse search (Kroeger 2016) and not smoothed.
    """
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    if len(to) <= FLOW_HEIGHT // 2:
        search.setFinestScale(0)  # otherwise pictures are halved, which leaves too little of small ones
    flow: Field = search.calc(to, back, None)
    return flow


def _followed(flows: Sequence[Field]) -> NDArray[np.float32]:
    """Returns the displacements of each pixel in consecutive steps, [n, h, w, 2], from the optical flow of each step.

    A pixel is followed: its second displacement is that of the place where the first one has brought it, and so on.
    """
    height, width = flows[0].shape[:2]
    start = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    place, followed = start, []
    for flow in flows:
        followed.append(cv2.remap(flow, place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
        place = place + followed[-1]
    return np.stack(followed)


def _contrast(luma: Luma) -> NDArray[np.float32]:
    """Returns for each pixel a weight [h, w] that says how reliable optical flow is there.

    The weight is the length of the picture's gradient, in code values per pixel, plus LEAST_CONTRAST. So flat areas
    count a little, too.
    """
    across, down = cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1)
    contrast: NDArray[np.float32] = np.hypot(across, down) / 8 + LEAST_CONTRAST
    return contrast


def _smoothed(flow: Field, weights: NDArray[np.float32]) -> Field:
    """Returns the mean of the flow around each pixel, weighted by a Gaussian and by `weights` [h, w]."""
    sigma = flow.shape[0] * SMOOTHING
    total = cv2.GaussianBlur(flow * weights[..., None], (0, 0), sigma)
    smooth: Field = total / cv2.GaussianBlur(weights, (0, 0), sigma)[..., None]
    return smooth


def _places(displacement: Field, size: tuple[int, int]) -> NDArray[np.float32]:
    """Returns for each pixel of a new frame its place (x, y) in the source's frame, in pixels, [H, W, 2].

    displacement: the same frame scaled down to h rows and w columns: for each pixel, the way (x, y) to its place, in
        pixels of the small frame, [h, w, 2]. It is scaled up here.
    size: (W, H), the size of the new frame in pixels.
    """
    width, height = size
    scale = np.float32(height / displacement.shape[0])
    smooth = cv2.resize(displacement, size, interpolation=cv2.INTER_LINEAR)
    nearest = cv2.resize(displacement, size, interpolation=cv2.INTER_NEAREST)
    # At the edge of an object that moves over a ground, displacements between both would show what is between them.
    moved = np.where(_length(smooth - nearest)[..., None] > 1, nearest, smooth) * scale
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    # Near the edges the displacement is made shorter, so that no place is outside the source's frame. Where the new
    # frame would show something that the source's frame does not have, it shows the edge of that frame, stretched.
    room = np.where(moved > 0, np.array([width - 1, height - 1], np.float32) - pixels, pixels)
    places: NDArray[np.float32] = pixels + moved * np.minimum(1, room / np.maximum(2 * np.abs(moved), 1e-6))
    return places


def _sampled(picture: Pictures, places: NDArray[np.float32]) -> Pictures:
    """Returns a picture [H, W, 3] made of the pixels of `picture` at `places` [H, W, 2], which are (x, y) in pixels.

    Colours at places between pixels are interpolated. Beyond its edges the picture is continued by its mirror image.
    """
    sampled: Pictures = cv2.remap(picture, places, None, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101)
    return sampled


def _small_luma(picture: Pictures) -> Luma:
    """Returns the luma [h, w] in 0..255 (weights of BT.709) of a picture [H, W, 3] in 0..1.

    A picture of more than 240 rows (FLOW_HEIGHT) is scaled down to 240 rows; the width shrinks by the same factor.
    """
    luma = np.clip(picture @ np.array([0.2126, 0.7152, 0.0722], np.float32) * 255, 0, 255).astype(np.uint8)
    height, width = luma.shape
    if height <= FLOW_HEIGHT:
        return luma
    size = (round(width * FLOW_HEIGHT / height), FLOW_HEIGHT)
    small: Luma = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
    return small


def _length(field: Field) -> NDArray[np.float32]:
    """Returns the lengths [..., h, w] of displacements [..., h, w, 2]."""
    lengths: NDArray[np.float32] = np.hypot(field[..., 0], field[..., 1])
    return lengths
