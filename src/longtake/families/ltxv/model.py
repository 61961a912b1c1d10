"""A loaded LTX-Video model."""

from dataclasses import dataclass
from typing import Any

import torch

from longtake.models.parts import load_parts
from longtake.models.registry import LTXVCard
from longtake.models.t5 import T5TextEncoder
from longtake.settings import Settings
from longtake.video import OnProgress, ignore_progress


@dataclass(frozen=True)
class LTXVModel:
    """A loaded LTX-Video model in eval mode.

    transformer, vae, upsampler: diffusers' LTXVideoTransformer3DModel, AutoencoderKLLTXVideo, LTXLatentUpsamplerModel;
    the upsampler is None if it is not installed. Their inputs belong on `device`; offloaded weights move there by
    themselves.
    """

    card: LTXVCard
    transformer: Any
    vae: Any
    upsampler: Any | None
    text: T5TextEncoder
    device: torch.device


def load(card: LTXVCard, settings: Settings, on_progress: OnProgress = ignore_progress) -> LTXVModel:
    """Loads the model of a card onto the device that the settings choose.

    Raises `BadCheckpoint` for parts that are missing or do not fit, `NotSupported` for a device that is not available.
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
    return LTXVModel(card, parts["transformer"], parts["vae"], parts.get("upsampler"), text, loaded.device)
