"""Noise schedules and the choice of the steps that evaluate the model, as plain numbers. Needs no torch, so plans can
use it."""

import struct
from collections.abc import Mapping
from typing import Literal

Acceleration = Literal["none", "regular", "high", "full"]
"""How many steps extrapolate earlier predictions instead of evaluating the model: from no step (none) to about three of
four (full)."""

Scheduler = Literal["ltx2", "linear_quadratic", "beta"]
"""The schedules of noise levels that LTX-2 can be sampled with; `schedules.sigmas` returns their levels."""

THRESHOLD = 0.025
"""How far the noise level falls in the linear half of the linear-quadratic schedule: from 1 to 0.975."""

CACHE_INTERVALS: Mapping[Acceleration, int] = {"none": 1, "regular": 2, "high": 3, "full": 4}
"""The number n for each acceleration level. Between the second step and the last one, every n-th step evaluates the
model."""


def linear_quadratic(steps: int) -> list[float]:
    """Returns the linear-quadratic schedule: `steps` + 1 noise levels from 1 to 0, rounded to 32-bit floats.

    In the first half of the steps, the noise level falls linearly from 1 to 0.975 (1 - THRESHOLD). From there it
    follows a parabola that begins with the same slope and ends at 0.

    `steps`: the number of steps, at least 1; the distilled models use 8.

    Source: the schedule of Movie Gen (Polyak et al. 2024).
    """
    linear = steps // 2
    rest = steps - linear
    slope = THRESHOLD / linear if linear else 0.0
    curve = (1 - THRESHOLD - slope * rest) / rest**2 if linear else 1.0
    falls = [slope * i for i in range(linear)]
    falls += [THRESHOLD * (linear > 0) + slope * k + curve * k**2 for k in range(rest)]
    return [*struct.unpack(f"{steps}f", struct.pack(f"{steps}f", *(1 - fall for fall in falls))), 0.0]


def evaluates_model(step: int, steps: int, acceleration: Acceleration) -> bool:
    """Returns True if a step of sampling evaluates the model, False if it extrapolates the model's last predictions.

    The first two steps and the last step evaluate the model. Of the steps between them, every n-th one does, counted
    from the second step. n is 1 for the acceleration "none", 2 for "regular", 3 for "high" and 4 for "full".

    `step`: the step's number, from 0.
    `steps`: the number of steps.
    """
    return step < 2 or (step - 1) % CACHE_INTERVALS[acceleration] == 0 or step == steps - 1
