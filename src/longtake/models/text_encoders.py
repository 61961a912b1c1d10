"""The classes of text encoders, and the names of their published weights. Without torch."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from longtake.models.layout import Class

_GEMMA_PREFIXES = (
    (re.compile(r"^language_model\.lm_head\."), "lm_head."),
    (re.compile(r"^language_model\.model\."), "model.language_model."),
    (re.compile(r"^(model\.)?vision_tower\.(vision_model\.)?"), "model.vision_tower."),
    (re.compile(r"^multi_modal_projector\."), "model.multi_modal_projector."),
)


def gemma_key(key: str) -> str:
    """Returns the name of a published weight in transformers' `Gemma3ForConditionalGeneration`."""
    for pattern, ours in _GEMMA_PREFIXES:
        key = pattern.sub(ours, key)
    return key


def unchanged(key: str) -> str:
    """Returns the name unchanged, for weights that are published under the names of their class."""
    return key


TEXT_ENCODERS: Mapping[Class, Callable[[str], str]] = {
    ("transformers", "T5EncoderModel"): unchanged,
    ("transformers", "Gemma3ForConditionalGeneration"): gemma_key,
    ("transformers", "Gemma3ForCausalLM"): unchanged,
    ("transformers", "Gemma3TextModel"): unchanged,
}
"""The classes of text encoders, each with the function that turns a published name into the class's name."""

_ENCODERS: Mapping[str, str] = {"t5": "T5EncoderModel"}
"""The encoder's class by model type, for configurations that name the class of the whole model instead."""


def class_names(config: Mapping[str, Any]) -> list[str]:
    """Returns the names of the classes in a text encoder's configuration, as transformers writes it."""
    architectures = config.get("architectures")
    names = [str(name) for name in architectures] if isinstance(architectures, list) else []
    encoder = _ENCODERS.get(str(config.get("model_type")))
    return names if encoder is None else [*names, encoder]
