"""Standard deviations as divisors: values that are all equal have the deviation 0."""

from torch import Tensor

LEAST_DEVIATION = 1e-5
"""The smallest divisor. Latents and predictions have deviations near 1, so values that differ less than this are equal
except for rounding errors."""


def divisor(deviation: Tensor) -> Tensor:
    """Returns standard deviations as numbers to divide by: each is at least LEAST_DEVIATION."""
    return deviation.clamp(min=LEAST_DEVIATION)
