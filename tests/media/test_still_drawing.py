"""A drawing whose motion fits no rule comes to rest, and does not bend."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.media.still_drawing import StillDrawing, is_drawing

HEIGHT, WIDTH, COUNT = 96, 160, 33


def film(slowing: float | None = None) -> NDArray[np.uint8]:
    """A box over a ground, the nearest frame first: it jumps about, or slows down with this number of frames."""
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


def test_a_drawing_that_moves_by_no_rule_stands_still() -> None:
    frames = film()
    still = StillDrawing.of(frames, swings=True)
    assert still is not None
    made = still.carried(np.zeros((2, HEIGHT, WIDTH, 3), np.float32), [0, 47])
    assert (made == frames[0] / np.float32(255)).all()


def test_what_goes_on_well_like_footage_is_left_to_it() -> None:
    assert StillDrawing.of(film(), swings=False) is None


def test_doubtful_layers_slow_down_and_keep_their_shape() -> None:
    frames = film(slowing=20)
    still = StillDrawing.of(frames, swings=True)
    assert still is not None
    made = still.carried(np.zeros((2, HEIGHT, WIDTH, 3), np.float32), [60, 200])
    assert np.abs(made[0] - made[1]).mean() < 0.001


@pytest.mark.parametrize("change", ["noise", "texture", "motion"])
def test_footage_is_not_a_drawing(change: str) -> None:
    frames, random = film().astype(np.float32), np.random.default_rng(0)
    assert is_drawing(film())
    if change == "noise":
        frames += random.normal(0, 2, frames.shape)
    elif change == "texture":
        frames += random.normal(0, 6, frames.shape[1:])
    else:
        frames += 60 * np.sin(np.arange(COUNT))[:, None, None, None]
    assert not is_drawing(np.clip(frames, 0, 255).round().astype(np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (40, 3)])
def test_any_size_works(size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (COUNT, *size, 3), np.uint8)
    assert not is_drawing(frames)
    assert not is_drawing(frames[:1])
    assert StillDrawing.of(np.zeros((COUNT, *size, 3), np.uint8), swings=True) is not None
