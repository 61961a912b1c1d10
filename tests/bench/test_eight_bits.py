"""The models whose videos are compared have weights in 8 bits, or multiply in 8 bits, in the transformer alone."""

from typing import Any

import torch

from bench.eight_bits import converted
from bench.example import Example, psnr
from longtake.endpoints import ltxv098
from longtake.models.fp8 import Float8Linear


def test_a_converted_model_has_layers_in_8_bits() -> None:
    example = Example.of(ltxv098.ENDPOINT)
    multiplying = {}
    for mode in ("storage", "products"):
        model: Any = converted(example, mode)
        layers = [layer for layer in model.transformer.modules() if isinstance(layer, Float8Linear)]
        multiplying[mode] = [layer.multiplies for layer in layers]
        assert {weight.dtype for weight in model.vae.parameters()} == {torch.float32}
    assert not any(multiplying["storage"])
    assert all(multiplying["products"])
    assert 0 < len(multiplying["products"]) < len(multiplying["storage"])


def test_the_psnr_of_a_difference_of_a_tenth_is_20_db() -> None:
    frames = torch.rand(1, 3, 4, 4)
    assert abs(psnr(frames, frames + 0.1) - 20) < 1e-3
    assert psnr(frames, frames) == 120
