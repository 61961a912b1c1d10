"""The names of tensors in LoRA files (keys), in all published spellings. Needs no torch.

A key consists of a prefix, the name of a module, and the tensor's role in that module. Trainers write different
prefixes and roles. The trainers kohya and LyCORIS also write the module's name with underscores for dots.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from longtake.models.transformer_keys import transformer_key

Side = Literal["A", "B", "alpha"]
"""The role of a tensor: the matrix A [rank, in], the matrix B [out, rank], or the number alpha."""

_WRAPPERS = frozenset(
    (
        *("_orig_mod", "base_model", "diffusion_model", "dit", "model", "module", "pipe", "transformer"),
        *("unet", "velocity_model"),
    )
)
"""Words that a key (the name of a tensor in a LoRA file) may have before the module's name.

They name the objects that contain the transformer in the program that wrote the file. `_orig_mod` is that of a model
which torch has compiled.
"""

_FLAT_PREFIXES = ("lora_unet_", "lora_transformer_", "lora_dit_", "lycoris_")
"""Prefixes of keys (names of tensors in a LoRA file) after which the module's name has underscores for dots."""

_ROLE = re.compile(
    r"\.(?:(?P<alpha>alpha)"
    r"|lora_(?P<letter>[AB])(?:(?:\.[\w-]+)?\.weight)?"  # PEFT, with or without the adapter's name, such as `default`
    r"|lora[_.](?P<direction>down|up)\.weight"
    r"|lora_linear_layer\.(?P<old_direction>down|up)\.weight)$"  # diffusers before PEFT
)

_PROCESSOR = re.compile(r"\.processor\.(\w+)_lora\.(down|up)\.weight$")
"""The end of a key that diffusers wrote before it used PEFT, such as `.processor.to_q_lora.down.weight`."""

_OLD_NAMES = {"to_out": "to_out.0"}
"""Name of a layer in the keys that old versions of diffusers (without PEFT) wrote -> the layer's name in diffusers'
class. Layers for which both names are the same are left out."""

_CONNECTORS = re.compile(r"(text_embedding_projection|connectors|(video|audio)_(embeddings_)?connector)[._]")
"""Matches keys (names of tensors in a LoRA file) that are for the text encoder's connectors. Their tensors are ignored,
as in the publisher's own code."""

_TEXT_ENCODER = re.compile(
    r"^(base_model\.|model\.|lora_)*(text_encoders?|text_model|te|t5|t5xxl|clip|gemma)_?\d*[._]"
    r"|^(base_model\.|model\.)*(encoder\.block|(language_model\.)?(model\.)?layers)\.\d+\."  # T5; language models
)
"""Matches keys (names of tensors in a LoRA file) that are for a text encoder."""

_OTHER_KINDS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"\.lokr_", "is a LoKr"),
        (r"\.hada_", "is a LoHa"),
        (r"\.(dora_scale|lora_magnitude_vector)", "is a DoRA"),
        (r"\.(on_input|ia3_l)\b", "is an IA3"),
        (r"\.b?oft_\w+", "is an OFT"),
        (r"\.[ab][12]\.weight$", "is a GLoRA"),
        (r"\.vera_lambda_", "is a VeRA"),
        (r"\.lora_mid\.", "is a LoCon with three matrices per module"),
        (r"\.lora_[AB](\.[\w-]+)?\.bias$", "is a LoRA with biases"),
        (r"(\.|^)(scale_weight|weight_scale|input_scale|scaled_fp8)$", "is in fp8 with scales, not in bf16 or fp16"),
        (r"\.(diff|diff_b|set_weight|w_norm|b_norm)$", "holds whole changes of weights, not pairs of small matrices"),
        (_TEXT_ENCODER.pattern, "is for a text encoder, in whole or in part"),
    )
)
"""(pattern, predicate) pairs: if a key matches the pattern, the file is of an unsupported kind.

The predicate follows the file's name in an error message: "<name> is a LoKr".
"""

_WHOLE_WEIGHTS = re.compile(r"(\.(weight|bias)|scale_shift_table)$")


@dataclass(frozen=True)
class LoraKey:
    """The parsed name of a tensor in a LoRA file.

    module: the module's name in diffusers' class. In files of kohya and LyCORIS it is the name in the file, which is
        the published name or diffusers' name, with underscores for dots.
    side: which tensor of this module it is: "A" or "B" for one of the two matrices, "alpha" for the number that
        scales their product.
    """

    module: str
    side: Side


def lora_key(key: str) -> LoraKey | None:
    """Returns the module and the role (A, B or alpha) that a tensor's name in a file contains.

    Returns None if the name is not that of a tensor in a LoRA for a transformer.
    """
    key = _PROCESSOR.sub(lambda end: f".{_OLD_NAMES.get(end[1], end[1])}.lora.{end[2]}.weight", key)
    role = _ROLE.search(key)
    if role is None or _TEXT_ENCODER.match(key):
        return None
    module = key[: role.start()]
    flat = next((prefix for prefix in _FLAT_PREFIXES if module.startswith(prefix)), None)
    name = transformer_key(_unwrapped(module)) if flat is None else module.removeprefix(flat)
    if role["alpha"]:
        return LoraKey(name, "alpha")
    direction = role["direction"] or role["old_direction"]
    return LoraKey(name, "A" if role["letter"] == "A" or direction == "down" else "B")


def is_of_connectors(key: str) -> bool:
    """Returns True if a tensor in a LoRA file is for the connectors of the text encoder. Such tensors are ignored.

    key: the tensor's name in the file.
    """
    flat = next((prefix for prefix in _FLAT_PREFIXES if key.startswith(prefix)), "")
    return _CONNECTORS.match(_unwrapped(key.removeprefix(flat))) is not None


def other_kind(keys: Iterable[str]) -> str | None:
    """Returns the kind of a file that is no supported LoRA, such as "is a LoKr"; None if its keys do not show it.

    The result follows the file's name in an error message.

    keys: the names of those tensors in the file that `lora_key` does not know.
    """
    keys = list(keys)
    return next((kind for pattern, kind in _OTHER_KINDS if any(map(pattern.search, keys))), None)


def are_whole_weights(keys: Iterable[str]) -> bool:
    """Returns True if all keys end as the names of a model's own weights do, for example in `.weight` or `.bias`."""
    return all(map(_WHOLE_WEIGHTS.search, keys))


def _unwrapped(name: str) -> str:
    """Returns a module's name without the words that some programs write before it, such as `base_model.model.`."""
    words = name.split(".")
    while len(words) > 1 and words[0] in _WRAPPERS:
        del words[0]
    return ".".join(words)
