"""The LTX-2 loop on fields whose solution is known."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from longtake.models.audiovisual import Stream, Tokens
from longtake.sampling.noise import Noise, given, seeded
from longtake.families.ltx2.sampler import Sampler, renoised, sample, stepped
from longtake.sampling.schedules import sigmas
from longtake.families.ltx2.tracks import Track

SAMPLERS = [Sampler(), Sampler(gamma=2), Sampler(eta=0.25), Sampler(gamma=2, eta=0.25)]


def track(mask: float = 1.0) -> Track:
    return Track(torch.full((1, 4, 2), 5.0), torch.full((1, 4, 1), mask), torch.zeros(1, 1, 4, 2))


def run(sampler: Sampler, predict: Mapping[Stream, Tensor], tracks: Mapping[Stream, Track]) -> dict[Stream, Tensor]:
    return sample(tracks, sigmas("beta", 12), sampler, lambda tokens, step, sigma: predict, seeded(1))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_ends_at_the_last_prediction(sampler: Sampler) -> None:
    target = torch.randn(1, 4, 2)
    assert torch.equal(run(sampler, {"video": target}, {"video": track()})["video"], target)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_model_is_always_asked_at_the_level_it_is_told(sampler: Sampler) -> None:
    """Where the clean value is always 0, tokens are noise alone, and their spread is the noise level."""
    free = Track(torch.zeros(1, 4000, 2), torch.ones(1, 4000, 1), torch.zeros(1, 1, 4000, 2))
    seen: list[tuple[float, float]] = []

    def predict(tokens: Tokens, step: int, sigma: float) -> dict[Stream, Tensor]:
        seen.append((sigma, float(tokens["video"].std())))
        return {"video": torch.zeros_like(tokens["video"])}

    sample({"video": free}, sigmas("ltx2", 10), sampler, predict, seeded(2))
    for sigma, spread in seen:
        assert spread == pytest.approx(sigma, rel=0.04)


def test_ancestral_steps_draw_noise_and_others_do_not() -> None:
    asked: list[str] = []

    def listening(noise: Noise) -> Noise:
        return lambda name, shape: asked.append(name) or noise(name, shape)  # type: ignore[func-returns-value]

    def zero(tokens: Tokens, step: int, sigma: float) -> dict[Stream, Tensor]:
        return {stream: torch.zeros_like(x) for stream, x in tokens.items()}

    both: dict[Stream, Track] = {"video": track(), "audio": track()}
    sample(both, torch.tensor([1, 0.5, 0]), Sampler(), zero, listening(seeded(3)))
    assert asked == ["video.init", "audio.init"]
    sample(both, torch.tensor([1, 0.5, 0]), Sampler(eta=0.5), zero, listening(seeded(3)))
    assert asked[2:] == ["video.init", "audio.init", "video.step.000", "audio.step.000"]


def test_gradient_estimation_goes_on_where_velocity_was_going() -> None:
    noise = {"video.init": torch.ones(1, 4, 2)}
    told = iter((torch.zeros(1, 4, 2), torch.full((1, 4, 2), 0.25), torch.zeros(1, 4, 2)))
    states: list[float] = []
    sample(
        {"video": track()},
        torch.tensor([1.0, 0.5, 0.25, 0.0]),
        Sampler(gamma=2),
        lambda tokens, step, sigma: {"video": next(told)},
        given(noise),
        on_state=lambda tokens: states.append(float(tokens["video"][0, 0, 0])),
    )
    # Velocities 1, then (0.5 - 0.25) / 0.5 = 0.5, which is followed as 2 (0.5 - 1) + 1 = 0.
    assert states == pytest.approx([0.5, 0.5, 0.0])


def test_held_tokens_stay_through_ancestral_noise() -> None:
    held = track(mask=0.0)
    states: list[Tensor] = []
    sample(
        {"video": held},
        torch.tensor([1, 0.6, 0.3, 0]),
        Sampler(eta=0.5),
        lambda tokens, step, sigma: {"video": held.clean},
        seeded(4),
        on_state=lambda tokens: states.append(tokens["video"]),
    )
    assert all(torch.equal(state, held.clean) for state in states)


def test_renoise_without_share_is_plain_euler() -> None:
    x, velocity, noise = torch.randn(3, 1, 4, 2).unbind()
    lower = stepped(x, velocity, 0.8, 0.5)
    assert torch.allclose(renoised(lower, velocity, noise, 0.8, 0.5, 0.0), lower)
