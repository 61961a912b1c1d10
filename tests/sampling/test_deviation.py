"""Deviations as divisors: ordinary ones are unchanged, and none is 0."""

import torch

from longtake.sampling.deviation import LEAST_DEVIATION, divisor


def test_only_deviations_near_0_are_raised() -> None:
    ordinary = torch.tensor([1e-3, 1.0, 30.0])
    assert torch.equal(divisor(ordinary), ordinary)
    assert torch.equal(divisor(torch.tensor([0.0, 1e-9])), torch.full((2,), LEAST_DEVIATION))
