"""Models of the published sizes with random weights, made on the device without any file.

`settings.json` beside this module holds the published settings of the parts that the package itself does not know, and
for `--quick` the settings that differ in a small model.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.families.ltx2 import model as ltx2
from longtake.families.ltxv import model as ltxv
from longtake.models import layout_ltx2, layout_ltxv, parts
from longtake.models.checkpoints import Checkpoint, Weight, empty_model, with_weights
from longtake.models.layout import Class, Config
from longtake.models.loras import Adapter, Pair
from longtake.models.registry import LORAS, WEIGHTS, LTX2Card, LTXVCard, ModelCard, PartName
from longtake.models.safe import TensorInfo
from longtake.settings import Settings
from longtake.video import OnProgress

SETTINGS: Mapping[str, Any] = json.loads((Path(__file__).parent / "settings.json").read_text(encoding="utf-8"))
"""The settings in `settings.json`: `published` or `small` -> family -> part -> its settings."""

CLASSES: Mapping[str, Mapping[PartName, Class]] = {
    "ltxv": {
        **layout_ltxv.LTXV_LAYOUT.classes,
        **layout_ltxv.LTXV_UPSAMPLER_LAYOUT.classes,
        "text_encoder": ("transformers", "T5EncoderModel"),
    },
    "ltx2": {
        **layout_ltx2.LTX2_LAYOUT.classes,
        **layout_ltx2.LTX2_UPSAMPLER_LAYOUT.classes,
        "text_encoder": ("transformers", "Gemma3ForConditionalGeneration"),
    },
}
"""The class of each part, for each family."""

TOKENIZERS = {"ltxv": WEIGHTS / "ltxv-tiny" / "tokenizer", "ltx2": WEIGHTS / "ltx2-tiny" / "tokenizer"}
"""The folders of the tokenizers. Those in the package stand in for the published ones, which are not in it."""

CHAT = ("<start_of_turn>", "<end_of_turn>")
PICTURE = ("<start_of_image>", "<image_soft_token>", "<end_of_image>")
"""The tokens that Gemma's tokenizer has and the stand-in lacks: those of a chat, and those that stand for a picture."""

ADAPTER_RANK = 384
"""The rank of the published distill adapter of LTX-2.3."""


@cache
def tokenizer(family: str) -> Any:
    """Returns the tokenizer of a family. That of LTX-2 has the tokens that Gemma needs to expand prompts."""
    made = parts.tokenizer(TOKENIZERS[family])
    if family == "ltx2":
        made.add_special_tokens({"additional_special_tokens": [*CHAT, *PICTURE]})
    return made


def part_settings(family: str, *, small: bool) -> dict[PartName, Config]:
    """Returns the settings of each part of a family's model, in the order in which parts are loaded.

    small: True for a small model of the same structure.
    """
    known: dict[PartName, Config] = {"transformer": layout_ltxv.TRANSFORMER_13B, "vae": layout_ltxv.VAE_13B}
    published = (known if family == "ltxv" else {}) | SETTINGS["published"][family]
    changes = SETTINGS["small"][family] if small else {}
    found = {part: published[part] | changes.get(part, {}) for part in parts.ORDER if part in published}
    if family == "ltx2":
        begin, picture, end = tokenizer(family).convert_tokens_to_ids(list(PICTURE))
        found["text_encoder"] |= {"boi_token_index": begin, "image_token_index": picture, "eoi_token_index": end}
    return found


@cache
def checkpoint(family: str, part: PartName, *, small: bool) -> Checkpoint:
    """Returns the checkpoint of a part, without a file: its settings, and the shapes of its weights."""
    config = part_settings(family, small=small)[part]
    bare = Checkpoint(part, Path(f"random-{part}"), CLASSES[family][part], config, {})
    model = empty_model(bare)
    tied = getattr(model, "_tied_weights_keys", None) or ()
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name not in tied}
    weights = {name: Weight(bare.path, name, TensorInfo("BF16", shape)) for name, shape in shapes.items()}
    return replace(bare, weights=weights)


