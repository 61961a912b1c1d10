"""Reads the header of a LoRA file: the modules that the LoRA adapts, and the shapes of its tensors. Needs no torch.

A key is the name of a tensor in the file.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtake.errors import BadCheckpoint
from longtake.models.lora_keys import Side, are_whole_weights, is_of_connectors, lora_key, other_kind
from longtake.models.safe import FLOATS, Header, read_header, shown_name

MAX_HEADER_BYTES = 8 * 1024**2
"""The longest header of a LoRA file in bytes. Headers of published LoRAs have less than 1 MB."""

MAX_METADATA = 2**20
"""The largest number of characters of a LoRA's settings, which diffusers writes to the metadata of the LoRA's file."""

MAX_LORA_TENSORS = 10_000
"""The largest number of tensors of a LoRA file. A LoRA for every layer of the largest model has about 5,000."""

_INTEGERS = frozenset({"I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64"})
"""The integer dtypes that alpha may have, as safetensors names them."""

Shapes = Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
"""Module -> the shapes of its matrices A [rank, in] and B [out, rank]."""


@dataclass(frozen=True)
class LoraHeader:
    """The header of a LoRA file. A and B are the two matrices whose product B A changes the weight of a module.

    The change is B A times alpha / rank. A module's alpha is the tensor in the file if there is one, otherwise the
    number in `alphas`. If that is None, the change is B A.

    name: the file's name, for messages.
    keys: module -> "A", "B" or "alpha" -> name of that tensor in the file. A module may lack the tensor alpha. Modules
        are named as in `LoraKey`.
    shapes: module -> the shapes of A and B.
    alphas: module -> its alpha in the settings that diffusers writes to the metadata; None if it has no alpha there.
    """

    name: str
    keys: Mapping[str, Mapping[Side, str]]
    shapes: Shapes
    alphas: Mapping[str, float | None]

    @property
    def num_parameters(self) -> int:
        return sum(math.prod(shape) for sides in self.shapes.values() for shape in sides)


def read_lora_header(path: Path, name: str | None = None) -> LoraHeader:
    """Returns the header of a LoRA file. `name` is the file's name for messages; None means its own name.

    Raises `BadCheckpoint` in these cases:
    - The file is not a valid safetensors file.
    - Its header has more than 8 MiB (MAX_HEADER_BYTES), or it has more than 10,000 tensors (MAX_LORA_TENSORS).
    - It has unknown keys, or is a LoRA of a kind that is not supported.
    - A module has only one of A and B, or their shapes do not allow the product B A.
    """
    name = name or path.name
    # With these limits, no file takes longer than about half a second.
    header = read_header(path, MAX_HEADER_BYTES, name, MAX_LORA_TENSORS)
    keys = _keys_by_module(name, header)
    shapes = {module: _shapes(name, module, header, sides) for module, sides in keys.items()}
    return LoraHeader(name, keys, shapes, _alphas(_settings(name, header.metadata), shapes))


def _keys_by_module(name: str, header: Header) -> dict[str, dict[Side, str]]:
    """Returns the names of a LoRA file's tensors, as module -> "A", "B" or "alpha" -> name.

    name, header: the file's name, for messages, and its header.
    Raises `BadCheckpoint` for unknown names, for two names of one tensor, and for modules without A or B.
    """
    keys: dict[str, dict[Side, str]] = {}
    unknown = []
    for key in header.tensors:
        if is_of_connectors(key):
            continue
        parsed = lora_key(key)
        if parsed is None:
            unknown.append(key)
            continue
        sides = keys.setdefault(parsed.module, {})
        if parsed.side in sides:
            both = f"{shown_name(sides[parsed.side])} and {shown_name(key)}"
            raise BadCheckpoint(f"{name} has {both}, which are the same one.")
        sides[parsed.side] = key
    _check_kind(name, keys, unknown)
    unpaired = [module for module, sides in keys.items() if not {"A", "B"} <= sides.keys()]
    halves = [module for module in unpaired if {"A", "B"} & keys[module].keys()]
    if halves:
        raise BadCheckpoint(f"{name} has only one half of {count_names(halves, 'pair')}.")
    if unpaired:
        raise BadCheckpoint(f"{name} has an alpha without a pair for {count_names(unpaired, 'module')}.")
    return keys


def _check_kind(name: str, keys: Mapping[str, Any], unknown: Sequence[str]) -> None:
    """Raises `BadCheckpoint` unless a file is a LoRA for the transformer: it has known keys, and no unknown ones.

    name: the file's name, for the message.
    keys: the known keys, by module.
    unknown: the unknown keys.
    """
    kind = other_kind(unknown)
    if kind is not None:
        raise BadCheckpoint(
            f"{name} {kind}; only plain LoRAs of the transformer, pairs of lora_A and lora_B, are applied. It has "
            f"{count_names(unknown, 'other key')}."
        )
    if unknown and not keys and are_whole_weights(unknown):
        raise BadCheckpoint(f"{name} holds a model's own weights, not a LoRA. It has {count_names(unknown, 'key')}.")
    if unknown:
        raise BadCheckpoint(f"{name} is no LoRA for an LTX transformer: {count_names(unknown, 'unknown key')}.")
    if not keys:
        raise BadCheckpoint(f"{name} is no LoRA for an LTX transformer: it holds no pair of lora_A and lora_B.")


def _shapes(
    name: str, module: str, header: Header, sides: Mapping[Side, str]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the shapes of a module's A and B as matrices, which are [rank, in] and [out, rank].

    name, module: the names of the file and the module, for messages.
    header: the file's header.
    sides: "A", "B" or "alpha" -> the name of that tensor of the module in the file.
    Raises `BadCheckpoint` for wrong shapes or dtypes of A, B or alpha.
    """
    infos = {side: header.tensors[key] for side, key in sides.items()}
    for side, info in infos.items():
        if info.dtype not in FLOATS | (_INTEGERS if side == "alpha" else frozenset()):
            raise BadCheckpoint(f"{name} has {shown_name(sides[side])} of dtype {info.dtype}; it must be a float.")
        if side == "alpha" and math.prod(info.shape) != 1:
            shown = shown_name(sides[side])
            raise BadCheckpoint(f"{name} has {shown} of shape {list(info.shape)}; it must be one number.")
    a, b = as_matrix(infos["A"].shape), as_matrix(infos["B"].shape)
    if len(a) != 2 or len(b) != 2 or a[0] != b[1] or 0 in (*a, *b):
        raise BadCheckpoint(f"{name} has A {list(a)} and B {list(b)} for {shown_name(module)}, which do not multiply.")
    return a, b


