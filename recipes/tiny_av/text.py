"""The text encoder: a Gemma-3 of two layers with the toy world's words, and the connectors to the two streams."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from torch import nn
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

from recipes.tiny import text as first
from recipes.tiny_av import configs

SEED = 120_000_000


def tokenizer() -> PreTrainedTokenizerFast:
    """Returns the tokenizer of the LTX-Video recipe, but with padding on the left, as Gemma needs it."""
    words = first.tokenizer()
    return PreTrainedTokenizerFast(
        tokenizer_object=words.backend_tokenizer,
        padding_side="left",
        pad_token=words.pad_token,
        eos_token=words.eos_token,
        unk_token=words.unk_token,
        model_max_length=words.model_max_length,
    )


def stack() -> nn.ModuleDict:
    """Returns the untrained text encoder and connectors, as `text_encoder` and `connectors`."""
    torch.manual_seed(SEED)
    gemma: Any = Gemma3ForCausalLM(Gemma3TextConfig(**configs.GEMMA))
    connectors: Any = LTX2TextConnectors(**configs.CONNECTORS)
    return nn.ModuleDict({"text_encoder": gemma, "connectors": connectors})


def encode(stack: nn.ModuleDict, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns text tokens for video and for sound, `[B, SEQUENCE, VIDEO_WIDTH]` and `[B, SEQUENCE, AUDIO_WIDTH]`.

    `ids` and `mask` come from `tokens`. The connectors read the hidden states of all layers. They move the prompt's
    tokens to the front and replace padding by learnt registers.
    """
    gemma: Any = stack["text_encoder"]
    states = gemma.model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    video, audio, _ = stack["connectors"](torch.stack(states, dim=-1), mask)
    return video, audio


def tokens(words: PreTrainedTokenizerFast, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the token ids and the mask of prompts, `[B, SEQUENCE]` each, cut, or padded on the left."""
    return first.tokens(words, prompts)
