"""Steps without the model."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.families.ltx2 import sampler as ltx2
from longtake.families.ltx2.sampler import PassSetup, Sampler, sample
from longtake.families.ltx2.tracks import Track
from longtake.models.audiovisual import Stream, Tokens
from longtake.sampling.levels import Acceleration, evaluates_model
from longtake.sampling.noise import seeded
from longtake.sampling.schedules import sigmas

LEVELS: tuple[Acceleration, ...] = ("none", "regular", "high", "full")


def test_each_level_evaluates_the_model_less_often() -> None:
    evaluated = [sum(evaluates_model(step, 15, level) for step in range(15)) for level in LEVELS]
    assert evaluated[0] == 15
    assert evaluated == sorted(set(evaluated), reverse=True)


@given(st.integers(1, 50), st.sampled_from(LEVELS))
def test_the_first_two_steps_and_the_last_evaluate_the_model(steps: int, level: Acceleration) -> None:
    assert all(evaluates_model(step, steps, level) for step in {0, min(1, steps - 1), steps - 1})


SCHEDULE = sigmas("beta", 15)


class NoGuide:
    def positioned(self, tracks: object) -> tuple[()]:
        return ()


@pytest.mark.parametrize("sampler", [Sampler(SCHEDULE), Sampler(SCHEDULE, gamma=2), Sampler(SCHEDULE, eta=0.25)])
@pytest.mark.parametrize("level", LEVELS)
def test_predictions_on_a_line_are_carried_on_exactly(
    level: Acceleration, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    track = Track(torch.zeros(1, 4, 2), torch.ones(1, 4, 1), torch.zeros(1, 1, 4, 2))
    slope = torch.randn(1, 4, 2)
    evaluated = 0

    def line(guide: object, tracks: object, positioned: object, tokens: Tokens, sigma: float) -> dict[Stream, Tensor]:
        nonlocal evaluated
        evaluated += 1
        return {"video": 1 + sigma * slope}

    def run(level: Acceleration) -> Tensor:
        setup: Any = PassSetup(NoGuide(), sampler, level)  # type: ignore[arg-type]
        return sample(setup, {"video": track}, seeded(5))["video"]

    monkeypatch.setattr(ltx2, "predict", line)
    exact = run("none")
    evaluated = 0
    assert torch.allclose(run(level), exact, atol=1e-5)
    assert evaluated == sum(evaluates_model(step, 15, level) for step in range(15))
