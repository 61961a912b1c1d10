"""Carries the fine detail of the source into the frames of a miniature model, which cannot draw footage.

A miniature draws footage as blurred shapes, but these shapes move. The detail that it loses is the difference between
the source's frame S next to the new frames and the model's rendition R of that frame (encoded and decoded). With a
displacement f_t, which says for each pixel of the t-th new frame where it was in S, the model's frame M_t becomes

    S(x + f_t) + p * (M_t - R(x + f_t))

p, the trust, is near 1 where R looks like S and the source's own motion before the joint does not tell how it goes on:
there the model's frame is kept, and only the lost detail is added. p is near 0 where R is a blur or the source moves
steadily: there the source's picture moves on.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.float32]
"""Frames [t, H, W, 3], or one frame [H, W, 3], in 0..1."""

Luma = NDArray[np.uint8]
"""The luma of a frame, [h, w]."""

Field = NDArray[np.float32]
"""A displacement for each pixel, right and down: [h, w, 2], in pixels of a picture of this size. The size is that of
the frames, scaled down to a height of FLOW_HEIGHT or less."""

FLOW_HEIGHT = 240
"""Largest height in pixels of the pictures between which optical flow is computed."""

SMOOTHING = 1 / 16
"""Standard deviation of the Gaussian that smooths the optical flow, as a part of the frame's height. Without smoothing
the warped picture tears."""

MOTION_STEPS = 4
"""The number of the source's last steps from frame to frame over which its motion is averaged."""

MOTION_FRAMES = 60
"""The number of new frames after which the source's own motion has slowed down to 1/e of its speed."""

BLUR_ERROR = 0.06
"""The difference between the source's frame and its rendition (RMS at its edges, 0..1) at which a model draws so
badly that it is trusted by half. Clips of the miniature's own world have 0.03 to 0.06, footage has 0.1 and more."""

LEAST_CONTRAST = 2.0
"""The contrast, in 8-bit code values per pixel, that flat places count as having, so that they also have a motion."""

MAX_LENGTHENING = 1.5
"""The largest factor by which motion is lengthened after smoothing has shortened it."""


@dataclass(frozen=True)
class SourceMotion:
    """The motion of the source at the joint, as a mean over its last steps from frame to frame.

    `mean`: where each pixel of the frame next to the new frames was one step farther from them.
    `reach`: how far each pixel moves in one step, [h, w], in pixels as in `mean`. Motion back and forth counts here,
        although it cancels out in `mean`. Infinite if no motion is known.
    `steadiness`: 1 where a pixel moves in one direction, 0 where its motion cancels out or is not known, [h, w].
    """

    mean: Field
    reach: NDArray[np.float32]
    steadiness: NDArray[np.float32]

    @classmethod
    def of(cls, frames: NDArray[np.uint8]) -> "SourceMotion":
        """Returns the motion of `frames` [T, H, W, 3], of which the one next to the new frames comes first.

        Smoothing makes motion shorter where neighbours move differently. Therefore it is lengthened again, to the mean
        length before smoothing. With T = 1 no motion is known.
        """
        lumas = [_small_luma(frame.astype(np.float32) / 255) for frame in frames[: MOTION_STEPS + 1]]
        still = np.zeros(lumas[0].shape, np.float32)
        if len(lumas) < 2:
            return cls(np.stack([still, still], axis=-1), np.full_like(still, np.inf), still)
        weights = _contrast(lumas[0])
        rough = [_rough_flow(near, far) for near, far in itertools.pairwise(lumas)]
        smooth = np.stack([_smoothed(flow, weights) for flow in rough])
        mean, reach = smooth.mean(axis=0), _length(smooth).mean(axis=0)
        rough_length = np.average(_length(np.stack(rough)).mean(axis=0), weights=weights)
        smooth_length = max(float(np.average(reach, weights=weights)), 1e-6)
        lengthening = np.float32(min(MAX_LENGTHENING, rough_length / smooth_length))
        return cls(mean * lengthening, reach * lengthening, _length(mean) / np.maximum(reach, 1e-6))


@dataclass(frozen=True)
class Detail:
    """What is carried from the source into the new frames.

    `source`: the source's frame next to the new frames, S, [H, W, 3] in 0..1.
    `rendition`: the same frame after the model's autoencoder has encoded and decoded it, R, [H, W, 3] in 0..1.
    `motion`: the source's motion at the joint.
    `trust`: how far the model's own frames are believed, p, [h, w] in 0..1.
    """

    source: Pictures
    rendition: Pictures
    motion: SourceMotion
    trust: NDArray[np.float32]

    @classmethod
    def of(cls, frames: NDArray[np.uint8], rendition: Pictures) -> "Detail":
        """Returns the detail of the source that the rendition lacks, with the source's motion at the joint.

        `frames`: the source's frames at the joint, [T, H, W, 3], the one next to the new frames first.
        """
        source = frames[0].astype(np.float32) / 255
        motion = SourceMotion.of(frames)
        return cls(source, rendition, motion, _fidelity(source, rendition) * (1 - motion.steadiness))


