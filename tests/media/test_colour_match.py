"""Matching the colours of new frames to the source's at the joint."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from longtake.media.colour_match import match_colour
from tests.media.files_out import moving

CAST = torch.tensor([0.03, -0.02, 0.01])


def shades(num_frames: int) -> Tensor:
    """Frames [t, 3, H, W] in 0..1."""
    return torch.from_numpy(moving(num_frames)).permute(0, 3, 1, 2) / 255


def parts_of(frames: Tensor, length: int) -> Iterator[tuple[int, Tensor]]:
    """Parts of the frames, each with the number of its first frame."""
    for at in range(0, len(frames), length):
        yield at, frames[at : at + length]


def test_the_cast_is_removed_at_the_joint_and_fades_back() -> None:
    """The first frame gets the source's colour, the last keeps its own, and the cast grows linearly between them."""
    truth = shades(21).clip(0.1, 0.9)
    decoded = truth + CAST[:, None, None]
    matched = match_colour(decoded[1:], truth[0], decoded[0], 10, range(20))
    left = (matched - truth[1:]).mean((2, 3))
    assert left.numpy() == pytest.approx(np.outer(np.minimum(np.arange(20) / 10, 1), CAST), abs=1e-5)
    assert (matched[10:] == decoded[11:]).all()
    assert (matched[9] != decoded[10]).any()


def test_chunks_are_matched_like_the_whole() -> None:
    new, source, decoded = shades(24), shades(1)[0], shades(1)[0] / 2 + 0.25
    whole = match_colour(new, source, decoded, 16, range(24))
    parts = [match_colour(part, source, decoded, 16, range(24)[at : at + 5]) for at, part in parts_of(new, 5)]
    assert torch.equal(torch.cat(parts), whole)


def test_frames_without_a_cast_are_unchanged() -> None:
    new = shades(5)
    assert torch.equal(match_colour(new, new[0], new[0], 8, range(5)), new)


def test_values_are_clipped_and_the_input_is_not_changed() -> None:
    new = torch.full((3, 3, 8, 8), 0.9)
    source, decoded = torch.full((3, 8, 8), 0.8), torch.full((3, 8, 8), 0.4)
    assert match_colour(new, source, decoded, 2, range(3))[:, 0, 0, 0].tolist() == pytest.approx([1, 1, 0.9])
    assert (new == 0.9).all()


def test_the_order_of_the_frames_does_not_matter() -> None:
    new, source, decoded = shades(6), shades(1)[0], shades(1)[0] / 2 + 0.25
    forward = match_colour(new, source, decoded, 4, range(6))
    assert torch.equal(match_colour(new.flip(0), source, decoded, 4, range(5, -1, -1)).flip(0), forward)
