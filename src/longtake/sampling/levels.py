"""Noise levels and evaluated steps as plain numbers, without torch, so that a plan can count model evaluations."""

import struct
from collections.abc import Mapping
from typing import Literal

Acceleration = Literal["none", "regular", "high", "full"]
"""How many steps extrapolate instead of evaluating the model."""

Scheduler = Literal["ltx2", "linear_quadratic", "beta"]
"""The schedules of LTX-2's noise levels."""

THRESHOLD = 0.025
"""The noise that the linear half of the linear-quadratic schedule removes in all."""

CACHE_INTERVALS: Mapping[Acceleration, int] = {"none": 1, "regular": 2, "high": 3, "full": 4}
"""Between the second step and the last, every n-th step evaluates the model."""


def linear_quadratic(steps: int) -> list[float]:
    """Returns the linear-quadratic schedule: `steps` + 1 noise levels from 1 to 0, rounded to 32-bit floats.

    The first half falls linearly to 1 - THRESHOLD. Then a parabola continues with the same slope and ends at 0.
    With 8 steps these are the distilled models' noise levels. Source: the schedule of Movie Gen (Polyak et al. 2024).
    """
    linear = steps // 2
    rest = steps - linear
    slope = THRESHOLD / linear if linear else 0.0
    curve = (1 - THRESHOLD - slope * rest) / rest**2 if linear else 1.0
    falls = [slope * i for i in range(linear)]
    falls += [THRESHOLD * (linear > 0) + slope * k + curve * k**2 for k in range(rest)]
    return [*struct.unpack(f"{steps}f", struct.pack(f"{steps}f", *(1 - fall for fall in falls))), 0.0]


def evaluates_model(step: int, steps: int, acceleration: Acceleration) -> bool:
    """Returns True if step `step` (from 0) of `steps` evaluates the model; the other steps extrapolate.

    The first two steps and the last evaluate it, and between them every n-th step; see CACHE_INTERVALS.
    """
    return step < 2 or (step - 1) % CACHE_INTERVALS[acceleration] == 0 or step == steps - 1
