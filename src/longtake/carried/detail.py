"""Adds the fine detail of the source to the new frames of a small model that draws real video blurred.

The new frames are blurred, but they show where things move. The source's pixels are moved to the same places:

- S is the source's frame next to the new frames.
- R is the same frame after the model has encoded and decoded it. S - R is the detail that the model loses.
- M_t is the t-th new frame, as the model has drawn it.
- f_t is the displacement: M_t shows at the pixel x what S shows at the pixel x + f_t. S that is moved in this way is
  made as sharp as it was before (`longtake.carried.sharpness`).
- p is the trust in the model at each pixel, 0..1.

The new frame becomes S(x + f_t) + p * (M_t - R(x + f_t)), and the grain of the source (`longtake.carried.grain`):

- p is near 1 if R looks like S and nothing has moved steadily at this place. The result is the model's frame with the
  lost detail, and f_t is the optical flow of the model's frames.
- p is 0 if R is blurred, and near 0 close to a place where something moved steadily in the source, or to which it has
  moved on since. There the motion measured in the source, continued, predicts the place of a pixel better than the new
  frame does (`longtake.carried.source_motion`). The result is the source's frame, moved. If the source has only one
  frame, it is moved by the optical flow of the model's frames.

If R is blurred and the source's motion is not steady, S is not the same frame for all new frames. These show the
source's last frames one after the other, backwards and forwards, instead of S and its grain. Each of them is moved to
where its steady motion has brought its pixels by then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.grain import Grain
from longtake.carried.optical_flow import (
    LEAST_CONTRAST,
    Field,
    Luma,
    Pictures,
    as_picture,
    contrast,
    length,
    pixel_places,
    rough_flow,
    sampled,
    small_luma,
    smoothed,
    stiffened,
)
from longtake.carried.sharpness import as_sharp, sharpness
from longtake.carried.source_motion import Arrived, SourceMotion

OWN_WORLD = 0.5
"""The fidelity from which on a picture counts as one of the model's own world, in which objects keep moving."""

MARGIN = 1 / 10
"""The model is not trusted within this distance, as a share of the frame's height, around what moves steadily."""

BLUR_ERROR = 0.06
"""The error at which `fidelity_of`, the measure of how well a model draws a picture, is 1/2. The error is the root mean
square of the differences (0..1) between a picture and the same picture after the model's autoencoder has encoded and
decoded it. Differences at contours weigh most. The small models in this package reach 0.03 to 0.06 on clips like those
they were trained on, and 0.1 or more on real video."""


@dataclass(frozen=True)
class Detail:
    """Everything that is needed to add the source's fine detail to the new frames (see `carried`).

    frames: the source's frames [T, H, W, 3], ordered by their distance from the new frames, the nearest one first.
    rendition: the nearest frame after the model's autoencoder has encoded and decoded it, [H, W, 3] in 0..1.
    motion: how far each pixel of the source moves from frame to frame where the source meets the new frames (see
        `SourceMotion`).
    grain: the small differences between the source's frames. None if the new frames show several of the source's
        frames: these bring their own grain.
    fidelity: how well the model draws the source, from 0 (badly) to 1 (without an error).
    """

    frames: NDArray[np.uint8]
    rendition: Pictures
    motion: SourceMotion
    grain: Grain | None
    fidelity: float

    @classmethod
    def of(cls, frames: NDArray[np.uint8], rendition: Pictures) -> "Detail":
        """Returns the `Detail` with which `carried` adds the source's fine detail to new frames.

        Its `motion` is measured in `frames`. Its `fidelity` is measured by comparing `frames[0]` with `rendition`.

        frames, rendition: as in the class.
        """
        fidelity = fidelity_of(frames[0], rendition)
        motion = SourceMotion.of(frames, max(0.0, 1 - fidelity / OWN_WORLD))
        grain = Grain.of(frames, motion.steady.way(1, 1)) if len(motion.swing) == 1 else None
        return cls(frames[: max(motion.swing) + 1], rendition, motion, grain, fidelity)

    def carried(self, new_frames: Pictures, distances: Sequence[int]) -> Pictures:
        """Returns the model's new frames [t, H, W, 3] in 0..1 with the fine detail of the source added to them.

        distances: for each frame of `new_frames`, the number of new frames between the source and this frame: 0 for the
            frame next to the source.
        """
        rendition = small_luma(self.rendition)
        size = (new_frames.shape[2], new_frames.shape[1])
        carried = np.empty_like(new_frames)
        for index, (frame, distance) in enumerate(zip(new_frames, distances, strict=True)):
            here, number = self.motion.arrived(distance), self.motion.number(distance)
            steady = _around(np.maximum(here.steadiness, self.motion.steady.steadiness))
            trust = (self.trusted * (1 - steady)).astype(np.float32)
            way = self._way(frame, rendition, here, trust[..., None])
            places = _places(way, size)
            shown = as_picture(self.frames[number])
            there = _places(way + np.float32(number) * here.step, size) if number else places
            drawn = as_sharp(sampled(shown, there), self.sharpness[number])
            grain = self.grain.at(drawn, places, distance) if self.grain else np.float32(0)
            if self.trusted:
                drawn += cv2.resize(trust, size)[..., None] * (frame - sampled(self.rendition, places))
            carried[index] = np.clip(drawn + grain, 0, 1)
        return carried

    @cached_property
    def sharpness(self) -> tuple[float, ...]:
        """The sharpness of each of `frames`."""
        return tuple(sharpness(as_picture(frame)) for frame in self.frames)

    @property
    def trusted(self) -> float:
        """The greatest share of the model's own frames in the new frames. It is 0 for footage, which the model draws
        badly: what moves in its frames would only shake the source's."""
        return self.fidelity if self.fidelity >= OWN_WORLD else 0.0

    def _way(self, frame: Pictures, rendition: Luma, here: Arrived, trust: NDArray[np.float32]) -> Field:
        """Returns the displacement [h, w, 2] from each pixel of a new frame to its place in the source.

        frame: the new frame [H, W, 3] in 0..1, as the model has drawn it. rendition: as in `_model_flow`.
        here: the source's motion that has arrived in the new frame.
        trust: the share of the model's own frame, [h, w, 1].
        """
        if self.motion.known and not self.trusted:
            return here.way
        flow = _model_flow(small_luma(frame), rendition)
        if not self.motion.known:
            # Between a picture that the model cannot draw and another one, the flow is torn. Its mean is not.
            stiff = stiffened(flow, contrast(rendition))
            return (stiff + np.float32(self.fidelity) * (flow - stiff)).astype(np.float32)
        near = np.minimum(1, here.reach / np.maximum(length(flow), 1e-6))
        way = here.way + ((1 - here.steadiness) * near)[..., None] * flow
        return (trust * flow + (1 - trust) * way).astype(np.float32)


