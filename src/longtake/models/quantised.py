"""Recognises checkpoints with quantised weights: integers or short floats, and scales that restore the values."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

_KINDS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(rf"(^|\.)({pattern})$"), kind)
    for pattern, kind in (
        (r"weight_scale_2|weight_packed", "4 bits (fp4)"),
        (r"(weight|input|output)_scale(_inv)?|scale_(weight|input)|scaled_fp8|comfy_quant", "fp8 with scales"),
        (r"absmax|nested_absmax|quant_map|quant_state\..*|weight_format", "bitsandbytes' 4 or 8 bits"),
        (r"SCB", "bitsandbytes' 8 bits"),
    )
)
"""Last words of tensor names that only quantised checkpoints have -> how the weights are stored."""


def quantised_kind(keys: Iterable[str]) -> str | None:
    """Returns how a checkpoint's weights are quantised, such as "fp8 with scales"; None if they are not.

    keys: the names of the checkpoint's tensors.
    """
    keys = list(keys)
    return next((kind for pattern, kind in _KINDS if any(map(pattern.search, keys))), None)


def configured_kind(config: Mapping[str, Any]) -> str | None:
    """Returns a phrase that says how the weights of a folder are quantised according to its `config.json`.

    An example is "the form of gptq (quantization_config in config.json)". Returns None if they are not quantised.

    config: the content of that file. It has a `quantization_config` if the weights were saved quantised.
    """
    settings = config.get("quantization_config")
    if settings is None:
        return None
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    return f"the form of {str(method or 'an unknown method')[:40]} (quantization_config in config.json)"


def refusal(kind: str) -> str:
    """Returns the end of an error message about a quantised checkpoint, which follows its path: "holds weights in ...".

    It also says what the user can do. `kind` is how the weights are quantised, such as "fp8 with scales".
    """
    return (
        f"holds weights in {kind}, which are not loaded. Use the file with bfloat16 weights; LONGTAKE_QUANTISE=fp8 "
        "then stores the transformer's weights in 8 bits"
    )
