"""What stands still in a picture that moves is found, and the picture behind it is continued."""

import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.carried.camera_path import CameraPath
from longtake.carried.optical_flow import as_picture
from longtake.carried.still_parts import behind, mirrored, still_parts
from tests.carried.test_camera_path import drawing

HEIGHT, WIDTH, BAR, STEP, COUNT = 120, 200, 18, 1, 31
PATH = CameraPath(np.array([0.0, float(STEP), 0.0]))


def page(bar: bool) -> NDArray[np.uint8]:
    """A page that moves up, perhaps under a bar with a sign on it. The nearest frame first, [T, H, W, 3]."""
    whole = (drawing(HEIGHT + STEP * COUNT, WIDTH) * 255).round().astype(np.uint8)
    frames = np.stack([whole[STEP * (COUNT - 1 - n) :][:HEIGHT] for n in range(COUNT)])
    if bar:
        frames[:, :BAR] = (20, 40, 90)
        frames[:, 5:12, 10:60] = (250, 250, 250)
    return frames


def shown(frames: NDArray[np.uint8]) -> dict[int, NDArray[np.float32]]:
    return {lag: as_picture(frames[lag]) for lag in (0, 3, 7, 13, 19, 24)}


def test_a_bar_over_a_page_stands_still() -> None:
    still = still_parts(shown(page(bar=True)), PATH)
    assert still is not None
    assert still[: BAR - 2].mean() > 0.97
    assert still[BAR + 3 :].mean() < 0.01


def test_nothing_stands_still_if_all_moves() -> None:
    assert still_parts(shown(page(bar=False)), PATH) is None


def test_what_is_behind_a_part_is_taken_from_earlier_frames() -> None:
    still = np.zeros((HEIGHT, WIDTH), np.uint8)
    still[:BAR] = 1
    found = behind(list(page(bar=True)), PATH, still)
    true = as_picture(page(bar=False)[0])
    assert np.abs(found - true).max() < 0.01


def test_beyond_an_edge_is_the_mirror_image() -> None:
    picture = np.arange(12, dtype=np.float32).reshape(1, 12, 1).repeat(3, axis=2)
    unknown = np.zeros((1, 12), np.bool_)
    unknown[:, 8:] = True
    assert mirrored(picture, unknown)[0, :, 0] == pytest.approx([0, 1, 2, 3, 4, 5, 6, 7, 6, 5, 4, 3])
    assert (mirrored(picture, np.ones((1, 12), np.bool_)) == picture).all()


def test_beyond_a_plain_edge_is_the_ground() -> None:
    picture = np.full((40, 60, 3), 0.2, np.float32)
    picture[20:24, 10:50] = 0.9
    unknown = np.zeros((40, 60), np.bool_)
    unknown[30:] = True
    assert (mirrored(picture, unknown)[30:] == np.float32(0.2)).all()
