"""The loop of steps on a transformer that knows the answer: x0 = 0, so the velocity is x / t."""

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longtake.errors import Cancelled
from longtake.families.ltxv.conditioning import ConditioningItem, place
from longtake.families.ltxv.guidance import Guide
from longtake.families.ltxv.profiles import NONE
from longtake.families.ltxv.sampler import PassSetup, trajectory
from longtake.models.replicas import Replicas
from longtake.models.t5 import EncodedPrompt
from longtake.models.video_transformer import TokenLevels
from longtake.sampling.levels import Acceleration, evaluates_model
from longtake.sampling.noise import seeded
from longtake.sampling.positions import Grid
from longtake.sampling.schedules import noise_levels
from longtake.sampling.windows import OnStep, ignore_step

SHAPE = (1, 4, 4, 2, 2)
TEXT = EncodedPrompt(torch.zeros(1, 1, 1), torch.ones(1, 1))
CLIP = torch.ones(1, 4, 2, 2, 2)


class Known(nn.Module):
    """Predicts n - x0 for x0 = 0; records the noise levels that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[Tensor] = []

    def forward(self, tokens: Tensor, levels: TokenLevels, *_: Any) -> Tensor:
        self.times.append(levels.values[levels.index][None])
        return tokens / self.times[-1].clamp(min=1e-3)[..., None]


def run(
    strength: float,
    model: Known,
    *,
    conditioning_noise: float = 0.15,
    acceleration: Acceleration = "none",
    on_step: OnStep = ignore_step,
) -> list[Tensor]:
    """The tokens after every step."""
    noise, grid = seeded(1), Grid(8, 32, Fraction(24))
    guide = Guide(Replicas(model), TEXT, None, NONE)
    setup = PassSetup(guide, noise_levels(8), grid, (64, 64), acceleration, conditioning_noise)
    return list(trajectory(setup, place([ConditioningItem(CLIP, 0, strength)], SHAPE, grid, noise), noise, on_step))


def test_free_tokens_arrive_and_hard_ones_stay() -> None:
    model = Known()
    *_, tokens = run(1.0, model, conditioning_noise=0.0)
    assert torch.allclose(tokens[:, 8:], torch.zeros(1, 8, 4), atol=1e-5)
    assert torch.equal(tokens[:, :8], torch.ones(1, 8, 4))
    assert all(not time[0, :8].any() for time in model.times), "given tokens have time 0"
    assert [round(time[0, 8].item(), 5) for time in model.times] == pytest.approx(noise_levels(8).tolist(), abs=1e-5)


def test_hard_tokens_are_disturbed_by_the_levels_square() -> None:
    states = run(1.0, Known(), conditioning_noise=0.15)
    spread = [(state[:, :8] - 1).std().item() for state in states]
    wanted = [0.15 * level**2 for level in noise_levels(8).tolist()]
    assert spread == pytest.approx(wanted, rel=0.5)


def test_soft_tokens_wait_for_their_own_level() -> None:
    model = Known()
    states = run(0.5, model)
    waiting = sum(level > 0.5 for level in noise_levels(8).tolist())
    assert all(torch.equal(state[:, :8], states[0][:, :8]) for state in states[:waiting])
    assert not torch.equal(states[waiting][:, :8], states[0][:, :8])
    assert all(time[0, 0] == pytest.approx(0.5) for time in model.times[:waiting])


def test_cancelling_stops_before_the_next_evaluation() -> None:
    model = Known()

    def on_step(step: int, steps: int) -> None:
        if step == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(1.0, model, on_step=on_step)
    assert len(model.times) == 3


@pytest.mark.parametrize("acceleration", ["regular", "high", "full"])
def test_acceleration_leaves_evaluations_out_where_the_velocity_keeps_its_course(acceleration: Acceleration) -> None:
    exact, model = Known(), Known()
    *_, wanted = run(1.0, exact, conditioning_noise=0.0)
    *_, got = run(1.0, model, conditioning_noise=0.0, acceleration=acceleration)
    assert torch.allclose(got, wanted, atol=1e-4)
    assert len(model.times) == sum(evaluates_model(step, 8, acceleration) for step in range(8)) < len(exact.times)


def test_the_snippet_of_the_page_runs() -> None:
    page = (Path(__file__).parents[3] / "docs" / "sampling.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.S)
    values: dict[str, Any] = {"transformer": Known(), "embeddings": TEXT.embeddings, "mask": TEXT.mask}
    values |= {"negative": TEXT.embeddings, "negative_mask": TEXT.mask}
    values |= {"context": torch.ones(1, 128, 3, 2, 4), "last_image": torch.ones(1, 128, 1, 2, 4)}
    exec(snippet.replace("22, 40", "2, 4"), values)
    assert values["latents"].shape == (1, 128, 16, 2, 4)
    assert torch.allclose(values["latents"][:, :, :3], values["context"], atol=0.2), "its strength is 1"
