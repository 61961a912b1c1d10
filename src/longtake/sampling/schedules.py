"""Schedules of noise levels, which fall from 1 (pure noise) to 0 (clean). Each step starts at one level and ends at the
next."""

import math

import torch
from torch import Tensor

from longtake.sampling import levels
from longtake.sampling.levels import Scheduler


def linear_quadratic(steps: int) -> Tensor:
    """Returns the linear-quadratic schedule: noise levels from 1 to 0, [steps + 1] float32.

    The levels fall slowly in the first half of the steps, and then ever faster (see `levels.linear_quadratic`).
    """
    return torch.tensor(levels.linear_quadratic(steps))


def noise_levels(steps: int, skip_initial: int = 0, skip_final: int = 0) -> Tensor:
    """Returns the noise levels at which the steps of an LTX-Video pass start, one per step, falling: [n] float32.

    The pass runs a linear-quadratic schedule of `steps` steps without its first `skip_initial` and its last
    `skip_final` steps. So n is `steps` - `skip_initial` - `skip_final`. The last step that the pass runs ends at noise
    level 0.
    """
    return linear_quadratic(steps)[skip_initial : steps - skip_final]


LAST_LEVEL = 0.1
"""The noise level at which the last step of the `ltx2` schedule starts."""


def ltx2(steps: int, tokens: int = 4096) -> Tensor:
    """Returns the LTX-2 schedule: [steps + 1] float32, from 1 to 0.

    - Equally spaced levels s are shifted towards noise: s becomes e^mu / (e^mu + 1/s - 1). mu is linear in the number
      of video `tokens`: 0.95 at 1024 tokens, 2.05 at 4096. LTX-2 always uses 4096.
    - Then the levels are stretched so that the last one before 0 is 0.1 (LAST_LEVEL).

    Source: LTX-2; for the shift Esser et al. 2024.
    """
    shift = math.exp(0.95 + (2.05 - 0.95) * (tokens - 1024) / (4096 - 1024))
    shifted = _shifted(torch.linspace(1, 0, steps + 1, dtype=torch.float64)[:-1], shift)
    return _ended(1 - (1 - shifted) * (1 - LAST_LEVEL) / (1 - shifted[-1]))


BETA_SHAPE = 0.6
"""Both shape parameters of the beta distribution in the beta schedule; 0.6 is the value of Lee et al. 2024."""

BETA_SHIFT = math.exp(2.37)
"""The shift of the beta schedule's levels towards noise: e^mu in the formula of `ltx2`, with mu = 2.37."""

BETA_LEVELS = 10_000
"""The number of equally spaced noise levels from which the beta schedule picks."""


def beta(steps: int) -> Tensor:
    """Returns the beta schedule: float32 noise levels that fall from slightly below 1 to 0.

    The levels before the 0 are picked from 10,000 (BETA_LEVELS) equally spaced levels, at `steps` equally spaced
    quantiles of the distribution Beta(0.6, 0.6), so most are near 1 or near 0. Then all are moved towards 1. A level
    that is picked twice occurs once, so the result may have fewer than `steps` + 1 levels.

    Source: Lee et al. 2024 (beta sampling), with the shift of LTX-2.
    """
    quantiles = [_beta_quantile(1 - step / steps) for step in range(steps)]
    picked = dict.fromkeys(round((BETA_LEVELS - 1) * quantile) for quantile in quantiles)
    unshifted = torch.tensor([(index + 1) / BETA_LEVELS for index in picked], dtype=torch.float64)
    return _ended(_shifted(unshifted, BETA_SHIFT))


def _beta_quantile(share: float) -> float:
    """Returns the number x in 0..1 below which Beta(0.6, 0.6) has the share `share` (0..1), to about 1e-11."""
    if share >= 0.5:  # the distribution is symmetric
        return 0.5 if share == 0.5 else 1 - _beta_quantile(1 - share)
    low, high = 0.0, 0.5
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _beta_share(middle) < share else (low, middle)
    return high


def _beta_share(x: float) -> float:
    """Returns the share of the distribution Beta(0.6, 0.6) that is below `x`, which is in 0..0.5. It is computed as a
    power series in x."""
    term = total = 1.0
    for n in range(40):
        term *= x * (2 * BETA_SHAPE + n) / (BETA_SHAPE + 1 + n)
        total += term
    factor: float = (x * (1 - x)) ** BETA_SHAPE / BETA_SHAPE
    return total * factor * math.gamma(2 * BETA_SHAPE) / math.gamma(BETA_SHAPE) ** 2


def sigmas(scheduler: Scheduler, steps: int) -> Tensor:
    """Returns the noise levels of an LTX-2 pass, falling to 0, as float32.

    - With the scheduler `ltx2` or `linear_quadratic` there are `steps` + 1 levels, and the first one is 1.
    - With the scheduler `beta` there are at most `steps` + 1 levels, and the first one is slightly below 1.
    """
    return {"ltx2": ltx2, "linear_quadratic": linear_quadratic, "beta": beta}[scheduler](steps)


SECOND_PASS_LEVELS = (0.909375, 0.725, 0.421875, 0.0)
"""The noise levels of LTX-2's second pass, which refines the result of the first one: the last four levels of the
`linear_quadratic` schedule of 8 steps."""


def _shifted(levels: Tensor, shift: float) -> Tensor:
    """Returns noise levels moved towards 1: s becomes shift / (shift + 1/s - 1). A `shift` of 1 changes nothing."""
    return shift / (shift + 1 / levels - 1)


def _ended(levels: Tensor) -> Tensor:
    """Returns the noise levels followed by 0, as float32."""
    return torch.cat([levels, levels.new_zeros(1)]).float()
