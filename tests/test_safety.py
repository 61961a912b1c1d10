"""The safety checker with a real small classifier: a flagged frame raises, and a missing checker is reported."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from longtake import safety
from longtake.errors import BadCheckpoint, ContentPolicyViolation
from longtake.settings import settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier whose weights are set so that white pictures are `nsfw` and black ones `normal`."""
    place = tmp_path_factory.mktemp("classifier")
    model = ViTForImageClassification(
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=32,
            patch_size=16,
            id2label={0: "normal", 1: "nsfw"},
            label2id={"normal": 0, "nsfw": 1},
        )
    )
    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    white, black = (processor(np.full((32, 32, 3), v, np.uint8), return_tensors="pt").pixel_values for v in (255, 0))
    difference = (model.vit(white).last_hidden_state - model.vit(black).last_hidden_state)[0, 0]
    middle = (model.vit(white).last_hidden_state + model.vit(black).last_hidden_state)[0, 0] / 2
    direction = difference / difference.square().sum() * 20
    with torch.no_grad():
        model.classifier.weight.copy_(torch.stack([-direction, direction]))
        model.classifier.bias.copy_(torch.stack([direction @ middle, -direction @ middle]))
    model.save_pretrained(place)
    processor.save_pretrained(place)
    return place


def chunks(*values: float, length: int = 20) -> Iterator[NDArray[np.unsignedinteger[Any]]]:
    for value in values:
        yield np.full((length, 16, 16, 3), value, np.uint8)


def test_clean_frames_pass_unchanged(folder: Path) -> None:
    checker, note = safety.configured_checker(settings(safety_checkpoint=folder))
    assert checker is not None
    assert note is None
    seen = np.concatenate(list(safety.checked_frames(chunks(0, 0, 0), checker)))
    assert seen.shape == (60, 16, 16, 3)


def test_a_flagged_frame_raises_before_its_chunk_is_passed_on(folder: Path) -> None:
    checker, _ = safety.configured_checker(settings(safety_checkpoint=folder))
    passed: list[NDArray[np.unsignedinteger[Any]]] = []
    with pytest.raises(ContentPolicyViolation, match="flagged by a content checker"):
        passed.extend(safety.checked_frames(chunks(0, 255, 0), checker))
    assert len(passed) == 1, "the flagged chunk and later ones are never written"


def test_frames_of_16_bits_are_checked(folder: Path) -> None:
    checker, _ = safety.configured_checker(settings(safety_checkpoint=folder))
    deep = [chunk.astype(np.uint16) * 257 for chunk in chunks(0, 255)]
    assert len(list(safety.checked_frames(iter(deep[:1]), checker))) == 1
    with pytest.raises(ContentPolicyViolation):
        list(safety.checked_frames(iter(deep), checker))


def test_a_missing_checker_is_reported() -> None:
    assert safety.configured_checker(settings()) == (
        None,
        "The safety checker did not run: none is configured (LONGTAKE_SAFETY_CHECKPOINT).",
    )
    checker, note = safety.configured_checker(settings(safety="off"))
    assert checker is None
    assert note == "The safety checker is off."


def test_a_folder_without_a_classifier_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="holds no usable image classifier"):
        safety.configured_checker(settings(safety_checkpoint=tmp_path))
