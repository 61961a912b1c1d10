"""Quantised checkpoints are named as such, with what to do instead."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.errors import BadCheckpoint
from longtake.models.checkpoints import load, open_part
from tests.models import small

LAYER = "transformer_blocks.0.attn1.to_q"


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ([f"{LAYER}.weight_scale", f"{LAYER}.input_scale"], "fp8 with scales"),
        ([f"{LAYER}.scale_weight", f"{LAYER}.scale_input"], "fp8 with scales"),
        (["scaled_fp8"], "fp8 with scales"),
        ([f"{LAYER}.weight_scale_inv"], "fp8 with scales"),
        ([f"{LAYER}.weight_scale", f"{LAYER}.weight_scale_2"], r"4 bits \(fp4\)"),
        ([f"{LAYER}.weight.absmax", f"{LAYER}.weight.quant_state.bitsandbytes__nf4"], "bitsandbytes"),
        ([f"{LAYER}.SCB"], "bitsandbytes' 8 bits"),
    ],
)
@pytest.mark.parametrize("is_folder", [True, False])
def test_a_quantised_file_is_named_and_what_to_do(tmp_path: Path, names: list[str], kind: str, is_folder: bool) -> None:
    if is_folder:
        path = small.write_folder(tmp_path / "transformer", small.transformer())
        file, prefix = path / "diffusion_pytorch_model.safetensors", ""
    else:
        path = file = small.write_single(tmp_path / "x.safetensors")
        prefix = "model.diffusion_model."
    save_file(load_file(file) | {f"{prefix}{name}": torch.ones(1) for name in names}, file)
    with pytest.raises(BadCheckpoint, match=rf"holds weights in {kind}.*bfloat16 weights; LONGTAKE_QUANTISE=fp8"):
        load(open_part("transformer", path), dtype=torch.float32)
