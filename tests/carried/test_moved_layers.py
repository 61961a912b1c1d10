"""Objects that overlap at the joint go on as layers, if they were apart before."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.carried.moved_layers import MovedLayers
from longtake.carried.picture import rule_of
from longtake.carried.separation import Film, separated

HEIGHT, WIDTH, SOURCE, NEW = 128, 224, 49, 24


def film(red_in_front: bool) -> NDArray[np.uint8]:
    """A red ball and a blue box that meet in the middle, in playing order, [T, H, W, 3]."""
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH]
    ground = np.stack([200 - 60 * down / HEIGHT, 220 - 40 * down / HEIGHT, 235 - 20 * across / WIDTH], axis=-1)
    frames = []
    for number in range(SOURCE + NEW):
        picture = ground.round().astype(np.uint8)
        shapes = [
            ("ball", 56 + 1.008 * number, 57.6 + 0.175 * number),
            ("box", 156.8 - 0.735 * number, 64 - 0.07 * number),
        ]
        for name, x, y in shapes[::-1] if red_in_front else shapes:
            if name == "ball":
                cv2.circle(picture, (round(x * 16), round(y * 16)), 16 * 16, (220, 50, 40), -1, cv2.LINE_AA, 4)
            else:
                box = np.array([[x - 15, y - 15], [x + 15, y - 15], [x + 15, y + 15], [x - 15, y + 15]]) * 16
                cv2.fillConvexPoly(picture, box.round().astype(np.int32), (40, 90, 200), cv2.LINE_AA, 4)
        frames.append(picture)
    return np.stack(frames)


@pytest.mark.parametrize("red_in_front", [True, False])
def test_objects_that_overlap_at_the_joint_pass_each_other(red_in_front: bool) -> None:
    frames = film(red_in_front)
    nearest_first = np.ascontiguousarray(frames[:SOURCE][::-1])
    moved = rule_of(nearest_first, nearest_first[0] / np.float32(255))
    assert isinstance(moved, MovedLayers)
    made = moved.drawn(NEW)
    error = np.square(made - frames[-1] / 255).mean()
    assert error < 0.1 * np.square(frames[SOURCE - 1] / 255 - frames[-1] / 255).mean()


def test_a_source_that_changes_its_motion_has_no_moved_layers() -> None:
    frames = film(red_in_front=True)[:SOURCE]
    stopped = np.concatenate([frames[:30], np.repeat(frames[29:30], 19, axis=0)])[::-1]
    assert MovedLayers.of(np.ascontiguousarray(stopped)) is None
    layers = separated(Film.of(np.ascontiguousarray(stopped)))
    assert layers is None or not layers.are_sure


def test_a_short_source_has_none() -> None:
    assert MovedLayers.of(np.zeros((5, 20, 30, 3), np.uint8)) is None
