"""Noise: the same seed gives the same bits; given tensors must fit."""

import pytest
import torch

from longtake.sampling.noise import given, seeded


def test_a_seed_fixes_every_draw() -> None:
    a, b, other = seeded(3), seeded(3), seeded(4)
    first = a("init", (1, 4, 2))
    assert torch.equal(first, b("init", (1, 4, 2)))
    assert torch.equal(a("step.000", (5,)), b("step.000", (5,)))
    assert not torch.equal(first, other("init", (1, 4, 2)))


def test_given_noise_is_looked_up_and_checked() -> None:
    noise = given({"pass1.init": torch.ones(2, 3)}, "pass1.")
    assert torch.equal(noise("init", (2, 3)), torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"pass1\.init has shape \(2, 3\)"):
        noise("init", (3, 2))
    with pytest.raises(KeyError):
        noise("step.000", (2, 3))
