"""Placing given clips: where they land, what they hold, and what stands beside the video."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given as holds
from hypothesis import strategies as st

from longtake.families.ltxv.conditioning import ConditioningItem, place
from longtake.sampling.noise import seeded
from longtake.sampling.positions import Grid, to_tokens

GRID = Grid(8, 32, Fraction(24))
SHAPE = (1, 4, 6, 2, 3)
CELLS = 6


def clip(frames: int) -> torch.Tensor:
    return torch.randn(1, 4, frames, 2, 3, generator=torch.Generator().manual_seed(frames))


@holds(st.floats(0, 1), st.integers(1, 6))
def test_a_clip_at_the_start_is_mixed_in_place(strength: float, frames: int) -> None:
    latent = clip(frames)
    sequence = place([ConditioningItem(latent, 0, strength)], SHAPE, GRID, seeded(0))
    start = seeded(0)("init", (1, 36, 4))
    held = frames * CELLS
    assert sequence.extra == 0
    assert torch.allclose(sequence.mask[0, :held], torch.tensor(strength))
    assert not sequence.mask[0, held:].any()
    wanted = torch.lerp(start[:, :held], to_tokens(latent), strength)
    assert torch.allclose(sequence.tokens[:, :held], wanted, atol=1e-6)
    assert torch.equal(sequence.tokens[:, held:], start[:, held:])


def test_an_image_later_stands_in_front_at_its_time() -> None:
    image = clip(1)
    sequence = place([ConditioningItem(clip(2)), ConditioningItem(image, 40)], SHAPE, GRID, seeded(0))
    assert sequence.extra == CELLS
    assert torch.equal(sequence.tokens[:, :CELLS], to_tokens(image))
    assert sequence.coords[0, 0, :CELLS].tolist() == pytest.approx([40 / 24] * CELLS)
    assert torch.equal(sequence.coords[:, :, CELLS:], GRID.coords(6, 2, 3))


def test_a_clip_later_keeps_all_but_its_first_two_latents_in_place() -> None:
    latent = clip(4)
    sequence = place([ConditioningItem(latent, 16)], SHAPE, GRID, seeded(0))
    assert sequence.extra == 2 * CELLS
    video = sequence.tokens[:, sequence.extra :].view(1, 6, CELLS, 4)
    assert torch.equal(video[:, 4:].flatten(1, 2), to_tokens(latent[:, :, 2:]))
    assert sequence.mask[0, sequence.extra :].view(6, CELLS)[:, 0].tolist() == [0, 0, 0, 0, 1, 1]


def test_a_guide_is_no_part_of_the_video() -> None:
    latent = clip(6)
    sequence = place([ConditioningItem(latent, is_guide=True)], SHAPE, GRID, seeded(0))
    assert sequence.extra == 36
    assert torch.equal(sequence.tokens[:, :36], to_tokens(latent))
    assert torch.equal(sequence.coords[:, :, :36], sequence.coords[:, :, 36:])
    assert not sequence.mask[0, 36:].any()


def test_initial_latents_get_the_levels_share_of_noise() -> None:
    init = clip(6)
    sequence = place([], SHAPE, GRID, seeded(0), init=init, level=0.9)
    start = seeded(0)("init", (1, 36, 4))
    assert torch.allclose(sequence.tokens, 0.9 * start + 0.1 * to_tokens(init))


def test_a_clip_that_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="7 latents at frame 0 does not fit into 6"):
        place([ConditioningItem(clip(7))], SHAPE, GRID, seeded(0))
