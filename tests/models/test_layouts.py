"""The table of layouts reads every published file, and a layout that is added to the table is read like the others."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from longtake.cli import app
from longtake.errors import BadCheckpoint
from longtake.models import checkpoints, layouts
from longtake.models.checks import check
from longtake.models.layout import Config, Layout, PublishedConfig, Shapes, refuse
from longtake.models.layout_ltx2 import LTX2_LAYOUT, LTX2_UPSAMPLER_LAYOUT
from longtake.models.layout_ltxv import LTXV_LAYOUT, LTXV_UPSAMPLER_LAYOUT
from longtake.models.registry import PartName
from longtake.models.safe import read_header
from longtake.models.transformer_keys import reworded
from longtake.settings import settings
from tests.models import small, small_ltx2

# The parts of a made-up third layout: other prefixes, other words, settings under one key, another autoencoder.
PREFIXES: dict[str, PartName] = {"net/": "transformer", "codec/": "vae"}
WORDS = {"entrance": "proj_in", "exit": "proj_out"}
AUTOENCODER: dict[str, Any] = {
    "encoder_block_out_channels": [8, 8],
    "decoder_block_out_channels": [8, 8],
    "num_encoder_blocks": [1, 1],
    "num_decoder_blocks": [1, 1],
    "latent_channels": 6,
}
SPEC = {"version": 3, "heads": 2, "depth": 2, "latents": 6}


def _part_of(key: str) -> PartName | None:
    return next((part for prefix, part in PREFIXES.items() if key.startswith(prefix)), None)


def _rename(part: PartName, key: str, published: PublishedConfig) -> str | None:
    _, _, name = key.partition("/")
    return None if name == "checksum" else reworded(name, WORDS)


def _settings(part: PartName, published: PublishedConfig, shapes: Shapes) -> Config:
    spec = published["spec"]
    if spec["version"] != 3:
        refuse(part, "version", spec["version"], 3)
    if part == "vae":
        return AUTOENCODER | {"latent_channels": spec["latents"]}
    width, channels = shapes["proj_in.weight"]
    return small.TRANSFORMER | {
        "in_channels": channels,
        "num_attention_heads": spec["heads"],
        "attention_head_dim": width // spec["heads"],
        "num_layers": spec["depth"],
    }


THIRD = Layout(
    name="Third",
    recognises=lambda names, published: "spec" in published and any(_part_of(name) for name in names),
    part_of=_part_of,
    rename=_rename,
    settings=_settings,
    classes={
        "transformer": ("diffusers", "LTXVideoTransformer3DModel"),
        "vae": ("diffusers", "AutoencoderTiny"),
    },
    sections=("spec",),
)


def _models() -> dict[PartName, torch.nn.Module]:
    from diffusers import AutoencoderTiny

    return {"transformer": small.transformer(), "vae": small.seeded(AutoencoderTiny, AUTOENCODER)}


def _write(path: Path, spec: Any = SPEC) -> Path:
    """A single file of the third layout."""
    tensors = {"net/checksum": torch.arange(3)}
    ours = {word: published for published, word in WORDS.items()}
    for prefix, part in PREFIXES.items():
        state = _models()[part].state_dict()
        tensors |= {prefix + reworded(name, ours): tensor.clone() for name, tensor in state.items()}
    save_file(tensors, path, {"config": json.dumps({"spec": spec})})
    return path


@pytest.fixture
def third(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file of the third layout, which is in the table."""
    monkeypatch.setattr(layouts, "LAYOUTS", (*layouts.LAYOUTS, THIRD))
    return _write(tmp_path / "third.safetensors")


def test_a_file_of_a_new_layout_fits(third: Path) -> None:
    report = check(str(third), settings())
    assert report.fits
    counts = {part: sum(p.numel() for p in model.parameters()) for part, model in _models().items()}
    assert {part.part: part.num_parameters for part in report.parts} == counts


def test_a_file_of_a_new_layout_passes_models_check(third: Path) -> None:
    ran = CliRunner().invoke(app, ["models", "check", str(third), "--json"])
    assert ran.exit_code == 0
    document = json.loads(ran.stdout)
    assert document["fits"]
    assert [part["part"] for part in document["parts"]] == ["transformer", "vae"]
    assert "fits" in CliRunner().invoke(app, ["models", "check", str(third)]).stdout


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_a_file_of_a_new_layout_loads(third: Path, part: PartName) -> None:
    loaded = checkpoints.load(checkpoints.open_part(part, third), dtype=torch.float32)
    expected = _models()[part]
    assert type(loaded) is type(expected)
    assert small.same(loaded.state_dict(), expected.state_dict())