def fidelity_of(frame: NDArray[np.uint8], rendition: Pictures) -> float:
    """Returns how well a model draws a picture, from 0 (badly) to 1 (without an error).

    Errors at contours count most, because a blur shows there.

    frame: the picture, [H, W, 3].
    rendition: the same picture after the model's autoencoder has encoded and decoded it, [H, W, 3] in 0..1.
    """
    source = as_picture(frame)
    luma = small_luma(source)
    error = np.square(source - rendition).mean(axis=-1)
    error = cv2.resize(error, (luma.shape[1], luma.shape[0]), interpolation=cv2.INTER_AREA)
    edges = contrast(luma) - LEAST_CONTRAST
    mean = float(np.average(error, weights=edges)) if edges.any() else float(error.mean())
    return float(1 / (1 + (mean**0.5 / BLUR_ERROR) ** 4))


def is_of_own_world(frame: NDArray[np.uint8], rendition: Pictures) -> bool:
    """Returns True if a model draws a frame so well that it knows what follows. The parameters are those of
    `fidelity_of`."""
    return fidelity_of(frame, rendition) >= OWN_WORLD


def _around(steadiness: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the greatest steadiness around each pixel, smoothed, [h, w].

    The model may draw a steadily moving object a little beside the place where its motion has brought it.
    """
    margin = max(1, round(len(steadiness) * MARGIN))
    greatest = cv2.dilate(steadiness, np.ones((2 * margin + 1, 2 * margin + 1), np.uint8))
    smooth: NDArray[np.float32] = cv2.GaussianBlur(greatest, (0, 0), margin / 2)
    return smooth


def _model_flow(luma: Luma, rendition: Luma) -> Field:
    """Returns how far each pixel of a new frame is from its place in the model's version of a source frame.

    The displacement is (right, down) in pixels: [h, w, 2], the size of `luma`.

    luma: the luma of the new frame, as the model has drawn it.
    rendition: the luma of the source's frame after the model's autoencoder has encoded and decoded it.
    """
    return smoothed(rough_flow(luma, rendition), contrast(luma))


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
    moved = np.where(length(smooth - nearest)[..., None] > 1, nearest, smooth) * scale
    pixels = pixel_places(height, width)
    # Near the edges the displacement is made shorter, so that no place is outside the source's frame. Where the new
    # frame would show something that the source's frame does not have, it shows the edge of that frame, stretched:
    # twice at the edge, and ever less inwards, so that lines have no kink.
    room = np.where(moved > 0, np.array([width - 1, height - 1], np.float32) - pixels, pixels)
    places: NDArray[np.float32] = pixels + moved * np.tanh(room / np.maximum(2 * np.abs(moved), 1e-6))
    return places
