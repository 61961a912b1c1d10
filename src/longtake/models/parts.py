"""The parts of a model of either family are loaded and placed: what goes where, in which dtype."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from longtake.errors import BadCheckpoint
from longtake.models import checkpoints, memory
from longtake.models.registry import WEIGHTS, ModelCard, PartName, located, missing
from longtake.settings import Settings
from longtake.video import OnProgress, Progress

ORDER: tuple[PartName, ...] = (
    "text_encoder",
    "connectors",
    "vae",
    "audio_vae",
    "vocoder",
    "upsampler",
    "transformer",
)
"""In which parts are loaded: the transformer last, when what is left of the memory is known."""


@dataclass(frozen=True)
class Loaded:
    """The parts of a model in eval mode, each in its dtype, and its tokenizer."""

    parts: Mapping[PartName, Any]
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype
    offload: memory.Offload


def load_parts(
    card: ModelCard,
    settings: Settings,
    on_progress: OnProgress,
    prepare_transformer: Callable[[Any], None] = lambda transformer: None,
) -> Loaded:
    """Loads a model's parts and places them on the device that the settings choose.

    `prepare_transformer` is called with the loaded transformer before anything else is done to it.
    Raises `BadCheckpoint` for parts that are missing or do not fit, `NotSupported` for a device that is not there.
    """
    lacking = missing(card, settings)
    if lacking:
        home = WEIGHTS if card.embedded else settings.models_dir
        remedy = "install the package anew" if card.embedded else f"fetch them with `longtake models pull {card.name}`"
        raise BadCheckpoint(f"Model {card.name} lacks its {', '.join(lacking)} in {home / card.name}; {remedy}.")
    paths = located(card, settings)
    device = memory.choose_device(settings)
    dtype = memory.choose_dtype(settings, device, embedded=card.embedded)
    opened = {part: checkpoints.open_part(part, paths[part]) for part in ORDER if part in paths}
    narrow = {"transformer"} if settings.quantise == "fp8" else set()
    dtypes = {part: memory.part_dtype(part, dtype) for part in opened}
    sizes: dict[str, int] = {
        part: held.num_elements * (1 if part in narrow else dtypes[part].itemsize) for part, held in opened.items()
    }
    offload = memory.choose_offload(settings.offload, sizes, memory.free_bytes(device))
    parts: dict[PartName, Any] = {}
    for step, (part, checkpoint) in enumerate(opened.items()):
        on_progress(Progress(f"load {part}", step, len(opened)))
        direct = offload == "none" and part not in narrow
        parts[part] = checkpoints.load(checkpoint, dtype=dtypes[part], device=device if direct else "cpu")
        if part == "transformer":
            prepare_transformer(parts[part])
        if part in narrow:
            memory.store_fp8(parts[part], dtype)
    memory.place(parts, device, offload)
    on_progress(Progress("load", len(opened), len(opened)))
    return Loaded(parts, tokenizer(paths["tokenizer"]), device, dtype, offload)


def tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, from its own files alone and without code of theirs."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the library fails in many ways on files that are not a tokenizer's
        raise BadCheckpoint(f"{folder} holds no usable tokenizer: {str(error)[:200]}.") from error
