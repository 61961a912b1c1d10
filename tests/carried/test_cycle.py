"""A walk repeats after its period, and its velocity is known; other changes of shape go back and forth."""

import cv2
import numpy as np
import pytest

from longtake.carried.cycle import Cycle
from longtake.carried.still_ground import tracks
from tests.carried.test_still_ground import scenery, walk


@pytest.mark.parametrize("period", [9, 13])
def test_the_period_of_a_walk_is_found(period: int) -> None:
    frames = walk(2, period=period)
    (track,) = tracks(frames, scenery())
    cycle = Cycle.of(frames, scenery(), track)
    assert cycle.period is not None
    assert cycle.period % period == 0
    assert cycle.left < 0.05
    assert np.allclose(cycle.velocity, (2, 0), atol=0.1)
    # the frame one period before the first new one, and so on to the nearest frame, and again
    assert [cycle.number(steps) for steps in (1, cycle.period, cycle.period + 1)] == [
        cycle.period - 1,
        0,
        cycle.period - 1,
    ]
    assert np.allclose(cycle.way(1), cycle.velocity * cycle.period)


def test_a_shape_that_does_not_repeat_goes_back_and_forth() -> None:
    frames = np.stack([scenery()] * 24)
    for number, frame in enumerate(frames):
        cv2.ellipse(frame, (120 - 2 * number, 50), (8 + number // 2, 24 - number // 2), 0, 0, 360, (90, 20, 120), -1)
    (track,) = tracks(frames, scenery())
    cycle = Cycle.of(frames, scenery(), track)
    assert cycle.period is None
    assert [cycle.number(steps) for steps in (1, 7, 8, 9, 16, 17)] == [1, 7, 8, 7, 0, 1]
    assert np.allclose(cycle.velocity, (2, 0), atol=0.1)
