"""The ground behind objects is that of earlier frames, also behind slow ones, and objects are followed."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.carried.still_ground import objects, stands_still, still_ground, tracks

HEIGHT, WIDTH, COUNT = 96, 160, 33


def scenery() -> NDArray[np.uint8]:
    """A sky, a mountain and a meadow, [H, W, 3]."""
    picture = np.full((HEIGHT, WIDTH, 3), (140, 200, 240), np.uint8)
    cv2.fillConvexPoly(picture, np.array([[50, 70], [90, 20], [130, 70]]), (110, 125, 145))
    picture[70:] = (105, 175, 75)
    return picture


def walk(speed: float, start: float = 40, period: float = 9, count: int = COUNT) -> NDArray[np.uint8]:
    """Frames [count, H, W, 3] of a figure whose legs swing while it walks over the scenery, the nearest one first."""
    frames = []
    for number in range(count):
        picture, x = scenery(), start + speed * number
        swing = 9 * np.sin(2 * np.pi * number / period)
        for way in (-swing, swing):
            hip, foot = (round(x * 16), 60 * 16), (round((x + way) * 16), 82 * 16)
            cv2.line(picture, hip, foot, (40, 40, 60), 4, cv2.LINE_AA, 4)
        body = (np.array([[x - 7, 36], [x + 7, 36], [x + 7, 62], [x - 7, 62]]) * 16).round().astype(np.int32)
        cv2.fillConvexPoly(picture, body, (220, 60, 30), cv2.LINE_AA, 4)
        frames.append(picture)
    return np.ascontiguousarray(np.stack(frames)[::-1])


@pytest.mark.parametrize("speed", [2, 1.2, -1])
def test_the_ground_behind_objects_is_found(speed: float) -> None:
    frames = walk(speed, start=60)
    assert stands_still(frames)
    wrong = np.abs(still_ground(frames).astype(int) - scenery()).max(axis=-1) > 3
    assert wrong.sum() < 5


def test_an_object_is_followed_as_long_as_it_is_alone() -> None:
    frames = walk(2)
    found = tracks(frames, scenery())
    assert [len(track.masks) for track in found] == [COUNT]
    assert np.allclose(np.diff(found[0].centres[:, 0]).mean(), -2, atol=0.1)
    assert len(found[0].since(8).masks) == COUNT - 8
    other = frames.copy()
    other[20:, 30:86, 30:100] = (220, 60, 30)
    assert [len(track.masks) for track in tracks(other, scenery())] == [20]


def test_a_picture_that_moves_does_not_stand_still() -> None:
    frames = walk(2)
    assert not stands_still(np.stack([np.roll(frame, 5 * number, axis=1) for number, frame in enumerate(frames)]))
    assert not stands_still(frames[:1])
    assert not stands_still(np.zeros((9, 1, 1, 3), np.uint8))


def test_small_spots_are_no_objects() -> None:
    spotted = scenery()
    spotted[10, 10:13] = 0
    assert objects(spotted, scenery()) == []
    assert tracks(np.stack([spotted] * 3), scenery()) == []
