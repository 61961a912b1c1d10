"""Noise levels: from pure noise (1) down, one per step."""

import torch
from torch import Tensor

THRESHOLD = 0.025
"""How much noise the linear half takes away in all."""


def linear_quadratic(steps: int) -> Tensor:
    """The linear-quadratic schedule: [steps + 1] float32, from 1 to 0.

    The first half goes down linearly to 1 - THRESHOLD; then a parabola leaves with the same slope and ends at 0.
    With 8 steps these are the distilled models' noise levels. Source: the schedule of Movie Gen (Polyak et al. 2024).
    """
    linear = steps // 2
    rest = steps - linear
    slope = THRESHOLD / linear if linear else 0.0
    curve = (1 - THRESHOLD - slope * rest) / rest**2 if linear else 1.0
    falls = [slope * i for i in range(linear)]
    falls += [THRESHOLD * (linear > 0) + slope * k + curve * k**2 for k in range(rest)]
    return torch.tensor([1 - fall for fall in falls] + [0.0])


def noise_levels(steps: int, skip_initial: int = 0, skip_final: int = 0) -> Tensor:
    """The levels a 0.9.x pass evaluates at: `linear_quadratic` without its 0 and without the skipped ends.

    [steps - skip_initial - skip_final] float32, falling; the step from the last level goes to 0.
    """
    return linear_quadratic(steps)[skip_initial : steps - skip_final]