def test_a_folder_of_a_new_layouts_class_loads(third: Path, tmp_path: Path) -> None:
    expected = _models()["vae"]
    folder = small.write_folder(tmp_path / "folder", expected)
    assert check(str(folder), settings()).fits
    loaded = checkpoints.load(checkpoints.open_part("vae", folder), dtype=torch.float32)
    assert small.same(loaded.state_dict(), expected.state_dict())


@pytest.mark.parametrize(
    ("spec", "reason"),
    [(SPEC | {"version": 4}, "version = 4"), (SPEC | {"depth": 3}, "missing: transformer_blocks"), (3, "sound JSON")],
)
def test_a_new_layouts_problems_are_named(third: Path, spec: Any, reason: str) -> None:
    report = check(str(_write(third, spec)), settings())
    assert not report.fits
    assert any(reason in (part.problem or "") for part in report.parts)


def test_a_part_that_the_file_does_not_hold(third: Path) -> None:
    with pytest.raises(BadCheckpoint, match="holds no vocoder"):
        checkpoints.open_part("vocoder", third)


def _layout_of(path: Path) -> Layout | None:
    header = read_header(path)
    return layouts.layout_of(header.tensors, json.loads(header.metadata.get("config", "{}")))


def test_the_single_files_of_the_oracle_are_recognised(shared: Path) -> None:
    files = (shared / "oracle").glob("single_file_*/checkpoint.safetensors")
    assert {file.parent.name: _layout_of(file) for file in files} == {
        "single_file_ltxv": LTXV_LAYOUT,
        "single_file_ltx2": LTX2_LAYOUT,
    }


def test_published_files_are_recognised(tmp_path: Path) -> None:
    assert _layout_of(small.write_single(tmp_path / "a")) is LTXV_LAYOUT
    assert _layout_of(small.write_single(tmp_path / "b", config=None)) is LTXV_LAYOUT
    assert _layout_of(small_ltx2.write_single(tmp_path / "c")) is LTX2_LAYOUT
    assert _layout_of(small_ltx2.write_upscaler(tmp_path / "d")) is LTX2_UPSAMPLER_LAYOUT
    save_file(small.upsampler().state_dict(), tmp_path / "e")
    assert _layout_of(tmp_path / "e") is LTXV_UPSAMPLER_LAYOUT


def test_an_upscaler_is_checked_by_path(tmp_path: Path) -> None:
    report = check(str(small_ltx2.write_upscaler(tmp_path / "x2")), settings())
    assert [part.part for part in report.parts] == ["upsampler"]
    assert report.fits
    with pytest.raises(BadCheckpoint, match="holds no transformer"):
        checkpoints.open_part("transformer", tmp_path / "x2")


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"b.x": torch.ones(1), "a.y": torch.ones(1)}, r"in no known layout \(LTX-2\.3, .*\); its weights are .*a\.y"),
        ({}, "its weights are none"),
    ],
)
def test_a_file_that_no_layout_recognises(tmp_path: Path, tensors: dict[str, torch.Tensor], reason: str) -> None:
    save_file(tensors, tmp_path / "x")
    with pytest.raises(BadCheckpoint, match=reason):
        checkpoints.open_part("transformer", tmp_path / "x")
    assert checkpoints.parts_in(tmp_path / "x") == ()
    report = check(str(tmp_path / "x"), settings())
    assert not report.fits
    assert "in no known layout" in (report.parts[0].problem or "")


def test_a_broken_config_is_named_for_each_part(tmp_path: Path) -> None:
    save_file(small.published_names(small.vae()), tmp_path / "x", {"config": "{"})
    report = check(str(tmp_path / "x"), settings())
    assert [part.part for part in report.parts] == ["vae"]
    assert "not a sound JSON object" in (report.parts[0].problem or "")


def test_a_text_encoder_may_be_of_several_classes() -> None:
    assert ("transformers", "T5EncoderModel") in layouts.classes_of("text_encoder")
    assert layouts.classes_of("tokenizer") == ()
