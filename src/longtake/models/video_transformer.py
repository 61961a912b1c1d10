"""The forward pass of the LTX-Video transformer.

The weights are those of diffusers' class. The class's own forward pass is replaced by the one in this module, which
computes modulation once per distinct noise level and not once per token.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from longtake.models.video_block import BlockInputs, block_forward, per_token


@dataclass(frozen=True)
class TokenLevels:
    """The noise levels of n tokens, of which k are distinct.

    values: [k] in 0..1. Some of them may be equal.
    index: for each token the index of its noise level in `values`, [n].
    """

    values: Tensor
    index: Tensor

    @classmethod
    def of(cls, levels: Tensor) -> "TokenLevels":
        """Returns the distinct values of the tokens' noise levels [1, n]. A GPU is waited for."""
        return cls(*torch.unique(levels[0], return_inverse=True))


def attach(transformer: Any) -> None:
    """Replaces the forward pass of a transformer by the one in this module. Call it before any hook is added.

    transformer: diffusers' LTXVideoTransformer3DModel. Hooks for offloading wrap its `forward`.
    """
    transformer.forward = partial(_forward, transformer)
    for block in transformer.transformer_blocks:
        block.forward = partial(block_forward, block)


def _forward(
    model: Any, tokens: Tensor, levels: TokenLevels, coords: Tensor, text: Tensor, text_mask: Tensor
) -> Tensor:
    """Returns the velocity [1, n, C] of each token: the noise minus the clean token.

    tokens: the noisy tokens [1, n, C], in the dtype in which the transformer computes.
    levels: their noise levels.
    coords: the position of each token, [1, 3, n], as (seconds, y px, x px).
    text: the tokens of the prompt, [1, text tokens, d].
    text_mask: [1, text tokens]: 1 for a token of the prompt, 0 for padding.
    """
    rotary = model.rope(tokens, video_coords=coords)
    bias = ((1 - text_mask.to(tokens.dtype)) * -10_000)[:, None]
    hidden = model.proj_in(tokens)
    table, embedded = model.time_embed(levels.values * 1000, batch_size=1, hidden_dtype=hidden.dtype)
    projected = model.caption_projection(text)
    inputs = BlockInputs(projected, table, levels.index, rotary, bias)
    for block in model.transformer_blocks:
        hidden = block(hidden, inputs)
    shift, scale = (per_token(one, levels.index) for one in (model.scale_shift_table + embedded[:, None]).unbind(1))
    velocity: Tensor = model.proj_out(model.norm_out(hidden) * (1 + scale) + shift)
    return velocity
