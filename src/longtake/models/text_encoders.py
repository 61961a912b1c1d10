"""The classes with which text encoders can be loaded, and the names of their published weights. Needs no torch."""

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
    """Returns the name that a published weight of Gemma-3 has in transformers' `Gemma3ForConditionalGeneration`."""
    for pattern, ours in _GEMMA_PREFIXES:
        key = pattern.sub(ours, key)
    return key


def unchanged(key: str) -> str:
    """Returns `key` itself, for weights that are published under the names that their class uses."""
    return key


TEXT_ENCODERS: Mapping[Class, Callable[[str], str]] = {
    ("transformers", "T5EncoderModel"): unchanged,
    ("transformers", "Gemma3ForConditionalGeneration"): gemma_key,
    ("transformers", "Gemma3ForCausalLM"): unchanged,
    ("transformers", "Gemma3TextModel"): unchanged,
}
"""Class of a text encoder -> function that turns a weight's published name into its name in the class."""

_ENCODERS: Mapping[str, str] = {"t5": "T5EncoderModel"}
"""`model_type` in a `config.json` -> the class of the model's encoder without its decoder.

The `architectures` in that file may name the class of the whole model instead.
"""


def class_names(config: Mapping[str, Any]) -> list[str]:
    """Returns the names of the classes with which a text encoder can be loaded, according to its configuration.

    These are the configuration's `architectures`, and the encoder class for its `model_type`. The list is empty if the
    configuration has neither.

    config: the content of `config.json` as transformers writes it.
    """
    architectures = config.get("architectures")
    names = [str(name) for name in architectures] if isinstance(architectures, list) else []
    encoder = _ENCODERS.get(str(config.get("model_type")))
    return names if encoder is None else [*names, encoder]
