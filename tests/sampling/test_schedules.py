"""Schedules of noise levels: the oracle's lists, tables computed by hand, and properties of every list."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betaincinv

from longtake.sampling.levels import Scheduler
from longtake.sampling.schedules import (
    BETA_LEVELS,
    BETA_SHAPE,
    BETA_SHIFT,
    SECOND_PASS_LEVELS,
    beta,
    linear_quadratic,
    ltx2,
    noise_levels,
    sigmas,
)
from tests.conftest import load_case


def test_schedules_are_the_published_ones(oracle: Path) -> None:
    case = load_case(oracle, "schedules")
    assert len(case.params["schedules"]) >= 30
    for schedule in case.params["schedules"]:
        steps = schedule["steps"]
        match schedule["kind"]:
            case "ltx2":
                got = ltx2(steps, schedule["tokens"]) if schedule.get("tokens") else ltx2(steps)
            case "linear_quadratic":
                got = linear_quadratic(steps)
            case "beta":
                got = beta(steps)
            case _:
                got = noise_levels(steps, schedule["skip_initial"], schedule["skip_final"])
        case.check(schedule["key"], got)


@pytest.mark.parametrize(
    ("scheduler", "levels"),
    [
        ("linear_quadratic", [1, 0]),
        ("linear_quadratic", [1, 0.975, 0]),
        ("linear_quadratic", [1, 0.9875, 0.975, 0.725, 0]),
        ("linear_quadratic", [1, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0]),
        ("ltx2", [1, 0.1, 0]),
        ("ltx2", [1, 0.86708, 0.63157, 0.1, 0]),
        ("beta", [1, 0.91454, 0]),
    ],
)
def test_schedules_computed_by_hand(scheduler: Scheduler, levels: list[float]) -> None:
    """ltx2: s -> 7.7679 / (7.7679 + 1/s - 1), stretched to end at 0.1. beta: the median 0.5 of Beta(0.6, 0.6), shifted
    by 10.697."""
    assert sigmas(scheduler, len(levels) - 1).tolist() == pytest.approx(levels, abs=1e-4)


@pytest.mark.parametrize("steps", range(1, 51))
def test_beta_picks_the_levels_at_the_distribution_s_quantiles(steps: int) -> None:
    quantiles = betaincinv(BETA_SHAPE, BETA_SHAPE, [1 - step / steps for step in range(steps)])
    picked = torch.tensor([(round((BETA_LEVELS - 1) * float(one)) + 1) / BETA_LEVELS for one in quantiles]).double()
    wanted = BETA_SHIFT / (BETA_SHIFT + 1 / picked.unique().flip(0) - 1)
    assert torch.allclose(beta(steps)[:-1].double(), wanted, atol=1e-6, rtol=0)


def test_the_second_pass_uses_the_last_distilled_levels() -> None:
    assert SECOND_PASS_LEVELS == (0.909375, 0.725, 0.421875, 0.0)


@pytest.mark.parametrize(
    ("first", "last", "wanted"),
    [
        (0, 0, [1, 0.9875, 0.975, 0.725]),
        (1, 0, [0.9875, 0.975, 0.725]),
        (0, 2, [1, 0.9875]),
        (2, 1, [0.975]),
    ],
)
def test_skipped_levels_are_left_out(first: int, last: int, wanted: list[float]) -> None:
    assert noise_levels(4, first, last).tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("scheduler", ["ltx2", "linear_quadratic", "beta"])
@given(steps=st.integers(2, 64))
def test_a_schedule_falls_to_zero(scheduler: Scheduler, steps: int) -> None:
    levels = sigmas(scheduler, steps)
    assert len(levels) == steps + 1 or (scheduler == "beta" and len(levels) <= steps + 1)
    assert 0.99 < levels[0] <= 1
    assert levels[-1] == 0
    assert bool((levels.diff() < 0).all())


def test_more_tokens_keep_the_noise_longer() -> None:
    assert bool((ltx2(15, 4096)[1:-2] > ltx2(15, 1024)[1:-2]).all())
