"""Schedules of noise levels: one level for each step, falling from pure noise (1) to clean (0)."""

import math

import torch
from scipy.stats import beta as beta_distribution
from torch import Tensor

from longtake.sampling import levels
from longtake.sampling.levels import Scheduler


def linear_quadratic(steps: int) -> Tensor:
    """Returns the linear-quadratic schedule: [steps + 1] float32, from 1 to 0. See `levels.linear_quadratic`."""
    return torch.tensor(levels.linear_quadratic(steps))


def noise_levels(steps: int, skip_initial: int = 0, skip_final: int = 0) -> Tensor:
    """Returns the noise levels at which a 0.9.x pass evaluates the model: [steps - skip_initial - skip_final] float32,
    falling.

    These are the linear-quadratic levels without the final 0 and without the skipped first and last ones. The step from
    the last level goes to 0.
    """
    return linear_quadratic(steps)[skip_initial : steps - skip_final]


LAST_LEVEL = 0.1
"""The noise level at which the last step of the `ltx2` schedule starts."""


def ltx2(steps: int, tokens: int = 4096) -> Tensor:
    """Returns the LTX-2 schedule: [steps + 1] float32, from 1 to 0.

    Equal steps are shifted towards noise, s -> e^mu / (e^mu + 1/s - 1), and stretched so that the last level before 0
    is LAST_LEVEL. mu is linear in the number of video `tokens`: 0.95 at 1024, 2.05 at 4096. LTX-2 always uses 4096.
    Source: LTX-2; the shift: Esser et al. 2024.
    """
    shift = math.exp(0.95 + (2.05 - 0.95) * (tokens - 1024) / (4096 - 1024))
    shifted = _shifted(torch.linspace(1, 0, steps + 1, dtype=torch.float64)[:-1], shift)
    return _ended(1 - (1 - shifted) * (1 - LAST_LEVEL) / (1 - shifted[-1]))


BETA_SHAPE = 0.6
"""Both shape parameters of the beta schedule's distribution."""

BETA_SHIFT = math.exp(2.37)
"""The shift towards noise of the beta schedule's levels."""

BETA_LEVELS = 10_000
"""The number of noise levels that the beta schedule picks from."""


def beta(steps: int) -> Tensor:
    """Returns the beta schedule: at most [steps + 1] float32, from near 1 to 0.

    Quantiles of Beta(0.6, 0.6), denser at both ends, pick from 10 000 shifted levels. A level picked twice counts once,
    so there may be fewer steps. Source: Lee et al. 2024 (beta sampling), with the shift of LTX-2.
    """
    quantiles = beta_distribution.ppf([1 - step / steps for step in range(steps)], BETA_SHAPE, BETA_SHAPE)
    picked = dict.fromkeys(round((BETA_LEVELS - 1) * float(quantile)) for quantile in quantiles)
    unshifted = torch.tensor([(index + 1) / BETA_LEVELS for index in picked], dtype=torch.float64)
    return _ended(_shifted(unshifted, BETA_SHIFT))


def sigmas(scheduler: Scheduler, steps: int) -> Tensor:
    """Returns the noise levels of an LTX-2 pass: [steps + 1] float32 (beta: at most), from 1 (beta: near 1) to 0."""
    return {"ltx2": ltx2, "linear_quadratic": linear_quadratic, "beta": beta}[scheduler](steps)


SECOND_PASS_LEVELS = (0.909375, 0.725, 0.421875, 0.0)
"""The noise levels of LTX-2's second pass: the last four of the distilled models' eight-step schedule."""


def _shifted(levels: Tensor, shift: float) -> Tensor:
    return shift / (shift + 1 / levels - 1)


def _ended(levels: Tensor) -> Tensor:
    return torch.cat([levels, levels.new_zeros(1)]).float()
