"""The motion of a source where it meets the new frames, and how it goes on."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.carried.source_motion import DOUBTFUL_FRAMES, FARTHEST, SWING_STEPS, SourceMotion
from tests.carried.film import HEIGHT, WIDTH, film

MIDDLE = np.s_[20:-20, 40:-40]


def right(motion: SourceMotion, distance: int) -> float:
    """How far to the right the pixels of a new frame are from their place in the source."""
    return float(np.median(motion.way(distance)[MIDDLE][..., 0]))


def test_a_steady_pan_goes_on_and_slows_down_before_the_picture_has_left_the_frame() -> None:
    motion = SourceMotion.of(film(range(20, 54, 2)), 1)
    assert np.median(motion.steady.steadiness[MIDDLE]) > 0.9
    assert right(motion, 0) == pytest.approx(2, rel=0.1)
    sure, doubtful = (2 * frames * (1 - np.exp(-24 / frames)) for frames in (FARTHEST * HEIGHT / 2, DOUBTFUL_FRAMES))
    assert doubtful + 1 < right(motion, 23) == pytest.approx(sure, rel=0.05)
    assert right(motion, 1000) == pytest.approx(FARTHEST * HEIGHT, rel=0.05)


def shaking(count: int) -> NDArray[np.uint8]:
    """Frames of a camera that shakes."""
    return film([40 + 4 * np.sin(at * 1.25) for at in range(count)])


def test_motion_that_is_not_steady_goes_back_and_forth_through_the_source_s_frames() -> None:
    motion = SourceMotion.of(shaking(17), 1)
    assert motion.swing == tuple(range(SWING_STEPS + 1))
    assert [motion.number(distance) for distance in range(12)] == [1, 0, 1, 2, 1, 0, 1, 2, 3, 2, 1, 0]
    assert [motion.number(distance) for distance in range(12, 28)] == [1, 2, 3, 4, 3, 2, 1, 0] * 2


def test_a_repeated_frame_at_the_joint_is_left_out() -> None:
    frames = shaking(17)
    assert SourceMotion.of(np.concatenate([frames[:1], frames]), 1).swing == (0, 2, 3, 4, 5)


def test_a_repeated_frame_among_the_others_is_left_out() -> None:
    frames = shaking(17)
    assert SourceMotion.of(np.concatenate([frames[:2], frames[1:]]), 1).swing == (0, 1, 3, 4, 5)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_short_shot_swings_through_all_its_frames(count: int) -> None:
    assert SourceMotion.of(shaking(count), 1).swing == tuple(range(min(count, SWING_STEPS + 1)))


def test_where_little_is_doubtful_motion_swings_as_far_as_elsewhere() -> None:
    assert len(SourceMotion.of(shaking(17), 0.1).swing) == SWING_STEPS + 1


def test_in_the_model_s_own_world_nothing_swings() -> None:
    assert SourceMotion.of(shaking(17), 0).swing == (0,)


def test_motion_that_its_past_does_not_prove_hardly_goes_on() -> None:
    turned = [*range(70, 38, -4), *range(42, 78, 4)]
    steady, doubtful = (SourceMotion.of(film(places), 1).steady for places in (range(10, 78, 4), turned))
    assert np.median(steady.steadiness[MIDDLE]) > 0.9
    assert np.median(doubtful.steadiness[MIDDLE]) < 0.4


def test_a_camera_that_has_become_slower_soon_stops() -> None:
    motion = SourceMotion.of(film([*range(10, 46, 4), *range(48, 64, 2)]), 1)
    assert 0 <= right(motion, 47) < 24


def crossing(count: int) -> NDArray[np.uint8]:
    """Frames of a disc that crosses a still ground to the left, the one next to the new frames first."""
    down, across = np.indices((HEIGHT, WIDTH))
    ground = np.repeat(film([40]), count, axis=0)
    for at, frame in enumerate(ground):
        frame[np.hypot(across - 60 - at, down - HEIGHT / 2) < 14] = (255, 50, 50)
    return ground


def test_an_object_goes_on_farther_where_the_source_proves_its_motion() -> None:
    started = np.concatenate([crossing(5), np.repeat(crossing(5)[-1:], 12, axis=0)])
    proven, doubtful = (SourceMotion.of(frames, 1) for frames in (crossing(17), started))
    assert proven.doubt < 0.9
    assert doubtful.doubt == 1
    at = HEIGHT // 2, 60
    assert doubtful.way(23)[at][0] < 0.5 * proven.way(23)[at][0]


def leaning(count: int) -> NDArray[np.uint8]:
    """Frames of a picture whose upper half leans to the right in the last five ones, the nearest one first."""
    picture = film([40])[0]
    down, across = np.indices((HEIGHT, WIDTH), np.float32)
    leans = [np.float32(0.03 * max(5 - at, 0)) * np.maximum(HEIGHT / 2 - down, 0) for at in range(count)]
    return np.stack([cv2.remap(picture, across - lean, down, cv2.INTER_LINEAR) for lean in leans])


def test_a_body_of_which_a_part_leans_is_not_torn() -> None:
    motion = SourceMotion.of(leaning(17), 0.6)
    assert motion.doubt > 0.5
    way = motion.way(95)[MIDDLE][..., 0]
    assert 0.05 < np.abs(np.gradient(cv2.GaussianBlur(way, (0, 0), 3), axis=0)).max() < 0.3


def test_motion_is_known_where_the_pixels_have_arrived() -> None:
    motion = SourceMotion.of(crossing(17), 0)
    there, at = motion.arrived(23), (HEIGHT // 2, 42)
    assert np.isfinite(there.way).all()
    assert there.way[at][0] > 10
    assert there.step[at][0] > 0.5
    assert there.steadiness[at] > 0.8
    assert there.reach[at] >= 10


def test_one_frame_shows_no_motion() -> None:
    motion = SourceMotion.of(film([40]), 1)
    assert not motion.known
    assert not motion.way(7).any()
