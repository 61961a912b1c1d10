"""Every published spelling of a LoRA has bit for bit the effect of the plain spelling; other kinds are named."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from longtake.errors import BadCheckpoint, InvalidRequest
from longtake.models.lora_header import read_lora_header
from longtake.models.lora_keys import LoraKey, lora_key
from longtake.models.loras import read
from tests.models import small
from tests.models.adapters import applied_in_pass

MODULES = {
    "transformer_blocks.0.attn1.to_q": ("transformer_blocks.0.attn1.to_q", 16, 16),
    "transformer_blocks.1.attn2.to_out.0": ("transformer_blocks.1.attn2.to_out.0", 16, 16),
    "proj_in": ("patchify_proj", 16, 6),
    "time_embed.linear": ("adaln_single.linear", 96, 16),
}
"""Module -> its published name, and the sizes of its output and input."""

DOWN, UP = ("lora_A.weight", "lora_down.weight"), ("lora_B.weight", "lora_up.weight")


def _tensors(a: str, b: str, *, published: bool, flat: bool = False, alpha: Tensor | None = None) -> dict[str, Tensor]:
    """A LoRA with tensors named by the templates `a` and `b`, in which `{}` stands for the module."""
    generator = torch.Generator().manual_seed(5)
    tensors = {}
    for ours, (theirs, out, into) in MODULES.items():
        name = theirs if published else ours
        name = name.replace(".", "_") if flat else name
        tensors[a.format(name)] = torch.randn(4, into, generator=generator)
        tensors[b.format(name)] = torch.randn(out, 4, generator=generator)
        if alpha is not None:
            tensors[a.partition("{}")[0] + f"{name}.alpha"] = alpha.clone()
    return tensors


def _effect(path: Path, tensors: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
    """The prediction of a small transformer with the LoRA, which is stored in the dtype of its tensors."""
    save_file(tensors, path)
    transformer = small.transformer().to(dtype)
    with applied_in_pass(transformer, [(read(path), (0.7,))]), torch.inference_mode():
        return small.velocity(transformer).clone()


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize(
    ("prefix", "pair"),
    [
        ("", 0),
        ("", 1),
        ("diffusion_model.", 0),
        ("diffusion_model.", 1),
        ("model.diffusion_model.", 0),
        ("transformer.", 0),
        ("base_model.model.", 0),
        ("base_model.model.transformer.", 0),
        ("base_model.model.model.diffusion_model.", 0),
        ("module.", 0),
        ("lora_unet_", 1),
        ("lora_unet_", 0),
        ("lora_transformer_", 1),
        ("lora_dit_", 1),
        ("_orig_mod.", 0),
        ("base_model.model._orig_mod.", 0),
        ("lycoris_", 1),
    ],
)
def test_every_prefix_is_the_same_picture(tmp_path: Path, prefix: str, pair: int, published: bool) -> None:
    plain = _effect(
        tmp_path / "plain", _tensors("transformer.{}.lora_A.weight", "transformer.{}.lora_B.weight", published=False)
    )
    a, b = f"{prefix}{{}}.{DOWN[pair]}", f"{prefix}{{}}.{UP[pair]}"
    got = _effect(tmp_path / "l", _tensors(a, b, published=published, flat=prefix.endswith("_")))
    assert torch.equal(got, plain)
    assert not torch.equal(got, small.velocity(small.transformer()))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("lora_A.default.weight", "lora_B.default.weight"),
        ("lora_A.my-style.weight", "lora_B.my-style.weight"),
        ("lora_A", "lora_B"),
        ("lora.down.weight", "lora.up.weight"),
        ("lora_linear_layer.down.weight", "lora_linear_layer.up.weight"),
    ],
)
def test_every_name_of_the_two_matrices(a: str, b: str) -> None:
    for prefix in ("", "base_model.model.", "diffusion_model."):
        assert lora_key(f"{prefix}patchify_proj.{a}") == LoraKey("proj_in", "A")
        assert lora_key(f"{prefix}patchify_proj.{b}") == LoraKey("proj_in", "B")


def test_a_lora_of_an_attention_processor_belongs_to_the_attention() -> None:
    prefix = "transformer.transformer_blocks.0.attn1"
    assert lora_key(f"{prefix}.processor.to_q_lora.down.weight") == LoraKey("transformer_blocks.0.attn1.to_q", "A")
    assert lora_key(f"{prefix}.processor.to_out_lora.up.weight") == LoraKey("transformer_blocks.0.attn1.to_out.0", "B")


def test_matrices_may_be_stored_as_convolutions(tmp_path: Path) -> None:
    tensors = _tensors("{}.lora_A.weight", "{}.lora_B.weight", published=False)
    convolutions = {key: tensor[..., None, None] for key, tensor in tensors.items()}
    assert torch.equal(_effect(tmp_path / "l", convolutions), _effect(tmp_path / "plain", tensors))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("alpha", [torch.tensor(2), torch.tensor([2], dtype=torch.int32), torch.tensor([[2.0]])])
def test_alpha_and_the_models_own_dtype(tmp_path: Path, alpha: Tensor, dtype: torch.dtype) -> None:
    names = ("diffusion_model.{}.lora_down.weight", "diffusion_model.{}.lora_up.weight")
    stored = {key: tensor.to(dtype) for key, tensor in _tensors(*names, published=True).items()}
    halved = {key: tensor / 2 if "lora_up" in key else tensor for key, tensor in stored.items()}
    alphas = {key: tensor for key, tensor in _tensors(*names, published=True, alpha=alpha).items() if "alpha" in key}
    if alpha.is_floating_point():
        alphas = {key: tensor.to(dtype) for key, tensor in alphas.items()}
    assert torch.equal(_effect(tmp_path / "l", stored | alphas, dtype), _effect(tmp_path / "halved", halved, dtype))


A, B = "diffusion_model.proj_in.lora_A.weight", "diffusion_model.proj_in.lora_B.weight"


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        (
            ["lycoris_transformer_blocks_0_attn1_to_q.lokr_w1", "lycoris_transformer_blocks_0_attn1_to_q.lokr_w2"],
            "a LoKr",
        ),
        (["diffusion_model.x.lokr_w1_a", "diffusion_model.x.alpha"], "a LoKr"),
        (["lora_unet_x.hada_w1_a", "lora_unet_x.hada_w1_b", "lora_unet_x.alpha"], "a LoHa"),
        ([A, B, "diffusion_model.proj_in.dora_scale"], "a DoRA"),
        ([A, B, "base_model.model.proj_in.lora_magnitude_vector.weight"], "a DoRA"),
        (["lycoris_x.weight", "lycoris_x.on_input"], "an IA3"),
        (["base_model.model.x.ia3_l"], "an IA3"),
        (["base_model.model.x.ia3_l.weight"], "an IA3"),
        (["lora_unet_x.oft_blocks", "lora_unet_x.alpha"], "an OFT"),
        (["base_model.model.x.oft_R.default.weight"], "an OFT"),
        (["lycoris_x.a1.weight", "lycoris_x.a2.weight", "lycoris_x.b1.weight", "lycoris_x.b2.weight"], "a GLoRA"),
        (["lora_unet_x.lora_mid.weight", "lora_unet_x.lora_down.weight"], "a LoCon"),
        ([A, B, "diffusion_model.proj_in.lora_B.bias"], "a LoRA with biases"),
        ([A, B, "diffusion_model.proj_in.lora_A.scale_weight"], "in fp8 with scales"),
        ([A, B, "scaled_fp8"], "in fp8 with scales"),
        (["diffusion_model.x.diff", "diffusion_model.x.diff_b"], "whole changes of weights"),
        (["lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight"], "for a text encoder"),
        (["lora_te1_x.lora_down.weight", "lora_te1_x.lora_up.weight", "lora_te1_x.alpha"], "for a text encoder"),
        (["text_encoder.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight"], "for a text encoder"),
        (["base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight"], "for a text encoder"),
        (["base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight"], "for a text encoder"),
        ([A, B, "text_encoder.x.lora_A.weight"], "for a text encoder, in whole or in part"),
    ],
)
def test_another_kind_is_named(tmp_path: Path, keys: list[str], kind: str) -> None:
    save_file({key: torch.ones(2, 2) for key in keys}, tmp_path / "style.safetensors")
    with pytest.raises(BadCheckpoint, match=rf"^style\.safetensors (is|holds) {kind}.*only plain LoRAs"):
        read_lora_header(tmp_path / "style.safetensors")


def test_two_spellings_of_one_module_are_refused(tmp_path: Path) -> None:
    one = _tensors("lora_unet_{}.lora_A.weight", "lora_unet_{}.lora_B.weight", published=True, flat=True)
    other = _tensors("{}.lora_A.weight", "{}.lora_B.weight", published=False)
    with pytest.raises(InvalidRequest, match="two spellings of 4 modules: "):
        _effect(tmp_path / "l", one | other)


def test_the_files_that_failed_are_read(shared: Path) -> None:
    files = sorted((shared / "cases" / "lora").glob("*.safetensors"))
    assert {len(read_lora_header(file).shapes) for file in files} == {24, 54, 58}