@dataclass(frozen=True)
class RandomParts:
    """A source of parts with random weights, which are the same each time.

    small: True for small models of the same structure.
    """

    small: bool

    def open(self, card: ModelCard, settings: Settings) -> Mapping[PartName, Checkpoint]:
        """Returns a checkpoint for each part: the shapes of all weights, but no file."""
        return {part: checkpoint(card.family, part, small=self.small) for part in parts.ORDER if part in card.parts}

    def load(self, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device | str) -> Any:
        """Returns a part with random weights. They are drawn on the GPU if there is one, wherever they go then."""
        drawn_on = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        generator = torch.Generator(drawn_on).manual_seed(parts.ORDER.index(checkpoint.part))
        tensors = {
            name: random_weight(name, weight.info.shape, dtype, generator).to(device)
            for name, weight in checkpoint.weights.items()
        }
        return with_weights(checkpoint, empty_model(checkpoint), tensors, device)

    def tokenizer(self, card: ModelCard, settings: Settings) -> Any:
        """Returns the stand-in of the family's tokenizer."""
        return tokenizer(card.family)


def random_weight(name: str, shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Returns a weight whose layer keeps the scale of its input, so that values stay finite through all layers.

    Norms have scale 1, biases are 0, and latents have mean 0 and deviation 1. Other weights are normally distributed.
    """
    kind = name.rsplit(".", 1)[-1]
    device = generator.device
    if kind == "latents_std" or (kind == "weight" and len(shape) == 1):
        return torch.ones(shape, dtype=dtype, device=device)
    if kind in ("latents_mean", "bias"):
        return torch.zeros(shape, dtype=dtype, device=device)
    deviation = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.02
    return torch.empty(shape, dtype=dtype, device=device).normal_(0, min(deviation, 0.5), generator=generator)


def load_random(
    card: ModelCard, settings: Settings, on_progress: OnProgress, source: RandomParts, new_tokens: int
) -> ltxv.LTXVModel | ltx2.LTX2Model:
    """Loads the model of a card with random weights, as the package loads one with files.

    new_tokens: the length of an expanded prompt in tokens. Random weights never end a text by themselves.
    """
    match card:
        case LTXVCard():
            return ltxv.load(card, settings, on_progress, source)
        case LTX2Card():
            model = ltx2.load(card, settings, on_progress, source)
            model.text.max_new_tokens = new_tokens
            return model
    raise ValueError(f"{card.name} is of no known family")


Shape = tuple[int, int]
"""The shape of a matrix."""

ADAPTER_DEVIATION = 0.005
"""The standard deviation of the values of a random adapter."""


def random_adapter(card: ModelCard, source: RandomParts, rank: int, *, pinned: bool) -> Adapter:
    """Returns a random adapter for all linear layers in the transformer's blocks. Its matrices share their memory,
    because to make that of all of them would take long.

    pinned: True for pinned memory.
    """
    values = _random_values()
    values = values.pin_memory() if pinned else values

    def pair(a: Shape, b: Shape) -> Pair:
        return Pair(values[: math.prod(a)].view(a), values[: math.prod(b)].view(b))

    return Adapter("random", {name: pair(*shapes) for name, shapes in _adapter_shapes(card, source, rank).items()})


def write_adapter(card: ModelCard, settings: Settings, source: RandomParts, rank: int) -> Path:
    """Writes a random adapter for all linear layers in the transformer's blocks. Returns its path.

    It is the file that the model's own adapter `distill` has in `settings.models_dir`. Its values repeat after 32 MiB,
    because random numbers for the whole file would take long.
    """
    path = settings.models_dir / card.name / LORAS / "distill.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    header: dict[str, Any] = {}
    end = 0
    for name, shapes in _adapter_shapes(card, source, rank).items():
        for side, shape in zip(("lora_A", "lora_B"), shapes, strict=True):
            begin, end = end, end + 2 * math.prod(shape)
            place = {"dtype": "BF16", "shape": shape, "data_offsets": (begin, end)}
            header[f"diffusion_model.{name}.{side}.weight"] = place
    block = _random_values().view(torch.uint8).numpy().tobytes()
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for begin in range(0, end, len(block)):
            file.write(block[: end - begin])
    return path


def _adapter_shapes(card: ModelCard, source: RandomParts, rank: int) -> dict[str, tuple[Shape, Shape]]:
    """Returns the shapes of the two matrices of an adapter, for each linear layer in the transformer's blocks."""
    transformer = empty_model(checkpoint(card.family, "transformer", small=source.small))
    return {
        name: ((rank, layer.in_features), (layer.out_features, rank))
        for name, layer in transformer.named_modules()
        if isinstance(layer, torch.nn.Linear) and name.startswith("transformer_blocks.")
    }


def _random_values() -> Tensor:
    return torch.empty(2**24, dtype=torch.bfloat16).normal_(0, ADAPTER_DEVIATION)
