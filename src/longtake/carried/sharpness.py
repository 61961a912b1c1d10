"""Keeps a moved picture as sharp as it was.

A picture that is moved loses fine detail: between its pixels colours are interpolated, and where it is stretched its
contours become softer. As much detail as it has lost in the mean is added to it again.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.optical_flow import Pictures

FINE = 1.0
"""The detail is what differs from a Gaussian mean with this standard deviation, in pixels."""

MOST = 0.5
"""At most this much of it is added, so that contours get no halos."""

LUMA = np.array([[0.2126, 0.7152, 0.0722]], np.float32)


def as_sharp(moved: Pictures, picture: Pictures) -> Pictures:
    """Returns a picture with so much more detail that it is as sharp as another one, as far as MOST allows.

    Sharpness is the sum of the squared differences of luma between neighbouring pixels. A picture that is sharp enough
    is returned as it is.

    moved, picture: [H, W, 3] in 0..1.
    """
    detail = moved - cv2.GaussianBlur(moved, (0, 0), FINE)
    own, more = _slopes(moved), _slopes(detail)
    # With the share a of the detail, the sharpness is that of the moved picture + 2 a mixed + a^2 pure.
    mixed, pure = float(own @ more), float(more @ more)
    lacking = float(np.square(_slopes(picture)).sum()) - float(own @ own)
    if lacking <= 0 or pure <= 0:
        return moved
    share = (math.sqrt(mixed * mixed + pure * lacking) - mixed) / pure
    sharp: Pictures = moved + np.float32(min(share, MOST)) * detail
    return sharp


def _slopes(picture: Pictures) -> NDArray[np.float32]:
    """Returns the differences of luma between neighbouring pixels of a picture [H, W, 3], as a vector."""
    luma = cv2.transform(picture, LUMA)
    return np.concatenate([np.diff(luma, axis=axis).ravel() for axis in (0, 1)])
