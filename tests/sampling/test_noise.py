"""Noise: the same seed gives the same bits, and no two draws share numbers."""

from itertools import permutations, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.sampling.noise import noise_key, seeded

SEEDS = st.integers(-(2**63), 2**64 - 1)
NAMES = st.sampled_from(["init", "step.000", "step.001", "item.00", "decode.0000", "video.init", "audio.init"])
DRAWS = st.tuples(SEEDS, NAMES, st.integers(0, 1), st.integers(0, 200))
"""What tells one draw from another: seed, name, pass, window."""


def test_a_seed_fixes_every_draw() -> None:
    a, b, other = seeded(3), seeded(3), seeded(4)
    first = a("init", (1, 4, 2))
    assert torch.equal(first, b("init", (1, 4, 2)))
    assert torch.equal(a("step.000", (5,)), b("step.000", (5,)))
    assert not torch.equal(first, other("init", (1, 4, 2)))


def test_draws_do_not_depend_on_their_order() -> None:
    names = ("init", "step.000", "decode.0007")
    alone = {name: seeded(3, 1, 2)(name, (8,)) for name in names}
    for order in permutations(names):
        noise = seeded(3, 1, 2)
        assert all(torch.equal(noise(name, (8,)), alone[name]) for name in order)
        assert all(torch.equal(noise(name, (8,)), alone[name]) for name in names), "requested again, the same"


def test_draws_of_other_names_passes_windows_and_seeds_differ() -> None:
    draws = [
        seeded(seed, pass_number, window)(name, (4,))
        for seed, pass_number, window, name in product((0, 1, 2, -1), (0, 1), (0, 1, 2), ("init", "step.000"))
    ]
    assert len({tuple(draw.tolist()) for draw in draws}) == len(draws)


@given(DRAWS, DRAWS)
def test_each_draw_has_a_key_of_its_own(one: tuple[int, str, int, int], other: tuple[int, str, int, int]) -> None:
    assert 0 <= noise_key(*one) < 2**64
    assert (noise_key(*one) == noise_key(*other)) == (one == other)


@given(SEEDS, st.integers(1, 2**32), NAMES)
def test_a_later_window_is_no_window_of_a_near_seed(seed: int, distance: int, name: str) -> None:
    later = {noise_key(seed, name, number, window) for number in (0, 1) for window in (0, 1, 2)}
    near = {noise_key(seed + by, name, number, 0) for by in (distance, -distance, 2**32, 2**63) for number in (0, 1)}
    assert len(later) == 6
    assert not later & near


def test_the_second_window_of_seed_1_is_no_first_window() -> None:
    second = noise_key(1, "init", 0, 1)
    assert second not in {noise_key(seed, "init", number, 0) for seed in range(-3000, 3000) for number in (0, 1)}


@pytest.mark.parametrize("seed", [-(2**63), -1, 2**31 - 1, 2**32, 2**64 - 1])
def test_every_seed_gives_normal_noise(seed: int) -> None:
    noise = seeded(seed)("init", (100, 100))
    assert noise.dtype == torch.float32
    assert abs(float(noise.mean())) < 0.05
    assert float(noise.std()) == pytest.approx(1, abs=0.03)
    assert not torch.equal(noise, seeded(seed % 2**32)("init", (100, 100))) or 0 <= seed < 2**32


def test_noise_is_as_it_was() -> None:
    """These numbers make the pictures of a seed: other ones would change every picture."""
    assert noise_key(1, "init", 0, 0) == 4945768140649904069
    assert seeded(1)("init", (3,)).tolist() == pytest.approx([0.0005870190, 0.1415060759, -0.2991791666])
