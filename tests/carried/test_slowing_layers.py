"""A drawing whose motion is doubtful slows down, and does not bend."""

import cv2
import numpy as np
from numpy.typing import NDArray

from longtake.carried.separation import Film, separated
from longtake.carried.slowing_layers import SlowingLayers

HEIGHT, WIDTH, COUNT = 96, 160, 33


def film(slowing: float | None = 30) -> NDArray[np.uint8]:
    """A box over a ground, the nearest frame first: it slows down with this number of frames, or jumps about."""
    random, frames = np.random.default_rng(1), []
    for number in range(COUNT):
        picture = np.full((HEIGHT, WIDTH, 3), (200, 210, 220), np.float32)
        x, y = (20 + random.random() * 80, 20 + random.random() * 40)
        if slowing:
            x, y = 20 + 100 * (1 - np.exp(-number / slowing)), 40
        around = np.array([[x, y], [x + 30, y], [x + 30, y + 24], [x, y + 24]]) * 16
        cv2.fillConvexPoly(picture, around.round().astype(np.int32), (40, 60, 200), cv2.LINE_AA, 4)
        frames.append(picture)
    return np.ascontiguousarray(np.stack(frames).round().astype(np.uint8)[::-1])


def test_objects_slow_down_and_keep_their_shape() -> None:
    frames = film()
    layers = separated(Film.of(frames))
    assert layers is not None
    assert not layers.are_sure
    made = np.stack([SlowingLayers(layers).drawn(steps) for steps in (1, 13, 61, 201)])
    red = (made[..., 2] > 0.75) & (made[..., 0] < 0.3)
    places = [np.argwhere(one).mean(axis=0)[1] for one in red]
    assert places[0] + 1 < places[1] < places[2]
    assert places[3] - places[2] < 1
    assert np.ptp(red.sum(axis=(1, 2))) < 0.05 * red[0].sum()
