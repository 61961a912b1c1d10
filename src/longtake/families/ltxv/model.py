"""The loaded LTX-Video model, and the function that loads it."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from longtake.families.ltxv.guidance import value_attention, velocity
from longtake.families.ltxv.profiles import PROFILES
from longtake.models.compiled import BlockForward
from longtake.models.parts import INSTALLED, LoadedModel, PartSource, load_parts
from longtake.models.registry import LTXVCard
from longtake.models.t5 import EncodedPrompt, T5TextEncoder
from longtake.models.video_block import block_forward, with_varying_sizes
from longtake.models.video_transformer import TokenLevels, attach
from longtake.settings import Settings
from longtake.video import OnProgress, ignore_progress

LTXVModel = LoadedModel[LTXVCard, T5TextEncoder]
"""A loaded LTX-Video model."""


def load(
    card: LTXVCard,
    settings: Settings,
    on_progress: OnProgress = ignore_progress,
    source: PartSource = INSTALLED,
) -> LTXVModel:
    """Loads the model that the model card `card` describes onto the device that the setting `device` names.

    `on_progress`: the callback that receives the progress of loading.
    `source`: where the model's parts come from; by default, files on this machine.

    Raises BadCheckpoint if a part is missing or damaged. Raises NotSupported if the device is not available.
    """
    loaded = load_parts(card, settings, on_progress, source, BLOCK_FORWARD, prepare_transformer=attach)
    text = loaded.text_encoder(T5TextEncoder, card, settings)
    loaded.compile_blocks(settings, partial(_evaluate, card), on_progress)
    return LTXVModel.of(card, text, loaded)


BLOCK_FORWARD = BlockForward(block_forward, with_varying_sizes)
"""Two functions with which torch compiles the transformer's blocks (see `models.compiled`). The first computes a block.
The second tells torch which sizes of a block's inputs differ between requests."""

WARM_UP_TOKENS = 64
"""The number of tokens of the trial evaluation of the transformer that makes `torch.compile` compile its blocks."""


def _evaluate(card: LTXVCard, transformer: Any, device: torch.device, dtype: torch.dtype) -> None:
    """Evaluates the transformer on a few tokens, so that its blocks are compiled before the first request. If the
    model's guidance switches self-attention off in some blocks (STG), evaluates it in this way, too.

    These are the blocks of requests. Others may have weights in another dtype, and then need other code.
    """
    text = torch.zeros(1, card.prompt_tokens, transformer.config.caption_channels, device=device, dtype=dtype)
    prompt = EncodedPrompt(text, torch.ones(1, card.prompt_tokens, device=device, dtype=dtype))
    inputs = few_tokens(transformer, device)
    velocity(transformer, *inputs, prompt)
    profile = PROFILES[card.guidance]
    blocks = {block for guidance in (profile.first, profile.second) for group in guidance.blocks for block in group}
    disturbed = sorted(blocks.intersection(range(len(transformer.transformer_blocks))))
    if disturbed:
        with value_attention(transformer, tuple(disturbed)):
            velocity(transformer, *inputs, prompt)


def few_tokens(transformer: Any, device: torch.device) -> tuple[Tensor, TokenLevels, Tensor]:
    """Returns a few tokens with their noise levels and positions, for trial evaluations of the transformer. Every
    second one has no noise, as the tokens of a context."""
    tokens = torch.zeros(1, WARM_UP_TOKENS, transformer.config.in_channels, device=device)
    coords, index = torch.zeros(1, 3, WARM_UP_TOKENS, device=device), (torch.arange(WARM_UP_TOKENS) % 2).to(device)
    return tokens, TokenLevels(torch.tensor([0.0, 0.5], device=device), index), coords
