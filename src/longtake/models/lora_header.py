"""Reads the header of a LoRA file: the modules that the LoRA adapts, and the shapes of its tensors. Needs no torch.

A key is the name of a tensor in the file. Two styles of keys are published. The usual style is a prefix and the
module's name with dots. The style of the trainer kohya is `lora_unet_` and the module's name with underscores for dots.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtake.errors import BadCheckpoint
from longtake.models.safe import FLOATS, Header, read_header
from longtake.models.transformer_keys import transformer_key

MAX_HEADER_BYTES = 8 * 1024**2
"""The longest header of a LoRA file in bytes. Headers of published LoRAs have less than 1 MB."""

_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "transformer.")
_KOHYA = "lora_unet_"
_TEXT_MODULES = re.compile(
    r"^((model\.)?(diffusion_model|transformer)\.)?"
    r"(text_embedding_projection|connectors|(video|audio)_(embeddings_)?connector)\."
)
"""Keys of the text encoder's connectors. They are ignored, as in the publisher's own code."""

_SIDES = {
    "lora_A.weight": "A",
    "lora_B.weight": "B",
    "lora_A.default.weight": "A",
    "lora_B.default.weight": "B",
    "lora_down.weight": "A",
    "lora_up.weight": "B",
    "alpha": "alpha",
}
_KEY = re.compile(rf"^(.+?)\.({'|'.join(re.escape(side) for side in _SIDES)})$")

Shapes = Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
"""Module -> the shapes of its matrices A [rank, in] and B [out, rank]."""


@dataclass(frozen=True)
class LoraHeader:
    """The header of a LoRA file. A and B are the two matrices whose product B A changes the weight of a module.

    name: the file's name, for messages.
    keys: module -> "A", "B" or "alpha" -> name of that tensor in the file. A module may lack alpha (see `alpha`).
        Modules have the names of diffusers' class; if `is_kohya`, with underscores for dots.
    shapes: module -> the shapes of A and B.
    is_kohya: True if the file's tensors are named as the trainer kohya names them.
    settings: the LoRA's settings that diffusers writes to the metadata; empty if there are none.
    """

    name: str
    keys: Mapping[str, Mapping[str, str]]
    shapes: Shapes
    is_kohya: bool
    settings: Mapping[str, Any]

    @property
    def num_parameters(self) -> int:
        return sum(math.prod(shape) for sides in self.shapes.values() for shape in sides)

    def alpha(self, module: str) -> float | None:
        """Returns a module's alpha from `settings`; None if `settings` has no alpha for the module.

        The LoRA's change of the module's weight is multiplied by alpha / rank.
        """
        patterns = self.settings.get("alpha_pattern") or {}
        own = (value for name, value in patterns.items() if f".{module}".endswith("." + name.lstrip("^")))
        return next(own, self.settings.get("lora_alpha"))


def read_lora_header(path: Path) -> LoraHeader:
    """Returns the header of a LoRA file.

    Raises `BadCheckpoint` if the file is not a valid safetensors file, if it has unknown keys, if a module has only one
    of A and B, if their shapes do not allow the product B A, or if the LoRA is of a kind that is not supported.
    """
    header = read_header(path, MAX_HEADER_BYTES)
    keys = _keys_by_module(path, header)
    shapes = {module: _shapes(path, module, header, sides) for module, sides in keys.items()}
    is_kohya = any(key.startswith(_KOHYA) for key in header.tensors)
    return LoraHeader(path.name, keys, shapes, is_kohya, _settings(path, header.metadata))


def _keys_by_module(path: Path, header: Header) -> dict[str, dict[str, str]]:
    """Returns the names of the file's tensors, as module -> "A", "B" or "alpha" -> name.

    Raises `BadCheckpoint` for unknown names and for modules without A or B.
    """
    keys: dict[str, dict[str, str]] = {}
    unknown = []
    for key, info in header.tensors.items():
        if _TEXT_MODULES.match(key):
            continue
        module, side = _module_and_side(key)
        if module is None or info.dtype not in FLOATS or side in keys.setdefault(module, {}):
            unknown.append(key)
        else:
            keys[module][side] = key
    if unknown:
        raise BadCheckpoint(f"{path.name} is no LoRA for an LTX transformer: {count_names(unknown, 'unknown key')}.")
    if not keys:
        raise BadCheckpoint(f"{path.name} is no LoRA for an LTX transformer: it holds no pair of lora_A and lora_B.")
    unpaired = [module for module, sides in keys.items() if not {"A", "B"} <= sides.keys()]
    if unpaired:
        raise BadCheckpoint(f"{path.name} has only one half of {count_names(unpaired, 'pair')}.")
    return keys


def _module_and_side(key: str) -> tuple[str | None, str]:
    """Splits a key into the module's name and the side ("A", "B" or "alpha"). Returns (None, "") for an unknown key."""
    match = _KEY.match(key)
    if match is None:
        return None, ""
    side = _SIDES[match[2]]
    if key.startswith(_KOHYA):
        return match[1].removeprefix(_KOHYA), side
    prefix = next((prefix for prefix in _PREFIXES if key.startswith(prefix)), None)
    if prefix is None:
        return None, ""
    return transformer_key(match[1].removeprefix(prefix)), side


def _shapes(
    path: Path, module: str, header: Header, sides: Mapping[str, str]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    a, b = (header.tensors[sides[side]].shape for side in "AB")
    if len(a) != 2 or len(b) != 2 or a[0] != b[1] or a[0] == 0:
        raise BadCheckpoint(f"{path.name} has A {list(a)} and B {list(b)} for {module[:120]}, which do not multiply.")
    return a, b


def _settings(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Returns the LoRA's settings in a file's metadata.

    Raises `BadCheckpoint` if they are malformed, and for a DoRA or a rank-stabilised LoRA.
    """
    try:
        stored = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        settings = {name.removeprefix("transformer."): value for name, value in stored.items()}
        alphas = [settings.get("lora_alpha"), *dict(settings.get("alpha_pattern") or {}).values()]
        if not all(alpha is None or isinstance(alpha, int | float) for alpha in alphas):
            raise ValueError
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise BadCheckpoint(f"{path.name} has metadata about its LoRA that cannot be read.") from None
    if settings.get("use_dora") or settings.get("use_rslora"):
        raise BadCheckpoint(f"{path.name} is a DoRA or a rank-stabilised LoRA; only plain LoRAs are applied.")
    return settings


def count_names(names: Sequence[str], kind: str) -> str:
    """Returns text for messages: the number of names and the first four, as in "2 unknown keys: a, b".

    kind: the singular noun, such as "unknown key".
    """
    plural = "" if len(names) == 1 else "s"
    return f"{len(names)} {kind}{plural}: " + ", ".join(name[:120] for name in names[:4]) + (", ..." * (len(names) > 4))
