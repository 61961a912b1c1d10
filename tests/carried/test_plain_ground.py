"""Beyond an edge with a plain ground, the ground goes on; beyond others, the mirror image does."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.carried.optical_flow import pixel_places, sampled
from longtake.carried.plain_ground import WidePicture, plain_colour, strip_width

HEIGHT, WIDTH = 60, 90
GROUND, TEXT = 0.1, 0.9


def page() -> NDArray[np.float32]:
    """A dark page with noise, a line of text near its lower edge, and a box that this edge cuts."""
    picture = np.random.default_rng(0).normal(GROUND, 0.01, (HEIGHT, WIDTH, 3)).astype(np.float32)
    picture[48:53, 10:40:2] = TEXT
    picture[50:, 60:80] = TEXT
    return picture


def below(picture: NDArray[np.float32], way: float, turns: int = 0) -> NDArray[np.float32]:
    """What is seen `way` pixels farther down; the picture is turned before, and the result is turned back."""
    turned = np.ascontiguousarray(np.rot90(picture, turns))
    axis, sign = ((1, 1), (0, 1), (1, -1), (0, -1))[turns]
    step = np.zeros(2, np.float32)
    step[axis] = sign * way
    seen = WidePicture.of(turned).at(pixel_places(*turned.shape[:2]) + step)
    return np.rot90(seen, -turns)


@pytest.mark.parametrize("turns", range(4))
def test_text_does_not_come_back_as_its_mirror_image(turns: int) -> None:
    seen = below(page(), 20, turns)
    assert np.abs(seen[41:, :55] - GROUND).max() < 0.06
    assert seen[28:33, 10:40:2].min() > 0.8  # the line itself
    assert seen[30:48, 62:78].min() > 0.8  # the box goes on
    assert np.abs(seen[52:, 62:78] - GROUND).max() < 0.06  # and ends


def test_nothing_changes_within_the_picture() -> None:
    places = pixel_places(HEIGHT, WIDTH)
    assert np.array_equal(WidePicture.of(page()).at(places), sampled(page(), places))


def test_beyond_an_edge_without_a_plain_ground_is_the_mirror_image() -> None:
    picture = np.random.default_rng(0).random((HEIGHT, WIDTH, 3)).astype(np.float32)
    places = pixel_places(HEIGHT, WIDTH) + np.array([30, 20], np.float32)
    assert np.array_equal(WidePicture.of(picture).at(places), sampled(picture, places))


def clouds(*discs: tuple[int, int]) -> NDArray[np.float32]:
    """A ground of softly changing colour, and red discs with their centres at `discs` (x, y)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    picture = np.repeat((0.5 + 0.2 * np.sin((x + y) / 20))[..., None], 3, axis=2).astype(np.float32)
    for centre in discs:
        cv2.circle(picture, centre, 8, (0.9, 0.1, 0.1), cv2.FILLED)
    return picture


@pytest.mark.parametrize("turns", range(4))
def test_an_object_on_a_soft_ground_does_not_come_back_as_its_mirror_image(turns: int) -> None:
    ground, seen = below(clouds(), 25, turns), below(clouds((30, 48)), 25, turns)
    assert np.abs(seen[36:] - ground[36:]).max() < 0.1
    assert seen[23, 30, 0] == pytest.approx(0.9, abs=0.02)  # the object itself


def test_an_object_that_the_edge_cuts_is_completed_by_its_mirror_image() -> None:
    picture = clouds((30, 57), (70, 48))
    seen = below(picture, 25)
    assert seen[34:38, 30, 1].max() < 0.15  # the lower half of the one that is cut
    assert seen[46, 70, 1] > 0.2


def test_a_picture_with_many_objects_is_mirrored_as_a_whole() -> None:
    picture = clouds(*((x, 48) for x in range(9, 90, 12)), (45, 20))
    cv2.circle(picture, (45, 20), 5, (0.1, 0.1, 0.9), cv2.FILLED)
    for x in range(9, 90, 20):
        cv2.circle(picture, (x, 30), 4, (0.1, 0.1, 0.9), cv2.FILLED)
    places = pixel_places(HEIGHT, WIDTH) + np.array([0, 20], np.float32)
    assert np.array_equal(WidePicture.of(picture).at(places), sampled(picture, places))


def test_stripes_are_no_plain_ground() -> None:
    picture = page()
    picture[20:30] = TEXT
    places = pixel_places(HEIGHT, WIDTH) + np.array([0, 20], np.float32)
    assert np.array_equal(WidePicture.of(picture).at(places), sampled(picture, places))


def test_a_ground_is_plain_if_most_of_it_has_one_colour() -> None:
    colours = np.full((10, 3), 0.5, np.float32)
    colours[:4] = 0.9
    assert plain_colour(colours) == pytest.approx([0.5] * 3)
    colours[:6] = np.linspace(0.6, 0.9, 6)[:, None]
    assert plain_colour(colours) is None


def test_a_small_picture_has_edges_too() -> None:
    assert [strip_width(height) for height in (1, 60, 240)] == [3, 3, 8]
    one = np.zeros((2, 2, 3), np.float32)
    assert not WidePicture.of(one).at(pixel_places(2, 2) + np.float32(4)).any()
