"""Positions: causal seconds, pixel corners, token order."""

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.sampling.positions import (
    Grid,
    audio_before,
    audio_bounds,
    audio_from,
    audio_latents,
    to_latent,
    to_tokens,
)
from tests.conftest import load_case


def test_time_is_causal_and_space_starts_at_corners() -> None:
    coords = Grid(8, 32, Fraction(24)).coords(3, 2, 2)
    assert (coords[0, 0].view(3, 4)[:, 0] * 24).round().tolist() == [0, 1, 9]
    assert coords[0, 1].view(3, 2, 2)[0].tolist() == [[0, 0], [32, 32]]
    assert coords[0, 2].view(3, 2, 2)[0].tolist() == [[0, 32], [0, 32]]


def test_bounds_computed_by_hand() -> None:
    grid = Grid(8, 32, Fraction(24))
    seconds, rows, columns = grid.bounds(2, 1, 2)[0]
    assert (seconds * 24).round().tolist() == [[0, 1], [0, 1], [1, 9], [1, 9]]
    assert rows.tolist() == [[0, 32]] * 4
    assert columns.tolist() == [[0, 32], [32, 64]] * 2
    assert (grid.keyframe_bounds(1, 1, 48)[0, 0] * 24).round().tolist() == [[48, 49]]


def test_audio_positions_computed_by_hand() -> None:
    assert audio_latents(24, Fraction(24)) == 25
    assert audio_latents(121, Fraction(25)) == 121
    assert audio_bounds(3)[0, 0].flatten().tolist() == pytest.approx([0, 0.01, 0.01, 0.05, 0.05, 0.09])
    assert audio_before(4, Fraction("0.05")).tolist() == [True, True, False, False]
    assert audio_from(4, Fraction("0.05")).tolist() == [False, False, True, True]


@given(st.integers(1, 12), st.integers(0, 80), st.sampled_from([(8, 32), (4, 16)]))
def test_a_later_start_moves_time_alone(frames: int, start: int, vae: tuple[int, int]) -> None:
    grid = Grid(*vae, Fraction(30000, 1001))
    moved, there = grid.coords(frames, 2, 3, start), grid.coords(frames, 2, 3)
    assert torch.equal(moved[:, 1:], there[:, 1:])
    assert torch.allclose(moved[:, 0] - there[:, 0], torch.tensor(start * 1001 / 30000), atol=1e-5)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))
def test_tokens_and_latents_convert_to_each_other(frames: int, height: int, width: int, channels: int) -> None:
    latent = torch.randn(1, channels, frames, height, width)
    tokens = to_tokens(latent)
    assert tokens.shape == (1, frames * height * width, channels)
    assert torch.equal(to_latent(tokens, tuple(latent.shape)), latent)
    assert torch.equal(tokens[0, -1], latent[0, :, -1, -1, -1])


def test_bounds_are_the_published_ones(oracle: Path) -> None:
    case = load_case(oracle, "ltx2_rope_coords")
    for item in case.params["items"]:
        key, rate = item["key"], Fraction(str(item["fps"]))
        grid, size = Grid(8, 32, rate), (item["height"] // 32, item["width"] // 32)
        count = audio_latents(item["frames"], rate)
        assert count == item["audio_latents"]
        case.check(f"{key}.video", grid.bounds(item["video_latent_frames"], *size))
        case.check(f"{key}.keyframe_last", grid.keyframe_bounds(*size, item["keyframe_frame_index"]))
        # To the bit: at the highest frequencies one rounding of a position turns by a thousandth of a radian.
        assert torch.equal(audio_bounds(count), case.expected[f"{key}.audio"])
        if "context_frames" in item:
            held = audio_before(count, item["context_frames"] / rate)
            case.check(f"{key}.audio.mask_forward", 1 - held.float()[None, :, None])


@given(st.integers(1, 400), st.fractions(1, 60))
def test_a_latent_that_ends_before_a_time_does_not_start_after_it(count: int, seconds: Fraction) -> None:
    before, after = audio_before(count, seconds), audio_from(count, seconds)
    assert not bool((before & after).any())
    assert int(((~before) & (~after)).sum()) <= 1
