"""Unknown parts of a picture are filled with the pattern of the rest, or from their edge."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.carried.inpainting import Mask, inpainted
from longtake.carried.optical_flow import Pictures


def _picture(height: int, width: int) -> Pictures:
    """Soft stripes in two colours."""
    y, x = np.mgrid[:height, :width]
    level = (0.5 + 0.5 * np.sin((x + 2 * y) * 2 * np.pi / 64))[..., None]
    stripes: Pictures = (level * np.array([0.1, 0.2, 0.9]) + (1 - level) * np.array([0.9, 0.6, 0.3])).astype(np.float32)
    return stripes


def _hole(height: int, width: int, *box: slice) -> Mask:
    unknown = np.zeros((height, width), np.uint8)
    unknown[box] = 1
    return unknown


@pytest.mark.parametrize(("height", "width"), [(128, 224), (480, 832), (500, 300)])
def test_stripes_go_on(height: int, width: int) -> None:
    picture = _picture(height, width)
    unknown = _hole(height, width, slice(height // 3, height // 2), slice(width // 3, width // 2))
    filled, guessed = inpainted(np.where(unknown[..., None] > 0, np.float32(0), picture), unknown)
    assert np.abs(filled - picture).max() < 0.05
    assert not guessed.any()


def test_two_parts_are_filled_each_from_its_own_place() -> None:
    picture = _picture(240, 400)
    unknown = _hole(240, 400, slice(20, 60), slice(30, 80)) | _hole(240, 400, slice(150, 200), slice(300, 340))
    filled, guessed = inpainted(np.where(unknown[..., None] > 0, np.float32(1), picture), unknown)
    assert np.abs(filled - picture).max() < 0.05
    assert not guessed.any()


def test_what_has_no_pattern_is_continued_from_the_edge_and_called_a_guess() -> None:
    y, x = np.mgrid[:120, :200]
    picture = np.stack([x / 200, y / 120, (x + y) / 320], axis=-1).astype(np.float32)
    unknown = _hole(120, 200, slice(40, 70), slice(90, 120))
    filled, guessed = inpainted(np.where(unknown[..., None] > 0, np.float32(0), picture), unknown)
    assert np.abs(filled - picture).max() < 0.2
    assert (guessed == unknown).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_known_pixels_stay_and_any_size_works(height: int, width: int, seed: int) -> None:
    dice = np.random.default_rng(seed)
    picture = dice.random((height, width, 3), np.float32)
    unknown = (dice.random((height, width)) < dice.random()).astype(np.uint8)
    filled, guessed = inpainted(picture, unknown)
    assert filled.shape == picture.shape
    assert filled.dtype == np.float32
    assert np.isfinite(filled).all()
    assert (filled[unknown == 0] == picture[unknown == 0]).all()
    assert ((guessed == 0) | (unknown == 1)).all()
