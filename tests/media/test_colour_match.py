"""Matching the colours of new frames to the source's at the joint."""

import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.media.colour_match import match_colour
from tests.media.files_out import moving

CAST = np.array([0.03, -0.02, 0.01], np.float32)


def shades(num_frames: int) -> NDArray[np.float32]:
    return (moving(num_frames) / 255).astype(np.float32)


def test_the_cast_is_removed_at_the_joint_and_fades_back() -> None:
    """The first frame gets the source's colour, the last keeps its own, and the cast grows linearly between them."""
    truth = shades(21).clip(0.1, 0.9)
    decoded = truth + CAST
    matched = match_colour(decoded[1:], truth[0], decoded[0], 10)
    left = (matched - truth[1:]).mean(axis=(1, 2))
    assert left == pytest.approx(np.outer(np.minimum(np.arange(20) / 10, 1), CAST), abs=1e-5)
    assert (matched[10:] == decoded[11:]).all()
    assert (matched[9] != decoded[10]).any()


def test_chunks_are_matched_like_the_whole() -> None:
    new, source, decoded = shades(24), shades(1)[0], shades(1)[0] / 2 + 0.25
    whole = match_colour(new, source, decoded, 16)
    parts = [match_colour(new[at : at + 5], source, decoded, 16, first=at) for at in range(0, 24, 5)]
    assert (np.concatenate(parts) == whole).all()


def test_frames_without_a_cast_are_unchanged() -> None:
    new = shades(5)
    assert (match_colour(new, new[0], new[0], 8) == new).all()


def test_values_are_clipped_and_the_input_is_not_changed() -> None:
    new = np.full((3, 8, 8, 3), 0.9, np.float32)
    source, decoded = np.full((8, 8, 3), 0.8, np.float32), np.full((8, 8, 3), 0.4, np.float32)
    assert match_colour(new, source, decoded, 2)[:, 0, 0, 0].tolist() == pytest.approx([1, 1, 0.9])
    assert (new == np.float32(0.9)).all()
