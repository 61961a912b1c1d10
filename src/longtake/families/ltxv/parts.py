"""An LTX-Video model in memory: its parts, loaded and placed."""

from dataclasses import dataclass
from typing import Any

import torch

from longtake.models import memory
from longtake.models.parts import load_parts
from longtake.models.registry import LTXVCard
from longtake.models.t5 import T5TextEncoder
from longtake.settings import Settings
from longtake.video import OnProgress, ignore_progress


@dataclass(frozen=True)
class LTXVParts:
    """The parts of one LTX-Video model, in eval mode.

    transformer, vae, upsampler: diffusers' LTXVideoTransformer3DModel, AutoencoderKLLTXVideo, LTXLatentUpsamplerModel;
    the upsampler is None where it is not installed. Inputs go to `device` in `dtype`; the weights follow by themselves
    when parts are offloaded.
    """

    card: LTXVCard
    transformer: Any
    vae: Any
    upsampler: Any | None
    text: T5TextEncoder
    device: torch.device
    dtype: torch.dtype
    offload: memory.Offload


def load(card: LTXVCard, settings: Settings, *, on_progress: OnProgress = ignore_progress) -> LTXVParts:
    """Loads a model's parts and places them on the device that the settings choose.

    Raises `BadCheckpoint` for parts that are missing or do not fit, `NotSupported` for a device that is not there.
    """
    loaded = load_parts(card, settings, on_progress)
    parts = loaded.parts
    text = T5TextEncoder(
        parts["text_encoder"],
        loaded.tokenizer,
        num_tokens=card.prompt_tokens,
        device=loaded.device,
        dtype=loaded.dtype,
        cache_entries=settings.prompt_cache_entries,
        offloaded=loaded.offload != "none",
    )
    return LTXVParts(
        card,
        parts["transformer"],
        parts["vae"],
        parts.get("upsampler"),
        text,
        loaded.device,
        loaded.dtype,
        loaded.offload,
    )
