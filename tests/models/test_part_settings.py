"""Settings without an effect are ignored; a setting that the part's class does not have is refused or logged."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma3Config, T5Config

from longtake.errors import BadCheckpoint
from longtake.models.checkpoints import load, open_part
from longtake.models.part_settings import log_ignored
from longtake.models.registry import PartName
from tests.models import small

HARMLESS: dict[str, Any] = {
    "_name_or_path": "/home/someone/model",
    "_invented": {"deep": [1] * 500},
    "dtype": "bfloat16",
    "torch_dtype": "float16",
    "transformers_version": "5.0",
    "model_type": "x",
    "architectures": ["X"],
    "auto_map": {"AutoModel": "code.Model"},
}
PARTS = {"transformer": small.transformer, "vae": small.vae}


def _folder(path: Path, part: str, **settings: Any) -> Path:
    folder = small.write_folder(path / part, PARTS[part]())
    written = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(written | settings))
    return folder


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_settings_of_no_effect_change_nothing(tmp_path: Path, part: PartName) -> None:
    got = load(open_part(part, _folder(tmp_path, part, **HARMLESS)), dtype=torch.float32)
    assert small.same(got.state_dict(), PARTS[part]().state_dict())
    assert {tensor.dtype for tensor in got.state_dict().values() if tensor.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_an_invented_setting_is_refused_by_name(tmp_path: Path, part: PartName) -> None:
    folder = _folder(tmp_path, part, **HARMLESS, more={"bits": 8}, invented=1)
    with pytest.raises(BadCheckpoint, match=r"does not have: invented, more\. Remove them"):
        load(open_part(part, folder), dtype=torch.float32)


def test_unknown_settings_of_text_encoders_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    small_t5 = {"d_model": 8, "n_positions": 512, "output_past": True, "invented": 1, **HARMLESS, "model_type": "t5"}
    log_ignored(Path("t5"), T5Config.from_dict(dict(small_t5)), small_t5)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().endswith("settings that T5Config does not have; they are ignored: invented.")


def test_unknown_settings_inside_others_are_logged_and_known_ones_are_not(caplog: pytest.LogCaptureFixture) -> None:
    text = {"hidden_size": 64, "rope_theta": 10_000.0, "sliding_window_pattern": 6, "strange": 1}
    gemma = {
        "text_config": text,
        "vision_config": {"image_size": 896},
        "eos_token_id": [1, 106],
        "torch_dtype": "float16",
    }
    log_ignored(Path("gemma"), Gemma3Config.from_dict(json.loads(json.dumps(gemma))), gemma)
    assert [record.getMessage() for record in caplog.records] == [
        "The configuration of gemma has settings that Gemma3TextConfig does not have; they are ignored: strange."
    ]
