"""An object that moves over a picture goes on in its way while the camera goes on in its own."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.carried.camera import Camera
from longtake.carried.panned_layers import PannedLayers
from tests.carried.test_camera_motion import NEW, SOURCE, frames, psnr
from tests.carried.test_camera_path import drawing

HEIGHT, WIDTH = 120, 200


def of_source(film: NDArray[np.uint8]) -> PannedLayers | None:
    camera = Camera.of(np.ascontiguousarray(film[:SOURCE][::-1]))
    return PannedLayers.of(camera) if camera else None


@pytest.mark.parametrize("seed", [3, 8, 11, 13])
def test_ground_and_object_go_on(seed: int) -> None:
    film = frames(seed, "pan")
    layers = of_source(film)
    assert layers is not None
    made = layers.drawn(8)
    assert psnr(made, film[SOURCE + 7]) > psnr(film[SOURCE - 1].astype(np.float32) / 255, film[SOURCE + 7]) + 14


def zoomed(turns: bool = False) -> NDArray[np.uint8]:
    """The frames of a camera that moves into a drawing, over which a ball flies, which may turn back."""
    picture, film = (drawing(HEIGHT, WIDTH) * 255).round().astype(np.uint8), []
    for number in range(SOURCE + NEW):
        way = min(number, 44 - number) if turns else number
        shown = cv2.circle(picture.copy(), (16 * (50 + way), 16 * 50), 16 * 12, (230, 20, 20), -1, cv2.LINE_AA, 4)
        view = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), 0, 1.004**number)
        film.append(cv2.warpAffine(shown, view, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC))
    return np.stack(film)


def test_an_object_grows_with_its_ground() -> None:
    film = zoomed()
    layers = of_source(film)
    assert layers is not None
    made = layers.drawn(NEW)
    assert psnr(made, film[-1]) > psnr(film[SOURCE - 1].astype(np.float32) / 255, film[-1]) + 9


def test_motion_that_is_not_steady_is_left_to_other_rooms() -> None:
    assert of_source(zoomed(turns=True)) is None
    assert of_source(frames(7, "pan")) is None, "nothing moves over the ground"
    noise = np.random.default_rng(0).normal(0, 6, (SOURCE, HEIGHT, WIDTH, 3))
    assert of_source(np.clip(zoomed()[:SOURCE] + noise, 0, 255).astype(np.uint8)) is None
