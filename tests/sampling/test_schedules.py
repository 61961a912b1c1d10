"""Noise levels: the oracle's lists, and what every list keeps to."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.sampling.levels import Scheduler
from longtake.sampling.schedules import SECOND_PASS_LEVELS, beta, linear_quadratic, ltx2, noise_levels, sigmas
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


def test_eight_steps_are_the_distilled_levels() -> None:
    wanted = [1, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875]
    assert noise_levels(8).tolist() == pytest.approx(wanted)
    assert noise_levels(8, skip_initial=5).tolist() == pytest.approx([0.909375, 0.725, 0.421875])
    assert linear_quadratic(8)[5:].tolist() == pytest.approx(SECOND_PASS_LEVELS)


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


@given(st.integers(2, 40), st.data())
def test_skips_cut_the_ends_off(steps: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, steps - 1))
    last = data.draw(st.integers(0, steps - 1 - first))
    assert torch.equal(noise_levels(steps, first, last), linear_quadratic(steps)[:-1][first : steps - last])
