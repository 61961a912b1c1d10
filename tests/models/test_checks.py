"""Checkpoints are checked by their headers, against the classes where torch is installed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from longtake.errors import BadCheckpoint, InvalidRequest
from longtake.models.checks import check
from longtake.settings import Settings
from tests.models import small, small_ltx2

NAME = "ltxv-13b-0.9.7-dev"


def test_check_of_paths(small_model: Path, tmp_path: Path) -> None:
    settings = Settings(models_dir=tmp_path)
    whole = check(str(small_model), settings)
    assert whole.fits
    assert {part.part for part in whole.parts} == {"transformer", "vae", "upsampler", "text_encoder", "tokenizer"}
    assert next(part for part in whole.parts if part.part == "transformer").num_parameters == sum(
        parameter.numel() for parameter in small.transformer().parameters()
    )
    for folder in ("vae", "text_encoder", "latent_upsampler"):
        assert check(str(small_model / folder), settings).fits
    single = check(str(small.write_single(tmp_path / "x.safetensors")), settings)
    assert [part.part for part in single.parts] == ["transformer", "vae"]
    assert single.fits
    with pytest.raises(BadCheckpoint, match="holds no part of a model"):
        check(str(tmp_path), settings)
    with pytest.raises(InvalidRequest, match="neither a model's name"):
        check("ltx-9", settings)


def test_check_of_other_things(tmp_path: Path) -> None:
    folder = small.write_folder(tmp_path / "transformer", small.transformer())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "bitsandbytes"}}))
    [part] = check(str(folder), Settings()).parts
    assert "holds weights in the form of bitsandbytes (quantization_config in" in (part.problem or "")
    assert "LONGTAKE_QUANTISE=fp8" in (part.problem or "")
    (folder / "config.json").write_text(json.dumps(config | {"_class_name": "FluxTransformer2DModel"}))
    with pytest.raises(
        BadCheckpoint, match=r"names FluxTransformer2DModel; the parts of models are of .*LTXVideoTrans"
    ):
        check(str(folder), Settings())
    (folder / "config.json").write_text("{}")
    with pytest.raises(BadCheckpoint, match=r"config\.json names no class"):
        check(str(folder), Settings())
    save_file({"a.weight": torch.ones(2, 3), "b": torch.ones(4)}, tmp_path / "loose.safetensors")
    [part] = check(str(tmp_path / "loose.safetensors"), Settings()).parts
    assert (part.part, part.num_parameters) == ("file", 10)
    assert "is in no known layout" in (part.problem or "")


def test_check_says_what_is_wrong(tmp_path: Path) -> None:
    folder = small.write_folder(tmp_path / "transformer", small.transformer())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_layers": 3}))
    (tmp_path / "vae").mkdir()
    report = check(str(tmp_path), Settings())
    assert not report.fits
    problems = {part.part: part.problem or "" for part in report.parts}
    assert "missing: transformer_blocks.2." in problems["transformer"]
    assert "config.json" in problems["vae"]


def test_check_of_a_model_that_is_not_here(tmp_path: Path) -> None:
    report = check(NAME, Settings(models_dir=tmp_path))
    assert report.missing == ("transformer", "vae", "text_encoder", "tokenizer")
    assert not report.fits


def test_check_of_ltx2_paths(tmp_path: Path) -> None:
    settings = Settings(models_dir=tmp_path)
    single = small_ltx2.write_single(tmp_path / "x.safetensors")
    report = check(str(single), settings)
    assert report.fits
    assert {part.part for part in report.parts} == {"transformer", "vae", "audio_vae", "vocoder", "connectors"}
    whole = check(str(small_ltx2.write_model(tmp_path / "whole", sees=True)), settings)
    assert whole.fits
    assert len(whole.parts) == 8
    assert check(str(tmp_path / "whole" / "text_encoder"), settings).fits


BLOCKED = ("torch", "diffusers", "transformers", "accelerate")
WITHOUT_TORCH = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

for name in {BLOCKED}:
    sys.modules[name] = None
sys.meta_path.insert(0, Blocked())
sys.argv[0] = "longtake"
from longtake.cli import main
main()
"""


def _check_without_torch(target: Path | str) -> tuple[int, dict[str, Any]]:
    """Returns the exit status and the JSON of `longtake models check` without torch and its packages."""
    command = [sys.executable, "-c", WITHOUT_TORCH, "models", "check", str(target), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_without_torch_headers_are_checked_and_parameters_counted(tmp_path: Path) -> None:
    for target in (small.write_single(tmp_path / "x.safetensors"), "ltx2-tiny"):
        status, report = _check_without_torch(target)
        assert (status, report["fits"]) == (0, None)
        counts = {part["part"]: part["num_parameters"] for part in report["parts"]}
        expected = {part.part: part.num_parameters for part in check(str(target), Settings()).parts}
        assert counts.keys() == expected.keys()
        # A file holds buffers too, such as the statistics of latents and the vocoder's filters.
        assert all(counts[part] >= count for part, count in expected.items())
        assert not any(part["compared"] for part in report["parts"])


def test_a_broken_torch_is_told_and_nothing_is_compared(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").touch()
    command = [sys.executable, "-m", "longtake", "models", "check", "ltxv-tiny"]
    paths = os.pathsep.join((str(tmp_path), *sys.path))
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | {"PYTHONPATH": paths})
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "sound, " in ran.stdout
    assert "Names and shapes were not compared. The libraries of the models cannot be imported (" in ran.stdout


def test_without_torch_a_broken_file_is_refused_with_the_same_sentence(tmp_path: Path) -> None:
    pickle = tmp_path / "transformer"
    pickle.mkdir()
    (pickle / "config.json").write_text('{"_class_name": "LTXVideoTransformer3DModel"}')
    (pickle / "diffusion_pytorch_model.safetensors").write_bytes(b"\x80\x04pickle")
    status, report = _check_without_torch(tmp_path)
    assert status == 1
    [part] = report["parts"]
    assert part["problem"] == check(str(tmp_path), Settings()).parts[0].problem
    assert "a pickle" in part["problem"]
