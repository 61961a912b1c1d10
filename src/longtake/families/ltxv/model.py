"""The loaded LTX-Video model, and the function that loads it."""

from dataclasses import dataclass
from typing import Any

import torch

from longtake.models.merging import Originals
from longtake.models.parts import INSTALLED, PartSource, load_parts
from longtake.models.registry import LTXVCard
from longtake.models.t5 import T5TextEncoder
from longtake.settings import Settings
from longtake.video import OnProgress, ignore_progress


@dataclass(frozen=True)
class LTXVModel:
    """A loaded LTX-Video model in eval mode.

    `card`: the model card, with the facts of the model.
    `transformer`: diffusers' LTXVideoTransformer3DModel.
    `vae`: diffusers' AutoencoderKLLTXVideo.
    `upsampler`: diffusers' LTXLatentUpsamplerModel; None if it is not installed.
    `text`: the text encoder.
    `device`: the device that inputs must be on. Offloaded weights move there by themselves.
    `originals`: copies of the transformer's weights, for merging adapters into them.
    """

    card: LTXVCard
    transformer: Any
    vae: Any
    upsampler: Any | None
    text: T5TextEncoder
    device: torch.device
    originals: Originals


def load(
    card: LTXVCard,
    settings: Settings,
    on_progress: OnProgress = ignore_progress,
    source: PartSource = INSTALLED,
) -> LTXVModel:
    """Loads the model of a card onto the device that the settings choose.

    `on_progress`: the callback that receives the progress of loading.
    `source`: where the model's parts come from; by default, files on this machine.

    Raises BadCheckpoint if a part is missing or damaged. Raises NotSupported if the device is not available.
    """
    loaded = load_parts(card, settings, on_progress, source)
    parts = loaded.parts
    text = T5TextEncoder(
        parts["text_encoder"],
        loaded.tokenizer,
        num_tokens=card.prompt_tokens,
        device=loaded.device,
        dtype=loaded.dtype,
        cache_entries=settings.prompt_cache_entries,
        place=loaded.text_place,
        offloaded=loaded.offload != "none",
    )
    return LTXVModel(
        card, parts["transformer"], parts["vae"], parts.get("upsampler"), text, loaded.device, loaded.originals
    )
