"""Frames of a camera that moves over a wide picture."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 96, 160


def film(places: Sequence[float]) -> NDArray[np.uint8]:
    """Frames [t, 96, 160, 3] of a camera that looks at these places (pixels from the left) of a wide picture, the
    frame next to the new ones first."""
    noise = np.random.default_rng(1).random((HEIGHT, 400, 3)).astype(np.float32)
    layers = [cv2.GaussianBlur(noise, (0, 0), sigma) for sigma in (1.5, 4.0, 12.0)]
    wide = np.clip(sum((layer - layer.mean()) / layer.std() for layer in layers) * 20 + 128, 0, 255)
    cuts = [cv2.getRectSubPix(wide, (WIDTH, HEIGHT), (place + WIDTH / 2, HEIGHT / 2)) for place in places]
    return np.stack(cuts).round().astype(np.uint8)[::-1]