def carry_detail(new_frames: Pictures, detail: Detail, *, first: int = 0) -> Pictures:
    """Returns the model's new frames [t, H, W, 3] with the source's detail carried into them.

    new_frames: they are ordered by their distance from the source, the nearest one first.
    first: number of new frames between the source and `new_frames[0]`, if the new frames come in several chunks.
    """
    import cv2

    rendition = _small_luma(detail.rendition)
    trust = cv2.resize(detail.trust, (new_frames.shape[2], new_frames.shape[1]))[..., None]
    carried = np.empty_like(new_frames)
    for index, frame in enumerate(new_frames):
        displacement = _displacement(_model_flow(_small_luma(frame), rendition), detail, distance=first + index + 1)
        drawn = _warped(detail.source, displacement)
        added = trust * (frame - _warped(detail.rendition, displacement))
        carried[index] = np.clip(drawn + added, 0, 1)
    return carried


def _fidelity(source: Pictures, rendition: Pictures) -> float:
    """Returns how well a model draws pictures like `source`, in 0..1. `rendition` is what it makes of this one."""
    import cv2

    luma = _small_luma(source)
    error = np.square(source - rendition).mean(axis=-1)
    error = cv2.resize(error, (luma.shape[1], luma.shape[0]), interpolation=cv2.INTER_AREA)
    edges = _contrast(luma) - LEAST_CONTRAST
    mean = float(np.average(error, weights=edges)) if edges.any() else float(error.mean())
    return float(1 / (1 + (mean**0.5 / BLUR_ERROR) ** 4))


def _displacement(flow: Field, detail: Detail, distance: int) -> Field:
    """Returns where each pixel of a new frame was in the source's frame next to the new frames.

    `flow`: the same according to the model alone. It is followed as far as the model is trusted. For the rest the
    source's own motion goes on and slows down, as far as it was steady. Where it was not, the flow is followed, but no
    farther than the source's own motion reaches.
    """
    steps = MOTION_FRAMES * (1 - np.exp(-distance / MOTION_FRAMES))
    motion, trust, steady = detail.motion, detail.trust[..., None], detail.motion.steadiness[..., None]
    limit = np.minimum(1, motion.reach * steps / np.maximum(_length(flow), 1e-6))[..., None]
    going_on = steady * motion.mean * steps + (1 - steady) * limit * flow
    displacement: Field = (trust * flow + (1 - trust) * going_on).astype(np.float32)
    return displacement


def _model_flow(luma: Luma, rendition: Luma) -> Field:
    """Returns where each pixel of a new frame was in the rendition of the source's frame, according to the model."""
    return _smoothed(_rough_flow(luma, rendition), _contrast(luma))


def _rough_flow(to: Luma, back: Luma) -> Field:
    """Returns where each pixel of the picture `to` is in the picture `back`, by dense inverse search (Kroeger 2016)."""
    import cv2

    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow: Field = search.calc(to, back, None)
    return flow


def _contrast(luma: Luma) -> NDArray[np.float32]:
    """Returns how reliable the flow is at each pixel, [h, w]: the length of the gradient, and a little everywhere."""
    import cv2

    across, down = cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1)
    contrast: NDArray[np.float32] = np.hypot(across, down) / 8 + LEAST_CONTRAST
    return contrast


def _smoothed(flow: Field, weights: NDArray[np.float32]) -> Field:
    """Returns the mean of the flow around each pixel, weighted by a Gaussian and by `weights` [h, w]."""
    import cv2

    sigma = flow.shape[0] * SMOOTHING
    total = cv2.GaussianBlur(flow * weights[..., None], (0, 0), sigma)
    smooth: Field = total / cv2.GaussianBlur(weights, (0, 0), sigma)[..., None]
    return smooth


def _warped(picture: Pictures, displacement: Field) -> Pictures:
    """Returns the picture [H, W, 3] whose pixel x is the pixel x + displacement(x) of `picture`.

    Near the edges the displacement is made shorter, so that it never leaves the picture: what enters the frame there is
    the stretched edge.
    """
    import cv2

    height, width = picture.shape[:2]
    scale = height / displacement.shape[0]
    moved = cv2.resize(displacement, (width, height), interpolation=cv2.INTER_LINEAR) * np.float32(scale)
    places = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    room = np.where(moved > 0, np.array([width - 1, height - 1], np.float32) - places, places)
    moved *= np.minimum(1, room / np.maximum(2 * np.abs(moved), 1e-6))
    moved += places
    warped: Pictures = cv2.remap(picture, moved, None, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101)
    return warped


def _small_luma(picture: Pictures) -> Luma:
    """Returns the luma of a picture [H, W, 3] in 0..255 (weights of BT.709), at most FLOW_HEIGHT high: [h, w]."""
    import cv2

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
