"""Noise levels and the steps that evaluate the model, as plain numbers: a plan counts with them, without torch."""

import struct
from collections.abc import Mapping
from typing import Literal

Acceleration = Literal["none", "regular", "high", "full"]
Scheduler = Literal["ltx2", "linear_quadratic", "beta"]

THRESHOLD = 0.025
"""The noise that the linear half of the schedule removes in all."""

CACHE_INTERVALS: Mapping[Acceleration, int] = {"none": 1, "regular": 2, "high": 3, "full": 4}


def linear_quadratic(steps: int) -> list[float]:
    """The linear-quadratic schedule: `steps` + 1 noise levels, numbers of 32 bits, from 1 to 0.

    The first half goes down linearly to 1 - THRESHOLD; then a parabola leaves with the same slope and ends at 0.
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
    """True if step `step` of `steps` evaluates the model; the other steps extrapolate its earlier predictions.

    The first two steps and the last one do, and between them every second, third or fourth, by the acceleration.
    """
    return step < 2 or (step - 1) % CACHE_INTERVALS[acceleration] == 0 or step == steps - 1