def as_matrix(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape of a matrix that may be stored as a convolution with a kernel of one pixel: [out, in, 1, 1]
    becomes [out, in]. Other shapes stay as they are."""
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _settings(name: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Returns the LoRA's settings, which diffusers writes to the metadata of its file.

    name, metadata: the file's name, for messages, and its metadata.
    Raises `BadCheckpoint` if the settings are malformed, and for a DoRA or a rank-stabilised LoRA.
    """
    text = metadata.get("lora_adapter_metadata", "{}")
    if len(text) > MAX_METADATA:
        raise BadCheckpoint(
            f"{name} has {len(text)} characters of metadata about its LoRA; the limit is {MAX_METADATA}."
        )
    try:
        stored = json.loads(text)
        settings = {key.removeprefix("transformer."): value for key, value in stored.items()}
        patterns = dict(settings.get("alpha_pattern") or {})
        settings["alpha_pattern"] = {pattern: _number(alpha) for pattern, alpha in patterns.items()}
        settings["lora_alpha"] = _number(settings.get("lora_alpha"))
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        raise BadCheckpoint(f"{name} has metadata about its LoRA that cannot be read.") from None
    for setting, kind in (("use_dora", "DoRA"), ("use_rslora", "rank-stabilised LoRA")):
        if settings.get(setting):
            raise BadCheckpoint(f"{name} is a {kind}, says its metadata; only plain LoRAs are applied.")
    return settings


def _number(alpha: Any) -> float | None:
    return None if alpha is None else float(alpha)


def _alphas(settings: Mapping[str, Any], modules: Iterable[str]) -> dict[str, float | None]:
    """Returns module -> its alpha in the LoRA's settings; None if the settings have no alpha for the module.

    The setting `alpha_pattern` has alphas by pattern. The first pattern that fits the module counts. If none fits, the
    setting `lora_alpha` counts. A pattern fits a module whose name is the pattern, or ends with a dot and the pattern.
    """
    usual = settings["lora_alpha"]
    ranked = {pattern.lstrip("^"): place for place, pattern in reversed([*enumerate(settings["alpha_pattern"])])}
    alphas = list(settings["alpha_pattern"].values())
    found = {}
    for module in modules:
        words = module.split(".")
        ends = (".".join(words[start:]) for start in range(len(words)))
        places = [ranked[end] for end in ends if end in ranked]
        found[module] = alphas[min(places)] if places else usual
    return found


def count_names(names: Sequence[str], kind: str) -> str:
    """Returns text for messages: the number of names and the first four, as in "2 unknown keys: a, b".

    If there are more than four names, "and others" follows.

    kind: the singular noun, such as "unknown key".
    """
    plural = "" if len(names) == 1 else "s"
    return f"{len(names)} {kind}{plural}: " + ", ".join(map(shown_name, names[:4])) + (" and others" * (len(names) > 4))
