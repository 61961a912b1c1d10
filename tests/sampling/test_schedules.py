"""Noise levels: the oracle's lists, and what every list keeps to."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.sampling.schedules import linear_quadratic, noise_levels
from tests.conftest import load_case


def test_schedules_are_the_published_ones(oracle: Path) -> None:
    case = load_case(oracle, "schedules")
    ours = [s for s in case.params["schedules"] if s["kind"] in ("linear_quadratic", "ltxv_linear_quadratic")]
    assert len(ours) >= 12
    for schedule in ours:
        got = (
            linear_quadratic(schedule["steps"])
            if schedule["kind"] == "linear_quadratic"
            else noise_levels(schedule["steps"], schedule["skip_initial"], schedule["skip_final"])
        )
        case.check(schedule["key"], got)


def test_eight_steps_are_the_distilled_levels() -> None:
    wanted = [1, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875]
    assert noise_levels(8).tolist() == pytest.approx(wanted)
    assert noise_levels(8, skip_initial=5).tolist() == pytest.approx([0.909375, 0.725, 0.421875])


@given(st.integers(1, 64))
def test_a_schedule_falls_from_one_to_zero(steps: int) -> None:
    levels = linear_quadratic(steps)
    assert len(levels) == steps + 1
    assert levels[0] == 1
    assert levels[-1] == 0
    assert bool((levels.diff() < 0).all())


@given(st.integers(2, 40), st.data())
def test_skips_cut_the_ends_off(steps: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, steps - 1))
    last = data.draw(st.integers(0, steps - 1 - first))
    assert torch.equal(noise_levels(steps, first, last), linear_quadratic(steps)[:-1][first : steps - last])
