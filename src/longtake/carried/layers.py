"""The layers of a drawn picture: a ground and objects that move over it.

An object that moves on uncovers ground that the source's last frame hides. Earlier frames may show it. So a new frame
is made of layers: the ground, and above it the objects, each of which keeps its shape and its velocity (Wang and
Adelson 1994, "Representing moving images with layers"). `longtake.carried.separation` finds them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.difference import SAME, largest
from longtake.carried.optical_flow import Pictures, pixel_places, sampled
from longtake.carried.plain_ground import WidePicture

Frames = Callable[[int], Pictures]
"""Returns a frame of a source by its number, [H, W, 3] in 0..1. The nearest frame has the number 0 and is complete. An
earlier one is NaN where it shows nothing."""

Step = NDArray[np.float32]
"""The displacement (x, y) of something in one step of the source, from a frame to the one before it, in pixels."""

MOST_LEFT = 0.1
"""The layers must explain the source's own frames: of the squared difference between two of them, at most this share is
left if the one is made from the layers of the other."""

BOUNCE = 0.86
"""An object bounces off an edge of the frame when its centre is this close to it, as a share of how far the object
reaches from its centre, in the mean over all directions."""

CUT = 0.6
"""An edge that touches an object along this share of its side cuts it: a part of the object is outside the frame."""

WHOLE = 0.7
"""At least this share of an object's outline stands out from what is around it, and of the outline behind it."""


