"""Adapters: what they add, what their files say, and what the camera clips show."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LTX2VideoTransformer3DModel
from safetensors.torch import save_file

from longtake.models.registry import CAMERAS
from recipes.tiny_av import adapters, camera, configs, distill
from recipes.tiny_av.adapters import Adapter


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return LTX2VideoTransformer3DModel(**configs.TRANSFORMER | {"num_layers": 2})


def test_a_new_adapter_adds_nothing_and_a_trained_one_b_times_a(model: Any) -> None:
    adapter = Adapter(model, 2)
    weights = [dict(block.named_parameters()) for block in model.transformer_blocks]
    for name, value in adapter.added(weights)[1].items():
        assert value.equal(weights[1][name])
    for up in adapter.up.values():
        up.copy_(torch.randn(up.shape))
    more = adapter.added(weights, 0.5)[1]
    added = adapter.up["1/attn1/to_q"] @ adapter.down["1/attn1/to_q"]
    torch.testing.assert_close(more["attn1.to_q.weight"], weights[1]["attn1.to_q.weight"] + 0.5 * added)
    assert more["audio_attn1.to_q.weight"].equal(weights[1]["audio_attn1.to_q.weight"])


def test_files_use_the_published_names_and_are_small(model: Any) -> None:
    file = Adapter(model, 2).file()
    pattern = r"diffusion_model\.transformer_blocks\.\d+\.attn1\.to_(q|k|v|out\.0)\.lora_[AB]\.weight"
    assert all(re.fullmatch(pattern, name) for name in file)
    modules = dict(model.named_modules())
    for name, value in file.items():
        target = modules[name.removeprefix("diffusion_model.").rsplit(".lora_", 1)[0]]
        assert value.shape[1 if name.endswith("A.weight") else 0] == target.weight.shape[1 if "_A." in name else 0]
        assert value.shape[0 if name.endswith("A.weight") else 1] == 2


def test_a_file_is_read_as_it_was_written(model: Any, tmp_path: Path) -> None:
    adapter = Adapter(model, 3)
    for up in adapter.up.values():
        up.copy_(torch.randn(up.shape))
    save_file(adapter.file(), tmp_path / "one.safetensors")
    weights = [dict(block.named_parameters()) for block in model.transformer_blocks]
    again = adapters.read(tmp_path / "one.safetensors", model)
    for key, value in adapter.added(weights)[0].items():
        torch.testing.assert_close(again.added(weights)[0][key], value, atol=2e-2, rtol=1e-2)


def test_the_camera_stands_and_then_moves() -> None:
    for name in camera.MOVES:
        clip = camera.clip_of(name, camera.scene_of(name, camera.SEED + 4), 17)
        still, moved = (clip[:, 16:], clip[:, :17]) if name == "static" else (clip[:, :17], clip[:, 16:])
        assert still.equal(still[:, :1].expand(still.shape))
        assert not moved[:, 0].equal(moved[:, 1])


def test_before_a_standing_camera_an_object_may_move() -> None:
    scene = camera.scene_of("static", camera.SEED + 3)
    clip = camera.clip_of("static", scene, 17)
    assert not clip[:, 17].equal(clip[:, 16])
    assert camera.before(scene) == scene


def test_no_two_moves_are_alike() -> None:
    moves = {(move.zoom, move.pan) for move in camera.MOVES.values()}
    assert len(moves) == len(camera.MOVES) == len(CAMERAS)
    assert set(camera.MOVES) == set(CAMERAS)


def test_to_the_left_means_that_the_ground_goes_right() -> None:
    scene = camera.scene_of("dolly_left", camera.SEED + 3)
    clip = camera.clip_of("dolly_left", scene, 0)
    for shift in (1, 5):
        torch.testing.assert_close(clip[:, shift, :, shift:], clip[:, 0, :, :-shift], atol=0.05, rtol=0)


def test_distillation_looks_at_the_second_passes_levels_too() -> None:
    assert {0.909375, 0.725, 0.421875} < set(distill.LEVELS) <= set(distill.TEACHER)
    assert distill.TEACHER[0] == 1.0
    assert distill.TEACHER[-1] == 0.0
