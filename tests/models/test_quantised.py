"""Files in fp8 with scales are loaded as they are; other quantised checkpoints are named, with what to do instead."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from longtake.errors import BadCheckpoint
from longtake.models.checkpoints import load, open_part
from longtake.models.checks import check
from longtake.models.fp8 import Float8Linear, convert
from longtake.settings import Settings
from tests.models import small

LAYER = "transformer_blocks.0.attn1.to_q"
OTHER = "transformer_blocks.1.attn1.to_k"


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ([f"{LAYER}.weight_scale_inv"], "fp8 with scales of an unknown form"),
        ([f"{LAYER}.comfy_quant", f"{LAYER}.weight_scale"], "fp8 with scales of an unknown form"),
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


SPELLINGS = (("weight_scale", "input_scale"), ("scale_weight", "scale_input"))


def _write(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Replaces the tensors of a file. Its metadata, which has a single file's settings, stays."""
    with safe_open(path, framework="pt") as opened:
        metadata = opened.metadata()
    save_file(tensors, path, metadata)


def _in_fp8(path: Path, spelling: tuple[str, str], prefix: str = "", scale_shape: tuple[int, ...] = ()) -> None:
    """Brings a file into the form of published fp8 files: a weight in e4m3, its scale, and one for activations."""
    tensors = load_file(path)
    for layer in (LAYER, OTHER):
        weight = tensors[f"{prefix}{layer}.weight"]
        scale = weight.abs().max() / 448
        tensors[f"{prefix}{layer}.weight"] = (weight / scale).to(torch.float8_e4m3fn)
        tensors[f"{prefix}{layer}.{spelling[0]}"] = scale.expand(scale_shape).clone()
        tensors[f"{prefix}{layer}.{spelling[1]}"] = torch.tensor(0.5)
    _write(tensors, path)


@pytest.fixture(params=[True, False], ids=["folder", "file"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, str]:
    """A transformer's path, its file, and what stands before the names in it."""
    if request.param:
        path = small.write_folder(tmp_path / "transformer", small.transformer())
        return path, path / "diffusion_pytorch_model.safetensors", ""
    path = small.write_single(tmp_path / "x.safetensors")
    return path, path, "model.diffusion_model."


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("scale_shape", [(), (1,), (16,), (16, 1)])
def test_published_fp8_files_are_loaded_as_they_are(
    stored: tuple[Path, Path, str], spelling: tuple[str, str], scale_shape: tuple[int, ...]
) -> None:
    path, file, prefix = stored
    _in_fp8(file, spelling, prefix, scale_shape)
    checkpoint = open_part("transformer", path)
    assert sorted(checkpoint.scaled) == sorted(f"{layer}.weight" for layer in (LAYER, OTHER))
    model = load(checkpoint, dtype=torch.float32)
    tensors = load_file(file)
    for name in (LAYER, OTHER):
        layer = model.get_submodule(name)
        assert isinstance(layer, Float8Linear)
        given, scale = tensors[f"{prefix}{name}.weight"], tensors[f"{prefix}{name}.{spelling[0]}"]
        assert torch.equal(layer.weight.view(torch.uint8), given.view(torch.uint8))
        assert torch.equal(layer.usual_weight(torch.float32), given.float() * scale.reshape(-1, 1))
    short = small.velocity(model)
    convert(model, "storage", torch.float32)
    kept = model.state_dict()[f"{LAYER}.weight"]
    assert torch.equal(kept.view(torch.uint8), tensors[f"{prefix}{LAYER}.weight"].view(torch.uint8))
    model = load(checkpoint, dtype=torch.float32)
    convert(model, "none", torch.float32)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(small.velocity(model), short)
    assert (short - small.velocity(small.transformer())).abs().max() < 0.1 * short.abs().max()


def test_the_marks_of_fp8_files_are_ignored(stored: tuple[Path, Path, str]) -> None:
    path, file, prefix = stored
    _in_fp8(file, SPELLINGS[1], prefix)
    _write(load_file(file) | {"scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn)}, file)
    load(open_part("transformer", path), dtype=torch.bfloat16)


def test_fp8_without_scales_is_named_and_refused(stored: tuple[Path, Path, str]) -> None:
    path, file, prefix = stored
    tensors = load_file(file)
    tensors[f"{prefix}{LAYER}.weight"] = tensors[f"{prefix}{LAYER}.weight"].to(torch.float8_e4m3fn)
    _write(tensors, file)
    with pytest.raises(
        BadCheckpoint, match=r"holds weights in fp8 without scales \(a plain cast, or rotated for kernels"
    ):
        open_part("transformer", path)


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(torch.bfloat16, torch.ones(())), (torch.float8_e5m2, torch.ones(())), (torch.float8_e4m3fn, torch.ones(3))],
)
def test_scales_that_fit_no_weight_are_refused(
    stored: tuple[Path, Path, str], dtype: torch.dtype, scale: torch.Tensor
) -> None:
    path, file, prefix = stored
    tensors = load_file(file)
    name = f"{prefix}{LAYER}.weight"
    _write(tensors | {name: tensors[name].to(dtype), f"{name}_scale": scale}, file)
    with pytest.raises(BadCheckpoint, match=r"to_q\.weight_scale, which is no scale of a weight in 8-bit floats"):
        open_part("transformer", path)


def test_other_parts_are_loaded_in_the_usual_dtype(tmp_path: Path) -> None:
    path = small.write_folder(tmp_path / "vae", small.vae())
    file = path / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    name = next(name for name, tensor in tensors.items() if name.endswith("conv.weight") and tensor.ndim == 5)
    scale = tensors[name].abs().max() / 448
    short = (tensors[name] / scale).to(torch.float8_e4m3fn)
    _write(tensors | {name: short, f"{name}_scale": scale}, file)
    state = load(open_part("vae", path), dtype=torch.float32).state_dict()
    assert torch.equal(state[name], short.float() * scale)


def test_a_check_counts_the_weights_in_fp8(stored: tuple[Path, Path, str]) -> None:
    path, file, prefix = stored
    _in_fp8(file, SPELLINGS[0], prefix)
    [report] = [part for part in check(str(path), Settings()).parts if part.part == "transformer"]
    assert report.problem is None
    assert report.sentence().endswith("parameters, 2 weights in fp8 with scales")
