"""Objects keep their own colours at their edges when they are put before another ground."""

import numpy as np
from numpy.typing import NDArray

from longtake.carried.matting import unmixed
from longtake.carried.optical_flow import Pictures

SIZE = 64


def _disc(edge: float) -> NDArray[np.float32]:
    """How much of each pixel a disc covers, with a soft edge."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    share: NDArray[np.float32] = np.clip((18 - np.hypot(x, y)) / edge + 0.5, 0, 1).astype(np.float32)
    return share


def _plain(*colour: float) -> Pictures:
    return np.tile(np.array(colour, np.float32), (SIZE, SIZE, 1))


def test_an_object_takes_nothing_of_the_ground_along() -> None:
    share = _disc(4)[..., None]
    object_, ground, other = _plain(1, 0.4, 0.6), _plain(0.1, 0.2, 0.9), _plain(0, 0.1, 0.1)
    picture = share * object_ + (1 - share) * ground
    colours, shares = unmixed(picture, ground, (share[None, ..., 0] > 0).astype(np.float32), edge=4)
    shown = shares[0][..., None] * colours + (1 - shares[0][..., None]) * other
    assert np.abs(shown - (share * object_ + (1 - share) * other)).max() < 0.01


def test_before_the_same_ground_the_picture_stays_as_it_is() -> None:
    share = _disc(3)[..., None]
    ground = _plain(0.1, 0.2, 0.9)
    picture = share * _plain(1, 0.4, 0.6) + (1 - share) * ground
    picture += 0.01 * np.random.default_rng(0).standard_normal(picture.shape, np.float32)
    colours, shares = unmixed(picture, ground, (share[None, ..., 0] > 0).astype(np.float32), edge=4)
    shown = shares[0][..., None] * colours + (1 - shares[0][..., None]) * ground
    assert np.abs(shown - picture)[share[..., 0] > 0.6].max() < 0.01


def test_a_line_around_an_object_and_an_object_like_the_ground_stay() -> None:
    share = _disc(1)[..., None]
    line = (np.abs(share - 0.5) < 0.5) | ((share > 0.99) & (np.roll(share, 1, 0) * np.roll(share, 1, 1) < 0.99))
    picture = np.where(line, np.float32(0), share * _plain(1, 0.9, 0.5) + (1 - share) * _plain(0.2, 0.8, 0.3))
    mask = (share[None, ..., 0] > 0).astype(np.float32)
    colours, shares = unmixed(picture, _plain(0.2, 0.8, 0.3), mask, edge=3)
    assert (colours[line[..., 0]] == 0).all()
    assert (shares[0][line[..., 0]] == mask[0][line[..., 0]]).all()
    colours, shares = unmixed(_plain(0.5, 0.5, 0.5), _plain(0.52, 0.5, 0.5), mask, edge=3)
    assert (colours == np.float32(0.5)).all()
    assert (shares == mask).all()


def test_an_object_has_no_holes_where_it_has_the_colour_of_the_ground() -> None:
    share, ground = _disc(1), _plain(0.9, 0.85, 0.7)
    picture = np.where(share[..., None] > 0.5, _plain(0.8, 0.1, 0.1), ground)
    mask = (share > 0.5).astype(np.float32)
    for line in range(20, 48, 6):  # cream lines over a cream ground
        picture[line : line + 2, 20:44] = ground[0, 0]
        mask[line : line + 2, 20:44] = 0.3
    colours, shares = unmixed(picture, ground, mask[None], edge=3)
    inner = np.hypot(*(np.mgrid[:SIZE, :SIZE] - SIZE / 2)) < 10
    assert (shares[0][inner] > 0.99).all()
    assert np.abs(colours - picture)[inner].max() < 0.01
