"""The embedded model with sound as it ships: complete, small enough, and able to do what its page says."""

import json

import pytest
import torch

from recipes.tiny_av import configs, evaluate, export, sampler
from recipes.tiny_av.sampler import Family

PARTS = ("vae", "transformer", "audio_vae", "vocoder", "connectors", "text_encoder", "tokenizer", "loras")


@pytest.fixture(scope="module")
def family() -> Family:
    if not (configs.WEIGHTS / "loras" / "distill.safetensors").exists():
        pytest.skip("the weights have not been exported")
    torch.set_num_threads(1)
    return sampler.load()


def test_the_folder_is_complete_and_all_weights_together_are_small(family: Family) -> None:
    files = [path for path in configs.WEIGHTS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} >= set(PARTS)
    assert export.size(configs.WEIGHTS.parent) <= export.LIMIT
    for path in configs.WEIGHTS.rglob("*.json"):
        assert "_name_or_path" not in json.loads(path.read_text())
        assert "/work" not in path.read_text()


def test_it_continues_straight_motion(family: Family) -> None:
    figures = evaluate.straight(family, 2)
    assert figures["px 1-8"] < 1.4
    assert figures["px 9-"] < 2.4
    assert figures["contrast 9-"] > 0.8
    assert figures["PSNR over freezing"] > 4.5
    assert figures["round trip PSNR"] > 28


def test_it_arrives_at_an_end_image(family: Family) -> None:
    figures = evaluate.end_image(family, 1, contexts=(1,))
    assert figures["1 context frames, px at the end with"] < 1.5
    assert figures["1 context frames, px at the end without"] > 5


def test_it_extends_backwards(family: Family) -> None:
    figures = evaluate.backward(family, 2)
    assert figures["px 1-8"] < 2
    assert figures["px 9-"] < 0.5 * figures["freezing px 9-"]


def test_the_sound_continues_at_its_pitch(family: Family) -> None:
    figures = evaluate.sounds(family, 3, ways=("continued", "from the picture"))
    assert figures["continued: cents"] < 70
    assert figures["from the picture: cents"] < 300
    assert abs(figures["continued: dB too loud"]) < 4


@pytest.mark.parametrize(("name", "least"), [("dolly in", 0.35), ("dolly left", 0.6)])
def test_camera_adapters_move_the_camera(family: Family, name: str, least: float) -> None:
    figures = evaluate.FIGURES[name](family, 1)
    assert abs(figures["speed without"]) < 0.2
    assert figures["speed with"] > least
