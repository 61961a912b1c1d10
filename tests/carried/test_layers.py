"""Layers show their objects where they have moved to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.carried.layers import Layers, bounced
from longtake.carried.optical_flow import pixel_places


@given(
    way=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    left=st.integers(1, 30),
    top=st.integers(1, 20),
)
def test_an_object_stays_in_the_frame(way: tuple[float, float], left: int, top: int) -> None:
    alpha = np.zeros((40, 60), np.float32)
    alpha[top + 1 : top + 13, left + 1 : left + 13] = 1
    x, y = bounced(alpha, np.array(way, np.float32))
    assert -left - 2 <= x <= 60 - 12 - left + 2
    assert -top - 2 <= y <= 40 - 12 - top + 2


def test_a_short_way_does_not_bounce() -> None:
    alpha = np.zeros((40, 60), np.float32)
    alpha[14:26, 24:36] = 1
    way = np.array([7.5, -3], np.float32)
    assert bounced(alpha, way) == pytest.approx(way, abs=1e-3)


def block(step: tuple[float, float]) -> Layers:
    """A white block at the left edge of a grey picture that cuts it. It moves back by `step`."""
    ground = np.full((40, 60, 3), 0.5, np.float32)
    alpha = np.zeros((40, 60), np.float32)
    alpha[14:26, :6] = 1
    nearest = ground + alpha[..., None] * 0.5
    return Layers(nearest, ground, alpha[None], np.array([step], np.float32))


def test_an_object_that_comes_in_is_known_also_if_the_camera_moves() -> None:
    assert block((-1, 0)).come_in()
    assert not block((1, 0)).come_in()
    assert not block((-1, 0)).come_in(np.array([2, 0], np.float32))
    assert block((1, 0)).come_in(np.array([-2, 0], np.float32))


def test_a_camera_that_moves_sees_an_object_leave_the_frame() -> None:
    layers, places = block((-2, 0)), pixel_places(40, 60)
    assert (layers.drawn(40) > 0.75).any(), "it bounces"
    assert not (layers.drawn(40, places) > 0.75).any()
    assert layers.drawn(5, places + np.array([3, 0], np.float32))[20, :, 0] == pytest.approx(
        np.where((np.arange(60) >= 7) & (np.arange(60) < 13), 1, 0.5), abs=1e-3
    )
