"""Finds the colours of objects at their edges, where a picture shows a mixture of an object and the ground."""

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.difference import largest
from longtake.carried.optical_flow import Pictures

UNEXPLAINED = 0.15
"""A pixel's colour is a mixture if it differs by less than this from one. A line around an object differs by more."""

LEAST_NEAR = 0.01
"""A pixel belongs to an object's edge if its surroundings, weighted by a Gaussian window, show this share of the
object's inner part."""

CLOSED = (5, 5)
"""Lines inside an object that are unsure and narrower than this, in pixels, belong to it: there it has the ground's
colour."""

LEAST_SHARE = 0.2
"""If an object covers more than this share of a pixel, the rest of the pixel's colour, which the mixture does not
explain, is the object's."""

LEAST_CONTRAST = 0.06
"""An object with nearly the colour of the ground (0..1) keeps its pixels as they are."""


def unmixed(
    picture: Pictures, ground: Pictures, alphas: NDArray[np.float32], edge: int
) -> tuple[Pictures, NDArray[np.float32]]:
    """Returns the picture with the objects' own colours at their edges, and how much of each pixel the objects cover.

    A pixel at an edge has the colour a F + (1 - a) G, where F is the colour of the object beside it and G the ground's.
    Where this explains its colour, it gets the colour F and covers the ground by a. So an object takes nothing of the
    ground along when it moves. What the mixture does not explain stays with an object that covers enough of the pixel.

    ground: the picture without the objects.
    alphas: for each object, 1 for the pixels that may show it, [n, H, W]. Between 0 and 1 they are unsure.
    edge: the width in pixels of the edge of an object.
    """
    colours, width = picture.copy(), 2 * edge + 1
    shares = np.stack([cv2.morphologyEx(alpha, cv2.MORPH_CLOSE, np.ones(CLOSED, np.uint8)) for alpha in alphas])
    for whole in shares:
        left, top, columns, rows = cv2.boundingRect((whole > 0).astype(np.uint8))
        box = np.s_[top : top + rows, left : left + columns]
        alpha, shown, behind = whole[box], picture[box], ground[box]
        inner = cv2.erode(
            (alpha == 1).astype(np.uint8),
            np.ones((width, width), np.uint8),
            borderType=cv2.BORDER_CONSTANT,
            borderValue=0,
        )
        core = inner.astype(np.float32)
        near = cv2.GaussianBlur(core, (0, 0), width / 2)
        own = cv2.GaussianBlur(shown * core[..., None], (0, 0), width / 2) / np.maximum(near, 1e-6)[..., None]
        over = own - behind
        share = ((shown - behind) * over).sum(-1) / np.maximum(np.square(over).sum(-1), 1e-6)
        share = np.clip(share, 0, 1)
        rest = shown - behind - share[..., None] * over
        mixed = (alpha > 0) & (core == 0) & (near > LEAST_NEAR) & (largest(np.abs(over)) > LEAST_CONTRAST)
        mixed &= largest(np.abs(rest)) < UNEXPLAINED
        own = np.where(share[..., None] > LEAST_SHARE, own + rest / np.maximum(share, LEAST_SHARE)[..., None], own)
        alpha[mixed] = share[mixed]
        colours[box][mixed] = own[mixed]
    return colours, shares


def connected(alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns `alpha` without what is not connected to its largest part: spots of the ground that look like an object's
    because their light differs from frame to frame."""
    _, labels, figures, _ = cv2.connectedComponentsWithStats((alpha > 0).astype(np.uint8), connectivity=8)
    areas = figures[1:, cv2.CC_STAT_AREA]
    return alpha * (labels == 1 + int(areas.argmax())) if len(areas) else alpha
