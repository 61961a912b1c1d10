"""Recognises checkpoints with quantised weights: integers or short floats, and scales that restore the values."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longtake.errors import BadCheckpoint
from longtake.models.safe import TensorInfo

_KINDS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(rf"(^|\.)({pattern})$"), kind)
    for pattern, kind in (
        (r"weight_scale_2|weight_packed", "4 bits (fp4)"),
        (r"weight_scale_inv|output_scale|comfy_quant", "fp8 with scales of an unknown form"),
        (r"absmax|nested_absmax|quant_map|quant_state\..*|weight_format", "bitsandbytes' 4 or 8 bits"),
        (r"SCB", "bitsandbytes' 8 bits"),
    )
)
"""(pattern, kind) pairs that recognise quantised checkpoints, which are refused. If the pattern matches the end of a
tensor's name, the checkpoint stores its weights as `kind` says.
"""

_SCALES = ("weight_scale", "scale_weight")
"""The last words of the names of scales: a weight's values are those of its tensor times its scale."""

_UNUSED = re.compile(r"(^|\.)(input_scale|scale_input|scaled_fp8)$")
"""Names of tensors in fp8 checkpoints that are not used: those that only say which format the file has, and fixed
scales of activations."""

UNSCALED = "fp8 without scales (a plain cast, or rotated for kernels of its own, which cannot be told apart)"
"""Description, for messages, of files with weights in 8-bit floats but without the scales of these weights."""


def split_scales(path: Path, infos: Mapping[str, TensorInfo]) -> tuple[list[str], dict[str, str]]:
    """Returns (weights, scales) of a checkpoint: the names of its weights, and weight's name -> name of its scale.

    path: the checkpoint, for messages.
    infos: the checkpoint's tensors by name.
    Raises `BadCheckpoint` if weights are quantised in a way that is not loaded: not in 8-bit floats (e4m3), without
    scales, or with other scales than one for the tensor or one for each row.
    """
    kind = next((kind for pattern, kind in _KINDS if any(map(pattern.search, infos))), None)
    if kind is not None:
        raise BadCheckpoint(f"{path} {refusal(kind)}.")
    scales = {key.removesuffix(word) + "weight": key for key in infos for word in _SCALES if key.endswith(f".{word}")}
    for weight, scale in scales.items():
        if not _fits(infos.get(weight), infos[scale]):
            raise BadCheckpoint(f"{path} has {scale[:100]}, which is no scale of a weight in 8-bit floats (F8_E4M3).")
    unused = {key for key in infos if _UNUSED.search(key)} | set(scales.values())
    weights = [key for key in infos if key not in unused]
    if any(infos[key].dtype.startswith("F8") and key not in scales for key in weights):
        raise BadCheckpoint(f"{path} {refusal(UNSCALED)}.")
    return weights, scales


def _fits(weight: TensorInfo | None, scale: TensorInfo) -> bool:
    if weight is None or weight.dtype != "F8_E4M3" or scale.dtype not in ("F32", "BF16", "F16"):
        return False
    return scale.shape in ((), (1,), (1, 1), weight.shape[:1], (*weight.shape[:1], 1))


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
    """Returns an error message about a quantised checkpoint, without its beginning: "holds weights in ...". The caller
    puts the checkpoint's path before it.

    The message also says what the user can do. `kind` is how the weights are quantised, such as "bitsandbytes' 8 bits".
    """
    return (
        f"holds weights in {kind}, which are not loaded. Use the file with bfloat16 weights; LONGTAKE_QUANTISE=fp8 "
        "then stores the transformer's weights in 8 bits"
    )
