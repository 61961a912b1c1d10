"""The LTX-2 loop on fields whose solution is known."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from bench.oracle.recorded import recorded_noise
from longtake.families.ltx2.sampler import Sampler, renoised, stepped, trajectory
from longtake.families.ltx2.tracks import Track
from longtake.models.audiovisual import Stream, Tokens
from longtake.sampling.noise import Noise, seeded
from longtake.sampling.schedules import sigmas

SETTINGS: list[dict[str, float]] = [{}, {"gamma": 2}, {"eta": 0.25}, {"gamma": 2, "eta": 0.25}]
"""Of a sampler, beside its noise levels."""


def track(mask: float = 1.0) -> Track:
    return Track(torch.full((1, 4, 2), 5.0), torch.full((1, 4, 1), mask), torch.zeros(1, 1, 4, 2))


@pytest.mark.parametrize("settings", SETTINGS)
def test_every_sampler_ends_at_the_last_prediction(settings: Mapping[str, float]) -> None:
    target: dict[Stream, Tensor] = {"video": torch.randn(1, 4, 2)}
    sampler = Sampler(sigmas("beta", 12), **settings)
    *_, made = trajectory({"video": track()}, sampler, lambda tokens, step, sigma: target, seeded(1))
    assert torch.equal(made["video"], target["video"])


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_model_is_always_evaluated_at_the_level_it_is_told(settings: Mapping[str, float]) -> None:
    """Where the clean value is always 0, tokens are noise alone, and their spread is the noise level."""
    free = Track(torch.zeros(1, 4000, 2), torch.ones(1, 4000, 1), torch.zeros(1, 1, 4000, 2))
    seen: list[tuple[float, float]] = []

    def predict(tokens: Tokens, step: int, sigma: float) -> dict[Stream, Tensor]:
        seen.append((sigma, float(tokens["video"].std())))
        return {"video": torch.zeros_like(tokens["video"])}

    list(trajectory({"video": free}, Sampler(sigmas("ltx2", 10), **settings), predict, seeded(2)))
    assert len(seen) == 10
    for sigma, spread in seen:
        assert spread == pytest.approx(sigma, rel=0.04)


def test_ancestral_steps_draw_noise_and_others_do_not() -> None:
    requested: list[str] = []

    def listening(noise: Noise) -> Noise:
        return lambda name, shape: requested.append(name) or noise(name, shape)  # type: ignore[func-returns-value]

    def zero(tokens: Tokens, step: int, sigma: float) -> dict[Stream, Tensor]:
        return {stream: torch.zeros_like(x) for stream, x in tokens.items()}

    both: dict[Stream, Track] = {"video": track(), "audio": track()}
    levels = torch.tensor([1, 0.5, 0])
    list(trajectory(both, Sampler(levels), zero, listening(seeded(3))))
    assert requested == ["video.init", "audio.init"]
    list(trajectory(both, Sampler(levels, eta=0.5), zero, listening(seeded(3))))
    assert requested[2:] == ["video.init", "audio.init", "video.step.000", "audio.step.000"]


def test_gradient_estimation_continues_the_change_of_velocity() -> None:
    predictions = iter((torch.zeros(1, 4, 2), torch.full((1, 4, 2), 0.25), torch.zeros(1, 4, 2)))
    states = trajectory(
        {"video": track()},
        Sampler(torch.tensor([1.0, 0.5, 0.25, 0.0]), gamma=2),
        lambda tokens, step, sigma: {"video": next(predictions)},
        recorded_noise({"video.init": torch.ones(1, 4, 2)}),
    )
    # The velocities are 1, then (0.5 - 0.25) / 0.5 = 0.5, which is followed as 2 (0.5 - 1) + 1 = 0.
    assert [float(state["video"][0, 0, 0]) for state in states] == pytest.approx([0.5, 0.5, 0.0])


def test_held_tokens_do_not_change_under_ancestral_noise() -> None:
    held = track(mask=0.0)
    sampler = Sampler(torch.tensor([1, 0.6, 0.3, 0]), eta=0.5)
    states = list(trajectory({"video": held}, sampler, lambda tokens, step, sigma: {"video": held.clean}, seeded(4)))
    assert len(states) == 3
    assert all(torch.equal(state["video"], held.clean) for state in states)


def test_renoise_without_share_is_plain_euler() -> None:
    x, velocity, noise = torch.randn(3, 1, 4, 2).unbind()
    lower = stepped(x, velocity, 0.8, 0.5)
    assert torch.allclose(renoised(lower, velocity, noise, 0.8, 0.5, 0.0), lower)
