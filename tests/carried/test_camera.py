"""The camera of a source is found although an object moves, and earlier frames are shown from where it is now."""

import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.carried.camera import Camera, explained
from recipes.tiny.world import sample
from tests.carried.test_camera_motion import NEW, SOURCE, frames


def velocity(seed: int) -> NDArray[np.float64]:
    """The camera's velocity (x, y) in a panned scene, in drawn pixels."""
    return 2 * np.array(sample(900_000_500 + seed, "pan", (112, 64), SOURCE + NEW).pan)


@pytest.mark.parametrize("seed", [3, 6, 13])
def test_an_object_that_moves_does_not_hide_how_the_camera_moves(seed: int) -> None:
    camera = Camera.of(np.ascontiguousarray(frames(seed, "pan")[:SOURCE][::-1]))
    assert camera is not None
    assert camera.path.motion == pytest.approx([*velocity(seed), 0], abs=0.01)


def test_stripes_do_not_slide_along_themselves() -> None:
    camera = Camera.of(np.ascontiguousarray(frames(12, "pan")[:SOURCE][::-1]))
    assert camera is not None
    assert np.hypot(*camera.path.motion[:2]) < np.hypot(*velocity(12)) + 0.01


def test_earlier_frames_show_the_ground_where_it_is_now() -> None:
    film = np.ascontiguousarray(frames(7, "pan")[:SOURCE][::-1])
    camera = Camera.of(film)
    assert camera is not None
    earlier = camera.stabilised(24)
    unknown = np.isnan(earlier).any(axis=-1)
    assert 0.05 < unknown.mean() < 0.2
    assert np.abs(earlier - film[0] / 255)[~unknown].max() < 0.02


def test_a_source_that_stands_still_or_is_short_has_no_camera() -> None:
    film = frames(7, "pan")
    assert Camera.of(np.repeat(film[:1], SOURCE, axis=0)) is None
    assert Camera.of(film[:12]) is None


def test_a_motion_explains_a_frame_if_little_is_left() -> None:
    change, all_shown = np.full((8, 8, 3), 0.05, np.float32), np.ones((8, 8), np.bool_)
    assert explained(change * 0.1, change, all_shown)
    assert not explained(change * 0.5, change, all_shown)
    assert not explained(change * 0.1, change, ~all_shown)
