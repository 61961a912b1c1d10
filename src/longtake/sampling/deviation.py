"""Standard deviations as divisors. Values that are all equal have the deviation 0, by which nothing can be divided."""

from torch import Tensor

LEAST_DEVIATION = 1e-5
"""The smallest divisor. Latents and predictions have deviations near 1. If values deviate less than this, they differ
only by rounding errors."""


def divisor(deviation: Tensor) -> Tensor:
    """Returns standard deviations to divide by: those below LEAST_DEVIATION are raised to it."""
    return deviation.clamp(min=LEAST_DEVIATION)
