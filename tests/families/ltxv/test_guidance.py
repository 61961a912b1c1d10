"""Guidance: only the evaluations that are needed, each scale's effect, and a transformer left as it was."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longtake.families.ltxv.guidance import (
    Guide,
    ValueAttention,
    guided_velocity,
    project,
    value_attention,
)
from longtake.families.ltxv.profiles import DEV, Guidance
from longtake.models.replicas import Copy, Replicas
from longtake.models.t5 import EncodedPrompt
from longtake.models.video_transformer import TokenLevels
from tests.conftest import load_case


class Counting(nn.Module):
    """A stand-in transformer whose velocity tells which evaluation it was: 1 prompt, 2 negative, 3 disturbed."""

    def __init__(self) -> None:
        super().__init__()
        attention: Any = nn.Module()
        attention.processor = object()
        self.attention, self.plain = attention, attention.processor
        block = nn.Module()
        block.attn1 = attention
        self.transformer_blocks = nn.ModuleList([block])
        self.evaluations = 0

    def forward(self, tokens: Tensor, levels: TokenLevels, coords: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        self.evaluations += 1
        disturbed = isinstance(self.attention.processor, ValueAttention)
        kind = 3.0 if disturbed else float(text.mean())
        return tokens * 0 + kind * torch.linspace(1, 2, tokens.shape[-1])


def text(kind: float) -> EncodedPrompt:
    return EncodedPrompt(torch.full((1, 2, 3), float(kind)), torch.ones(1, 2))


def guided(model: Counting, guidance: Guidance, level: float = 0.5) -> Tensor:
    guide = Guide(Replicas(model), text(1), text(2), guidance)
    return guided_velocity(guide, torch.zeros(1, 4, 3), TokenLevels.of(torch.ones(1, 4)), torch.zeros(1, 3, 4), level)


@pytest.mark.parametrize(
    ("cfg", "stg", "evaluations"), [(1.0, 0.0, 1), (3.0, 0.0, 2), (1.0, 1.0, 2), (3.0, 1.0, 3), (0.5, 0.0, 1)]
)
def test_only_needed_evaluations_are_made(cfg: float, stg: float, evaluations: int) -> None:
    model, guidance = Counting(), Guidance(cfg=(cfg,), stg=(stg,), blocks=((0,),))
    guided(model, guidance)
    assert model.evaluations == evaluations == guidance.evaluations(0.5)


def test_a_whole_schedule_makes_the_planned_evaluations() -> None:
    model = Counting()
    levels = [1.0, 0.99, 0.95, 0.5]
    sparse = Guidance(DEV.timesteps, DEV.cfg, DEV.stg, DEV.rescale, ((0,),) * len(DEV.blocks), True)
    for level in levels:
        guided(model, sparse, level)
    assert model.evaluations == sum(sparse.evaluations(level) for level in levels)


def test_scales_move_away_from_what_they_name() -> None:
    ramp = torch.linspace(1, 2, 3)
    assert torch.allclose(guided(Counting(), Guidance(cfg=(3.0,)))[0, 0], (2 + 3 * (1 - 2)) * ramp)
    assert torch.allclose(guided(Counting(), Guidance(stg=(0.5,), blocks=((0,),)))[0, 0], (1 + 0.5 * (1 - 3)) * ramp)


def test_rescale_counts_only_with_stg() -> None:
    plain = guided(Counting(), Guidance(cfg=(3.0,)))
    assert torch.equal(guided(Counting(), Guidance(cfg=(3.0,), rescale=(0.5,))), plain)
    stg = Guidance(cfg=(3.0,), stg=(1.0,), blocks=((0,),), rescale=(1.0,))
    half = Guidance(cfg=(3.0,), stg=(1.0,), blocks=((0,),), rescale=(0.5,))
    assert guided(Counting(), half).std() < guided(Counting(), stg).std()


def test_a_missing_negative_prompt_is_named() -> None:
    tokens = torch.zeros(1, 4, 3)
    levels, guide = TokenLevels.of(tokens[..., 0]), Guide(Replicas(Counting()), text(1), None, Guidance(cfg=(2.0,)))
    with pytest.raises(ValueError, match="needs a negative prompt"):
        guided_velocity(guide, tokens, levels, tokens, 0.5)


def test_projection_is_onto_the_positive_prediction() -> None:
    u, c = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    rest = c - project(u, c)
    assert torch.allclose((rest * u).flatten(1).sum(1), torch.zeros(2), atol=1e-4)


def test_attention_is_restored_whatever_happens() -> None:
    model = Counting()
    with pytest.raises(RuntimeError, match="boom"), value_attention(model, (0,)):
        raise RuntimeError("boom")
    assert model.attention.processor is model.plain


def test_a_negative_prompt_is_heeded_without_a_further_evaluation(oracle: Path) -> None:
    case = load_case(oracle, "ltxv_transformer")
    net, tokens = case.model("ltxv_transformer"), case.given["tokens"]
    coords, levels = case.given["coords"], TokenLevels.of(case.given["token_timestep"])
    prompt = EncodedPrompt(case.given["prompt"], case.given["prompt.mask"])
    other = EncodedPrompt(case.given["negative"], case.given["negative.mask"])

    def made(negative: EncodedPrompt, nag: float) -> Tensor:
        return guided_velocity(Guide(Replicas(net), prompt, negative, Guidance(nag=nag)), tokens, levels, coords, 0.5)

    plain = made(other, 0.0)
    case.check("per_token", plain)
    assert torch.allclose(made(prompt, 5.0), plain, atol=1e-6), "away from the prompt itself is nowhere"
    moved = [(made(other, nag) - plain).norm() for nag in (1.0, 5.0)]
    assert 0 < moved[0] < moved[1]
    case.check("per_token", made(other, 0.0))


@pytest.mark.parametrize("count", [2, 3])
def test_several_devices_give_the_bits_of_one(oracle: Path, count: int) -> None:
    """Classifier-free guidance, disturbed attention and normalised attention guidance at once: three predictions."""
    case = load_case(oracle, "ltxv_transformer")
    nets = [load_case(oracle, "ltxv_transformer").model("ltxv_transformer") for _ in range(count)]
    coords, levels = case.given["coords"], TokenLevels.of(case.given["token_timestep"])
    prompt = EncodedPrompt(case.given["prompt"], case.given["prompt.mask"])
    other = EncodedPrompt(case.given["negative"], case.given["negative.mask"])
    guidance = Guidance(cfg=(3.0,), stg=(1.0,), blocks=((0, 1),), rescale=(0.5,), cfg_star=True, nag=5.0)

    def made(replicas: Replicas) -> Tensor:
        with torch.inference_mode():
            guide = Guide(replicas, prompt, other, guidance)
            return guided_velocity(guide, case.given["tokens"], levels, coords, 0.5)

    own = [[block.attn1.processor for block in net.transformer_blocks] for net in nets]
    copies = tuple(Copy(net, torch.device("cpu")) for net in nets[1:])
    assert torch.equal(made(Replicas(nets[0], copies=copies)), made(Replicas(nets[0])))
    assert [[block.attn1.processor for block in net.transformer_blocks] for net in nets] == own
