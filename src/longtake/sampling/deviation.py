"""Makes standard deviations safe to divide by. That of equal values is 0, so small ones are raised to a least value."""

from torch import Tensor

LEAST_DEVIATION = 1e-5
"""The smallest standard deviation that anything is divided by; smaller ones are raised to it. Latents and predictions
have deviations near 1. If values deviate less than this, they differ only by rounding errors."""


def divisor(deviation: Tensor) -> Tensor:
    """Returns the standard deviations `deviation`, but with values below 1e-5 (LEAST_DEVIATION) raised to it."""
    return deviation.clamp(min=LEAST_DEVIATION)
