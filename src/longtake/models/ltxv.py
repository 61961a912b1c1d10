"""An LTX-Video model in memory: its parts, loaded and placed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from longtake.clip import OnProgress, Progress, ignore_progress
from longtake.errors import BadCheckpoint
from longtake.models import checkpoints, memory
from longtake.models.registry import WEIGHTS, ModelCard, PartName, located, missing
from longtake.models.text import PromptCache, TextEncoder
from longtake.settings import Settings

WEIGHTED: tuple[PartName, ...] = ("text_encoder", "vae", "upsampler", "transformer")
"""In the order in which they are loaded: the largest last."""


@dataclass(frozen=True)
class LTXV:
    """The parts of one LTX-Video model, in eval mode.

    transformer, vae, upsampler: diffusers' LTXVideoTransformer3DModel, AutoencoderKLLTXVideo, LTXLatentUpsamplerModel;
    the upsampler is None where it is not installed. Inputs go to `device` in `dtype`; the weights follow by themselves
    when parts are offloaded.
    """

    card: ModelCard
    transformer: Any
    vae: Any
    upsampler: Any | None
    text: TextEncoder
    device: torch.device
    dtype: torch.dtype
    offload: memory.Offload


def load(card: ModelCard, settings: Settings, *, on_progress: OnProgress = ignore_progress) -> LTXV:
    """Loads a model's parts and places them on the device that the settings choose.

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
    opened = {part: checkpoints.open_part(part, paths[part]) for part in WEIGHTED if part in paths}
    narrow = {"transformer"} if settings.quantise == "fp8" else set()
    dtypes = {part: memory.text_dtype(dtype) if part == "text_encoder" else dtype for part in opened}
    sizes: dict[str, int] = {
        part: held.num_elements * (1 if part in narrow else dtypes[part].itemsize) for part, held in opened.items()
    }
    offload = memory.choose_offload(settings.offload, sizes, memory.free_bytes(device))
    parts: dict[str, Any] = {}
    for step, (part, checkpoint) in enumerate(opened.items()):
        on_progress(Progress(f"load {part}", step, len(opened)))
        direct = offload == "none" and part not in narrow
        parts[part] = checkpoints.load(checkpoint, dtype=dtypes[part], device=device if direct else "cpu")
        if part in narrow:
            memory.store_fp8(parts[part], dtype)
    memory.place(parts, device, offload)
    on_progress(Progress("load", len(opened), len(opened)))
    text = TextEncoder(
        card.name,
        parts["text_encoder"],
        tokenizer(paths["tokenizer"]),
        tokens=card.prompt_tokens,
        device=device,
        dtype=dtype,
        cache=PromptCache(settings.prompt_cache_entries),
        stays=offload == "none",
    )
    return LTXV(card, parts["transformer"], parts["vae"], parts.get("upsampler"), text, device, dtype, offload)


def tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, from its own files alone and without code of theirs."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the library fails in many ways on files that are not a tokenizer's
        raise BadCheckpoint(f"{folder} holds no usable tokenizer: {str(error)[:200]}.") from error
