"""The weights that ship: complete, small, free of traces, and still able to continue a motion."""

import json
from pathlib import Path

import pytest
import torch

from recipes.tiny import configs, evaluate, export, sampler, transformer
from recipes.tiny.sampler import Family

PARTS = ("vae", "transformer", "text_encoder", "tokenizer", "latent_upsampler")


@pytest.fixture(scope="module")
def family() -> Family:
    if not (configs.WEIGHTS / "model_index.json").exists():
        pytest.skip("the weights have not been exported")
    torch.set_num_threads(1)
    return sampler.load()


def test_the_folder_is_complete_and_small(family: Family) -> None:
    files = [path for path in configs.WEIGHTS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} >= set(PARTS)
    assert sum(path.stat().st_size for path in files) < 24e6
    assert max(path.stat().st_size for path in files) < 11.5e6
    for path in configs.WEIGHTS.rglob("*.json"):
        assert "_name_or_path" not in json.loads(path.read_text())
        assert "/work" not in path.read_text()


def test_it_continues_straight_motion(family: Family) -> None:
    figures = evaluate.straight(family, 2)
    assert figures["px 1-8"] < 1.4
    assert figures["px 9-"] < 2.2
    assert figures["contrast 9-"] > 0.8
    assert figures["IoU 9-"] > 0.65
    assert figures["PSNR over freezing"] > 5
    assert figures["round trip PSNR"] > 28


def test_it_follows_prompts(family: Family) -> None:
    assert evaluate.steering(family, 2)["direction"] > 0.55


def test_it_arrives_at_an_end_image(family: Family) -> None:
    figures = evaluate.end_image(family, 1)
    assert figures["px at the end with"] < 1.5
    assert figures["px at the end without"] > 5


def test_an_export_loads_again(tmp_path: Path) -> None:
    work, folder = tmp_path / "work", tmp_path / "family"
    work.mkdir()
    fresh = transformer.models()
    torch.save({"averaged": dict(fresh.named_parameters())}, work / "transformer_main.pt")
    torch.save({"averaged": {}}, work / "vae_joint.pt")
    torch.save((torch.full((64,), 0.5), torch.full((64,), 2.0)), work / "latents_statistics.pt")
    export.export(work, folder)
    loaded = sampler.load(folder)
    assert loaded.std.flatten().tolist() == [2.0] * 64
    for name, value in fresh["transformer"].named_parameters():
        torch.testing.assert_close(
            dict(loaded.transformer.named_parameters())[name], value.half().float(), atol=0, rtol=0
        )
