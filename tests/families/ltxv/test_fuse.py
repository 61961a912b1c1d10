"""Joining windows: lengths, untouched past, and a fade that neither jumps nor dims."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.families.ltxv.fuse import fuse


@given(st.integers(1, 5), st.integers(1, 6))
def test_fused_length_and_untouched_past(overlap: int, new: int) -> None:
    before, window = torch.randn(1, 2, 8, 2, 2), torch.randn(1, 2, overlap + new, 2, 2)
    video = fuse(before, window, before, overlap, 0.5)
    assert video.shape[2] == 8 + new
    assert torch.equal(video[:, :, : 8 - overlap + 1], before[:, :, : 8 - overlap + 1])


def test_equal_videos_fuse_to_themselves() -> None:
    whole = torch.randn(1, 2, 12, 2, 2)
    video = fuse(whole[:, :, :8], whole[:, :, 4:], whole, 4, 0.0)
    assert torch.allclose(video, whole, atol=1e-6)


def test_colours_follow_the_first_window() -> None:
    before, bright = torch.randn(1, 2, 8, 4, 4), torch.randn(1, 2, 8, 4, 4) * 3 + 5
    drifted, held = (fuse(before, bright, before, 3, factor)[:, :, 8:] for factor in (0.0, 1.0))
    assert drifted.mean() > 4
    assert held.mean().abs() < 1
