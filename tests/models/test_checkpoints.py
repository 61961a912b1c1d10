"""Both layouts load exactly; whatever does not fit is named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.errors import BadCheckpoint, NotSupported
from longtake.models.checkpoints import Checkpoint, compare, empty_model, load, open_part
from longtake.models.layout import Class
from longtake.models.layout_ltxv import LTXV_LAYOUT, LTXV_UPSAMPLER_LAYOUT, TRANSFORMER_13B, VAE_13B
from longtake.models.layouts import classes_of
from longtake.models.registry import PART_NAMES, PartName
from tests.models import small

T5_XXL = {
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "vocab_size": 32128,
    "feed_forward_proj": "gated-gelu",
}
T5 = ("transformers", "T5EncoderModel")
CLASSES: dict[PartName, Class] = {**LTXV_LAYOUT.classes, **LTXV_UPSAMPLER_LAYOUT.classes, "text_encoder": T5}


@pytest.mark.parametrize(("part", "key"), [("transformer", "ltxv_transformer"), ("vae", "ltxv_vae")])
def test_oracle_single_file_ltxv(oracle: Path, part: PartName, key: str) -> None:
    if not (oracle / "single_file_ltxv").exists():
        pytest.skip("oracle case single_file_ltxv is not in the set at hand")
    case = json.loads((oracle / "single_file_ltxv" / "case.json").read_text())
    opened = open_part(part, oracle / "single_file_ltxv" / case["params"]["file"])
    model = load(opened, dtype=torch.float32)
    expected = load_file(oracle / case["models"][key]["weights"])
    assert len(expected) == case["expected_keys"][key]
    assert small.same(model.state_dict(), expected)
    config = case["models"][key]["config"]
    assert {name: _plain(model.config[name]) for name in config} == config  # type: ignore[index]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(
    ("part", "config", "count"),
    [
        ("transformer", TRANSFORMER_13B, 13_042_569_344),
        ("vae", VAE_13B, 1_246_913_522),
        ("upsampler", {}, 126_250_624),
        ("text_encoder", T5_XXL, 4_762_310_656),
    ],
)
def test_the_published_models_have_their_sizes(part: PartName, config: dict[str, Any], count: int) -> None:
    model = empty_model(Checkpoint(part, Path("published"), CLASSES[part], config, {}))
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    held = sum(parameter.numel() for parameter in model.parameters() if not parameter.is_meta)
    assert held < 10_000_000, "tables at most"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_single_file(tmp_path: Path, dtype: torch.dtype) -> None:
    file = small.write_single(tmp_path / "x.safetensors")
    for part, model in (("transformer", small.transformer()), ("vae", small.vae())):
        loaded = load(open_part(part, file), dtype=dtype)  # type: ignore[arg-type]
        assert small.same(loaded.state_dict(), {k: v.to(dtype) for k, v in model.state_dict().items()})
        assert not loaded.training
        assert not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("part", ["transformer", "vae", "upsampler"])
def test_folder(tmp_path: Path, part: PartName, shards: int) -> None:
    model = getattr(small, part)()
    folder = small.write_folder(tmp_path / part, model, shards=shards)
    assert small.same(load(open_part(part, folder), dtype=torch.float32).state_dict(), model.state_dict())


def test_upsampler_as_a_single_file(tmp_path: Path) -> None:
    model = small.upsampler()
    config = {"_class_name": "LatentUpsampler", **small.UPSAMPLER, "spatial_upsample": True, "temporal_upsample": False}
    save_file(model.state_dict(), tmp_path / "u", {"config": json.dumps(config)})
    loaded = load(open_part("upsampler", tmp_path / "u"), dtype=torch.float32)
    assert small.same(loaded.state_dict(), model.state_dict())


def test_what_is_loaded_does_not_follow_the_file(tmp_path: Path) -> None:
    folder = small.write_folder(tmp_path / "transformer", small.transformer())
    loaded = load(open_part("transformer", folder), dtype=torch.float32)
    file = folder / "diffusion_pytorch_model.safetensors"
    file.write_bytes(bytes(file.stat().st_size))
    assert small.same(loaded.state_dict(), small.transformer().state_dict())


def _edited(folder: Path, **change: Any) -> Path:
    """A diffusers folder whose state dict has entries replaced, or dropped where None."""
    file = folder / "diffusion_pytorch_model.safetensors"
    state = load_file(file) | {name.replace("__", "."): tensor for name, tensor in change.items()}
    save_file({name: tensor for name, tensor in state.items() if tensor is not None}, file)
    return folder


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"proj_in__weight": None, "proj_in__bias": None}, r"2 missing: proj_in\.weight, proj_in\.bias"),
        ({"extra__weight": torch.ones(1)}, r"1 unknown: extra\.weight"),
        ({"../x": torch.ones(1)}, r"1 unknown: \.\./x"),
        ({"proj_in__bias": torch.ones(3)}, r"1 of another shape or kind: proj_in\.bias \(F32 \[3\]"),
        ({"proj_in__bias": torch.ones(16, dtype=torch.int32)}, r"proj_in\.bias \(I32 \[16\]"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    folder = _edited(small.write_folder(tmp_path / "transformer", small.transformer()), **change)
    with pytest.raises(BadCheckpoint, match=reason):
        load(open_part("transformer", folder), dtype=torch.float32)


def test_many_missing_weights_are_counted_and_the_first_named(tmp_path: Path) -> None:
    folder = small.write_folder(tmp_path / "transformer", small.transformer())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_layers": 4}))
    opened = open_part("transformer", folder)
    differences = compare(opened, empty_model(opened))
    assert len(differences.missing) > 40
    assert differences.sentence().startswith(f"{len(differences.missing)} missing: transformer_blocks.2.")
    assert differences.sentence().endswith(" and others")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            {"_class_name": "UNet2DConditionModel"},
            "is of class UNet2DConditionModel, not LTX2VideoTransformer3DModel or LTXVideoTransformer3DModel",
        ),
        ({"num_layers": 10**9}, "num_layers = 1000000000"),
        ({"in_channels": 2**40}, "in_channels = 1099511627776"),
        ({"num_layers": [1] * 10_000}, "10000 entries in num_layers"),
        ({"num_layers": "many"}, "builds no LTXVideoTransformer3DModel"),
    ],
)
def test_configurations_that_build_nothing(tmp_path: Path, config: dict[str, Any], reason: str) -> None:
    folder = small.write_folder(tmp_path / "transformer", small.transformer())
    written = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(written | config))
    with pytest.raises(BadCheckpoint, match=reason):
        load(open_part("transformer", folder), dtype=torch.float32)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "link.safetensors"])
def test_shards_outside_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    folder = small.write_folder(tmp_path / "model" / "vae", small.vae(), shards=2)
    save_file({"w": torch.ones(1)}, tmp_path / "model" / "secret.safetensors")
    (folder / "link.safetensors").symlink_to(tmp_path / "model" / "secret.safetensors")
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(BadCheckpoint, match="outside the folder"):
        open_part("vae", folder)


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": {"a": 1}}', '{"weight_map": ['])
def test_broken_indices_are_refused(tmp_path: Path, index: str) -> None:
    folder = small.write_folder(tmp_path / "vae", small.vae(), shards=2)
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(index)
    with pytest.raises(BadCheckpoint):
        open_part("vae", folder)


def test_a_missing_shard_a_repeated_weight_an_empty_folder(tmp_path: Path) -> None:
    folder = small.write_folder(tmp_path / "vae", small.vae(), shards=2)
    first, second = sorted(folder.glob("*.safetensors"))
    second.write_bytes(first.read_bytes())
    with pytest.raises(BadCheckpoint, match="twice"):
        open_part("vae", folder)
    second.unlink()
    with pytest.raises(BadCheckpoint, match="no checkpoint file"):
        open_part("vae", folder)
    for file in folder.glob("diffusion*"):
        file.unlink()
    with pytest.raises(BadCheckpoint, match="holds no weights"):
        open_part("vae", folder)


def test_a_single_file_with_strange_or_no_weights(tmp_path: Path) -> None:
    file = small.write_single(tmp_path / "x", extra={"../x": torch.ones(1)})
    with pytest.raises(BadCheckpoint, match=r"1 weights of no known part: \.\./x"):
        open_part("transformer", file)
    only = {name: tensor for name, tensor in load_file(file).items() if name.startswith("vae.")}
    save_file(only, file, {"config": json.dumps(small.PUBLISHED)})
    with pytest.raises(BadCheckpoint, match="holds no transformer"):
        open_part("transformer", file)
    only["vae.encoder.mid_block.resnets.0.conv1.conv.bias"] = torch.ones(8)
    save_file(only, file, {"config": json.dumps(small.PUBLISHED)})
    with pytest.raises(BadCheckpoint, match="are the same one"):
        open_part("vae", file)


@pytest.mark.parametrize("config", ["[]", "{", '{"vae": 3}', '"x"'])
def test_a_single_file_with_a_broken_config(tmp_path: Path, config: str) -> None:
    save_file(small.published_names(small.vae()), tmp_path / "x", {"config": config})
    with pytest.raises(BadCheckpoint, match="`config`"):
        open_part("vae", tmp_path / "x")


def test_without_a_config_the_file_is_taken_for_the_13b(tmp_path: Path) -> None:
    opened = open_part("transformer", small.write_single(tmp_path / "x", config=None))
    assert opened.config == TRANSFORMER_13B
    with pytest.raises(BadCheckpoint, match="missing: transformer_blocks"):
        load(opened, dtype=torch.float32)


@pytest.mark.parametrize("cls", [cls for part in PART_NAMES for cls in classes_of(part)])
def test_the_classes_exist(cls: tuple[str, str]) -> None:
    import importlib

    assert getattr(importlib.import_module(cls[0]), cls[1]).__name__ == cls[1]


@pytest.mark.parametrize("is_broken", [False, True])
def test_the_class_is_imported_without_garbage_collection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_broken: bool
) -> None:
    """Collections while half a million objects are created would find nothing. A broken library is told in words."""
    name = f"library_that_is_{'broken' if is_broken else 'whole'}"
    library = "import gc\nassert not gc.isenabled()\nfrom diffusers import AutoencoderKLLTXVideo as Model\n"
    (tmp_path / f"{name}.py").write_text(library + "raise ImportError('no lib.so')\n" * is_broken)
    monkeypatch.syspath_prepend(tmp_path)
    opened = replace(open_part("vae", small.write_folder(tmp_path / "vae", small.vae())), cls=(name, "Model"))
    if is_broken:
        with pytest.raises(NotSupported, match=r"cannot be imported \(ImportError: no lib\.so\)"):
            empty_model(opened)
    else:
        assert compare(opened, empty_model(opened)).are_none
