"""The path of a camera over a still picture is found, whatever law of motion a program uses."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.carried.camera_path import LAWS, CameraPath, fitted, rest
from longtake.carried.optical_flow import pixel_places, sampled

SIZE = (120, 200)
LAGS = (6, 12, 24, 36)


def drawing(height: int, width: int) -> NDArray[np.float32]:
    """Rectangles of one colour each, slightly blurred."""
    random, picture = np.random.default_rng(3), np.full((height, width, 3), 0.7, np.float32)
    for _ in range(60):
        x, y, w, h = (int(random.integers(0, limit)) for limit in (width, height, width // 5, height // 5))
        picture[y : y + h, x : x + w] = random.random(3)
    smooth: NDArray[np.float32] = cv2.GaussianBlur(picture, (0, 0), 1)
    return smooth


def film(path: CameraPath) -> dict[int, NDArray[np.float32]]:
    """A picture, and what a camera on a path has shown of it before."""
    picture = drawing(*SIZE)
    places = pixel_places(*SIZE)
    # What an earlier frame shows at E(p) is what the nearest one shows at p. So the map back is that of a later frame.
    return {lag: sampled(picture, path.later(places, SIZE, -lag)) for lag in (0, *LAGS)}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("zoom", [-0.006, 0.006])
def test_the_law_is_found(law: str, zoom: float) -> None:
    path = CameraPath(np.array([0.4, -0.3, zoom]), law)
    found = fitted(film(path), np.ones(SIZE, np.bool_))
    assert found.law == law
    assert found.motion == pytest.approx(path.motion, rel=0.05, abs=1e-3)


def test_a_pan_has_one_law() -> None:
    path = CameraPath(np.array([1.5, -0.25, 0.0]))
    found = fitted(film(path), np.ones(SIZE, np.bool_))
    assert found.law == "even zoom"
    assert found.motion == pytest.approx(path.motion, abs=2e-3)


@pytest.mark.parametrize("law", LAWS)
def test_later_and_earlier_are_each_others_reverse(law: str) -> None:
    path, places = CameraPath(np.array([1.0, 2.0, -0.01]), law), pixel_places(20, 30)
    there = path.later(places, (20, 30), 8)
    assert path.earlier(there, (20, 30), -8) == pytest.approx(places, abs=1e-3)


@pytest.mark.parametrize("law", LAWS)
def test_a_picture_that_shrinks_does_not_vanish(law: str) -> None:
    path = CameraPath(np.array([0.0, 0.0, 0.05]), law)
    assert np.isfinite(path.later(pixel_places(20, 30), (20, 30), 500)).all()
    assert path.at(-500)[0] >= 0.25


def test_the_rest_of_an_explained_frame_is_small() -> None:
    path = CameraPath(np.array([1.0, 0.0, 0.0]))
    frames = film(path)
    left, shown = rest(frames[0], frames[12], path, 12)
    assert shown.mean() == pytest.approx((200 - 12) / 200)
    assert np.abs(left)[shown].max() < 0.01


def test_a_path_is_scaled_with_its_picture() -> None:
    path = CameraPath(np.array([1.0, 2.0, 0.01])).scaled(2, 3)
    assert path.motion == pytest.approx([2, 6, 0.01])
    assert path.edge_step((100, 200)) == pytest.approx(6 + 1)
