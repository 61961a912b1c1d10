"""Noise levels: from pure noise (1) down, one per step."""

import math

import torch
from scipy.stats import beta as beta_distribution
from torch import Tensor

from longtake.sampling import levels
from longtake.sampling.levels import Scheduler


def linear_quadratic(steps: int) -> Tensor:
    """The linear-quadratic schedule: [steps + 1] float32, from 1 to 0. See `levels.linear_quadratic`."""
    return torch.tensor(levels.linear_quadratic(steps))


def noise_levels(steps: int, skip_initial: int = 0, skip_final: int = 0) -> Tensor:
    """The levels a 0.9.x pass evaluates at: `linear_quadratic` without its 0 and without the skipped ends.

    [steps - skip_initial - skip_final] float32, falling; the step from the last level goes to 0.
    """
    return linear_quadratic(steps)[skip_initial : steps - skip_final]


LAST_LEVEL = 0.1
"""The noise level at which the last step of the `ltx2` schedule starts."""


def ltx2(steps: int, tokens: int = 4096) -> Tensor:
    """The LTX-2 schedule: [steps + 1] float32, from 1 to 0.

    Equal steps, shifted towards noise by e^mu / (e^mu + 1/s - 1), then stretched so that the last level before 0 is
    LAST_LEVEL. mu is on the line through (1024 tokens, 0.95) and (4096, 2.05). Source: LTX-2; the shift: Esser 2024.
    """
    shift = math.exp(0.95 + (2.05 - 0.95) * (tokens - 1024) / (4096 - 1024))
    shifted = _shifted(torch.linspace(1, 0, steps + 1, dtype=torch.float64)[:-1], shift)
    return _ended(1 - (1 - shifted) * (1 - LAST_LEVEL) / (1 - shifted[-1]))


BETA_SHAPE = 0.6
BETA_SHIFT = math.exp(2.37)
BETA_LEVELS = 10_000


def beta(steps: int) -> Tensor:
    """The beta schedule: at most [steps + 1] float32, from near 1 to 0.

    Quantiles of Beta(0.6, 0.6), denser at both ends, pick from 10 000 shifted levels; one picked twice counts once.
    Source: Lee et al. 2024 (beta sampling), with the shift of LTX-2.
    """
    quantiles = beta_distribution.ppf([1 - step / steps for step in range(steps)], BETA_SHAPE, BETA_SHAPE)
    picked = dict.fromkeys(round((BETA_LEVELS - 1) * float(quantile)) for quantile in quantiles)
    unshifted = torch.tensor([(index + 1) / BETA_LEVELS for index in picked], dtype=torch.float64)
    return _ended(_shifted(unshifted, BETA_SHIFT))


def sigmas(scheduler: Scheduler, steps: int) -> Tensor:
    """The noise levels of an LTX-2 pass: float32, from 1 (beta: near it) to 0."""
    return {"ltx2": ltx2, "linear_quadratic": linear_quadratic, "beta": beta}[scheduler](steps)


SECOND_SCALE = (0.909375, 0.725, 0.421875, 0.0)
"""The noise levels of LTX-2's second scale: the last of the distilled models' eight steps."""


def _shifted(levels: Tensor, shift: float) -> Tensor:
    return shift / (shift + 1 / levels - 1)


def _ended(levels: Tensor) -> Tensor:
    return torch.cat([levels, levels.new_zeros(1)]).float()
