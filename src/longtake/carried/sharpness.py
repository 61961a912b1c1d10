"""Keeps a moved picture as sharp as it was.

A picture that is moved loses fine detail: between its pixels colours are interpolated, and where it is stretched its
contours become softer. As much detail as it has lost in the mean is added to it again.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.optical_flow import LUMA, Pictures

FINE = 1.0
"""The detail is what differs from a Gaussian mean with this standard deviation, in pixels."""

MOST = 0.5
"""At most this much of it is added, so that contours get no halos."""


def sharpness(picture: Pictures) -> float:
    """Returns the sum of the squared differences of luma between neighbouring pixels of a picture [H, W, 3]."""
    slopes = _slopes(picture)
    return float(slopes @ slopes)


def as_sharp(moved: Pictures, wanted: float) -> Pictures:
    """Returns a picture with so much more detail that its `sharpness` is `wanted`, as far as MOST allows.

    A picture that is sharp enough is returned as it is.

    moved: [H, W, 3] in 0..1.
    """
    own = _slopes(moved)
    lacking = wanted - float(own @ own)
    if lacking <= 0:
        return moved
    detail = moved - cv2.GaussianBlur(moved, (0, 0), FINE)
    more = _slopes(detail)
    # With the share a of the detail, the sharpness is that of the moved picture + 2 a mixed + a^2 pure.
    mixed, pure = float(own @ more), float(more @ more)
    if pure == 0:
        return moved
    share = (math.sqrt(mixed * mixed + pure * lacking) - mixed) / pure
    sharp: Pictures = moved + np.float32(min(share, MOST)) * detail
    return sharp


def _slopes(picture: Pictures) -> NDArray[np.float32]:
    """Returns the differences of luma between neighbouring pixels of a picture [H, W, 3], as a vector."""
    luma = cv2.transform(picture, LUMA[None])
    return np.concatenate([np.diff(luma, axis=axis).ravel() for axis in (0, 1)])
