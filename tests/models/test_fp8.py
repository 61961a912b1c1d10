"""Layers in 8-bit floats are near the usual ones, keep what must be exact, and take the memory that is counted."""

from typing import Any

import pytest
import torch
from diffusers import LTXVideoTransformer3DModel
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel

from longtake.models import fp8
from longtake.models.fp8 import (
    Float8Linear,
    choose_mode,
    chosen,
    chosen_in_text,
    convert,
    convert_text,
    in_eight_bits,
    in_usual_bits,
    rounded_rows,
    stored_bytes,
)
from longtake.settings import Settings
from tests.models import small, small_ltx2

CUDA = torch.device("cuda")

WIDE = small.TRANSFORMER | {
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    "cross_attention_dim": 64,
    "num_layers": 4,
}
"""Four blocks: the two in the middle multiply in 8 bits."""


def _layer(rows: int = 48, columns: int = 64, *, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(columns, rows, bias=bias).requires_grad_(False)


def _error(got: Tensor, wanted: Tensor) -> float:
    return float((got.float() - wanted.float()).norm() / wanted.float().norm())


def test_each_row_has_a_scale_of_its_own() -> None:
    rows = torch.randn(5, 64) * torch.tensor([1e-4, 1.0, 1e4, 0.0, 3.0])[:, None]
    short, scales = rounded_rows(rows)
    assert (short.dtype, scales.shape) == (torch.float8_e4m3fn, (5, 1))
    largest = short.float().abs().amax(1)
    assert largest.tolist() == [448, 448, 448, 0, 448]
    assert torch.allclose(short.float() * scales, rows, rtol=2**-4, atol=1e-3 * 448 / 2**9)
    assert not (short.float() * scales)[3].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("multiplies", [True, False])
def test_a_layer_is_near_the_usual_one(dtype: torch.dtype, bias: bool, multiplies: bool) -> None:
    layer = _layer(bias=bias).to(dtype)
    short = in_eight_bits(layer, "cpu")
    short.multiplies = multiplies
    x = torch.randn(2, 5, 64).to(dtype) * torch.logspace(-2, 2, 5)[:, None].to(dtype)
    got = short(x)
    assert (got.shape, got.dtype) == ((2, 5, 48), dtype)
    assert 0 < _error(got, layer(x)) < (0.05 if multiplies else 0.035)


def test_products_are_those_of_the_rounded_values() -> None:
    """Beside rounding the input and the weight, only the result is rounded, to bfloat16."""
    short, x = in_eight_bits(_layer(), "cpu"), torch.randn(7, 64)
    short.multiplies = True
    rounded, scales = rounded_rows(x)
    wanted = (rounded.float() * scales) @ short.usual_weight(torch.float32).T + short.bias
    assert _error(short(x), wanted) < 2**-8


def test_a_scale_of_the_whole_tensor_is_not_rounded_again() -> None:
    weight, scale = torch.randn(48, 64).to(torch.float8_e4m3fn), torch.tensor(0.017)
    model = nn.Sequential(_layer())
    assert fp8.keeps_scaled(model, "0.weight", weight, scale)
    layer = model[0]
    assert isinstance(layer, Float8Linear)
    assert torch.equal(layer.weight.view(torch.uint8), weight.view(torch.uint8))
    assert torch.equal(layer.usual_weight(torch.float32), weight.float() * scale)
    usual = in_usual_bits(layer, torch.bfloat16)
    assert torch.equal(usual.weight, (weight.float() * scale).bfloat16())
    assert not fp8.keeps_scaled(nn.Sequential(nn.LayerNorm(48)), "0.weight", weight[0], scale)


def test_what_needs_precision_keeps_it() -> None:
    model = small_ltx2.model("transformer")
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    stored = chosen(shapes, "storage")
    assert stored
    assert all(name.startswith("transformer_blocks.") and name.endswith(".weight") for name in stored)
    assert not [name for name in stored if "norm" in name or "gate" in name or "table" in name]
    wide = {name: (64, 64) if len(shape) == 2 else shape for name, shape in shapes.items()}
    blocks = {
        name.replace("transformer_blocks.1", f"transformer_blocks.{n}"): shape
        for n in (1, 2, 3)
        for name, shape in wide.items()
    }
    multiplied = chosen(blocks | wide, "products")
    assert {int(name.split(".")[1]) for name in multiplied} == {1, 2}
    parts = {name.split(".")[2] for name in multiplied}
    assert parts == {"attn1", "audio_attn1", "ff", "audio_ff", "audio_to_video_attn", "video_to_audio_attn"}
    assert not chosen(blocks, "none")


@pytest.mark.parametrize(("mode", "bound"), [("storage", 0.1), ("products", 0.05)])
def test_an_evaluation_is_near_and_takes_the_memory_that_is_counted(mode: fp8.Mode, bound: float) -> None:
    usual = small.seeded(LTXVideoTransformer3DModel, WIDE)
    short = small.seeded(LTXVideoTransformer3DModel, WIDE)
    shapes = {name: tuple(tensor.shape) for name, tensor in short.state_dict().items()}
    convert(short, mode, torch.float32)
    in_bits = {name for name, layer in short.named_modules() if isinstance(layer, Float8Linear)}
    assert {f"{name}.weight" for name in in_bits} == chosen(shapes, mode)
    assert len(in_bits) == (40 if mode == "storage" else 12)
    state = short.state_dict()
    assert sum(tensor.nbytes for tensor in state.values()) == fp8.num_bytes(shapes, mode, torch.float32)
    assert 0 < _error(small.velocity(short), small.velocity(usual)) < bound
    convert(short, "none", torch.float32)
    assert not [layer for layer in short.modules() if isinstance(layer, Float8Linear)]


def test_a_text_encoder_in_8_bits_is_near_the_usual_one() -> None:
    """Its embeddings and what T5 needs exact keep their dtype."""
    config = T5Config(
        vocab_size=32, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
    )
    encoders: list[Any] = []
    for _ in range(2):
        torch.manual_seed(0)
        encoders.append(T5EncoderModel(config).eval().to(torch.bfloat16))
    usual, short = encoders
    convert_text(short)
    shapes = {name: tuple(tensor.shape) for name, tensor in usual.state_dict().items()}
    rounded = {name for name, layer in short.named_modules() if isinstance(layer, Float8Linear)}
    assert {f"{name}.weight" for name in rounded} == chosen_in_text(shapes)
    assert {name.rsplit(".", 1)[1] for name in rounded} == {"q", "k", "v", "o", "wi_0", "wi_1"}
    own = {name: tensor for name, tensor in short.state_dict().items() if name != "encoder.embed_tokens.weight"}
    del shapes["encoder.embed_tokens.weight"]
    assert sum(tensor.nbytes for tensor in own.values()) == stored_bytes(shapes, chosen_in_text(shapes), torch.bfloat16)
    tokens = torch.arange(12)[None]
    with torch.inference_mode():
        assert 0 < _error(short(tokens)[0], usual(tokens)[0]) < 0.06


@pytest.mark.parametrize(
    ("capability", "are_compiled", "mode", "words"),
    [
        ((9, 0), True, "products", "multiply in 8 bits, except the first, the last"),
        ((8, 9), True, "products", "multiply in 8 bits"),
        ((8, 9), False, "storage", "faster only in compiled blocks"),
        ((8, 6), True, "storage", "compute capability 8.6 is below 8.9"),
    ],
)
def test_a_gpu_multiplies_in_8_bits_if_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], are_compiled: bool, mode: str, words: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    found, sentence = choose_mode(Settings(quantise="fp8"), CUDA, are_compiled=are_compiled)
    assert found == mode
    assert words in sentence
    assert choose_mode(Settings(), CUDA, are_compiled=are_compiled)[0] == "none"
    on_cpu, why = choose_mode(Settings(quantise="fp8"), torch.device("cpu"), are_compiled=are_compiled)
    assert on_cpu == "storage"
    assert "only a CUDA GPU" in why