@dataclass(frozen=True)
class Layers:
    """The layers of a source's frame next to the new frames.

    nearest: that frame, [H, W, 3] in 0..1. At the edge of an object it has the object's colour, without the ground's.
    ground: the same without its objects, [H, W, 3] in 0..1.
    alphas: for each object, how much of each pixel it covers, [n, H, W] in 0..1.
    steps: for each object, its displacement in one step to the frame before, [n, 2] in pixels.
    unexplained: how much of the source's motion they do not explain (see `left`).
    """

    nearest: Pictures
    ground: Pictures
    alphas: NDArray[np.float32]
    steps: NDArray[np.float32]
    unexplained: float = 0.0

    @property
    def are_sure(self) -> bool:
        """True if they explain the source's motion so well that it surely goes on in this way."""
        return self.unexplained < MOST_LEFT

    @cached_property
    def _wide_ground(self) -> WidePicture:
        return WidePicture.of(self.ground)

    def drawn(self, steps: float, places: NDArray[np.float32] | None = None) -> Pictures:
        """Returns a frame [H, W, 3] in 0..1 that is `steps` frames after the nearest one, or before it if negative.

        places: for each of its pixels, the place (x, y) of the nearest frame's ground that it shows, [H, W, 2]. None if
            the camera stands still: then objects bounce off the frame's edges.
        """
        seen, picture = pixel_places(*self.ground.shape[:2]), self.ground
        if places is not None:
            seen, picture = places, self._wide_ground.at(places)
        for alpha, step in zip(self.alphas, self.steps, strict=True):
            way = step * np.float32(-steps)
            there = seen - (bounced(alpha, way) if places is None and steps > 0 else way)
            share = cv2.remap(alpha, there, None, cv2.INTER_LINEAR, borderValue=0)[..., None]
            picture = picture + share * (sampled(self.nearest, there) - picture)
        return picture

    def are_whole(self) -> bool:
        """Returns True if each object stands out from what is around it, also on the side that it moves away from.

        Otherwise it is a part of something, for example the end of a bar that grows.
        """
        contrast = largest(cv2.morphologyEx(self.nearest, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)))
        places = pixel_places(*self.ground.shape[:2])
        for alpha, step in zip(self.alphas, self.steps, strict=True):
            mask = (alpha > 0.5).astype(np.uint8)
            outline = mask - cv2.erode(mask, np.ones((3, 3), np.uint8))
            there = places + step / np.float32(max(np.hypot(*step), 1e-6)) * 3
            behind = outline & (1 - cv2.remap(mask, there, None, cv2.INTER_NEAREST, borderValue=0))
            for part in (outline, behind):
                if not part.any() or (contrast[part > 0] > SAME).mean() < WHOLE:
                    return False
        return True

    def come_in(self, drift: Step | None = None) -> bool:
        """Returns True if an object that an edge of the frame cuts comes in across this edge.

        drift: the displacement of the ground on the screen in one step to the frame before; None if it stands still.
        """
        back = self.steps if drift is None else self.steps + drift
        return any(leaves(alpha, step).any() for alpha, step in zip(self.alphas, back, strict=True))

    def left(self, frames: Frames, lags: Sequence[int]) -> float:
        """Returns how much of the source's motion the layers do not explain: 0 for nothing, 1 for all.

        It is the squared error of earlier frames that are made from the layers, divided by that of the nearest frame in
        their place. It is infinite if the layers show nothing of an earlier frame.
        """
        shares, places = [], pixel_places(*self.ground.shape[:2])
        for lag in lags:
            shown = frames(lag)
            known = ~np.isnan(shown[..., 0])
            for alpha, step in zip(self.alphas, self.steps, strict=True):
                if at_edge(alpha).any():  # what an earlier frame shows of the parts outside the nearest one is unknown
                    there = places - step * lag
                    whole = cv2.remap(alpha, there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
                    known &= whole == cv2.remap(alpha, there, None, cv2.INTER_LINEAR, borderValue=0)
            if not known.any():
                return math.inf
            change = float(np.square(self.nearest - shown)[known].mean())
            shares.append(float(np.square(self.drawn(-lag) - shown)[known].mean()) / max(change, 1e-9))
        return max(shares)


def bounced(alpha: NDArray[np.float32], way: Step) -> Step:
    """Returns how far an object has moved, if it bounces off the frame's edges, as in the toy world. An object that an
    edge cuts already moves on across this edge.

    alpha: how much of each pixel it covers where it starts, [H, W].
    way: how far it would have moved without edges, (x, y) in pixels.
    """
    area = float(alpha.sum())
    outlines, _ = cv2.findContours((alpha > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        return way
    height, width = alpha.shape
    centre = np.array([(alpha.sum(0) * np.arange(width)).sum(), (alpha.sum(1) * np.arange(height)).sum()]) / area
    around = cv2.arcLength(cv2.convexHull(np.concatenate(outlines)), True)
    reach = BOUNCE * (around / (2 * math.pi) + 0.5)  # Cauchy's formula; outlines run through the middles of pixels
    low = np.minimum(0, reach - centre)
    high = np.maximum(0, np.array([width - 1, height - 1]) - reach - centre)
    room = np.maximum(high - low, 1e-3)
    back: Step = (low + room - np.abs((way - low) % (2 * room) - room)).astype(np.float32)
    return np.where(leaves(alpha, way), way, back)


def leaves(alpha: NDArray[np.float32], way: Step) -> NDArray[np.bool_]:
    """Returns for each axis (x, y) True if an object moves on across an edge of the frame that cuts it.

    alpha: how much of each pixel it covers, [H, W].
    way: how far it moves, in pixels.

    An edge cuts an object if it touches most of the object's side (CUT). A ball that bounces touches it less.
    """
    mask = alpha > 0.5
    sides = np.array([mask.any(axis=1).sum(), mask.any(axis=0).sum()])
    touched = at_edge(mask)[[0, 1], (way > 0).astype(int)]
    return (touched > 0) & (touched >= CUT * sides)


def at_edge(alpha: NDArray[Any]) -> NDArray[Any]:
    """Returns how much of an object is at the left and right, and at the upper and lower edge of the frame, [2, 2]."""
    return np.array([[alpha[:, 0].sum(), alpha[:, -1].sum()], [alpha[0].sum(), alpha[-1].sum()]])
