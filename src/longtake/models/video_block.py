"""The forward pass of one block of the LTX-Video transformer, as operations on tensors that `torch.compile` can fuse.

This forward pass runs the layers of diffusers' class, and gives the same results as the class's own forward pass. That
one cannot be compiled as a part of another function, and needs modulation for each token.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

Rotary = tuple[Tensor, Tensor]
"""Cosines and sines of rotary position embeddings, [1, n, d] each."""


@dataclass(frozen=True)
class BlockInputs:
    """The inputs of a transformer block besides the hidden states of its n tokens. They are the same for all blocks.

    text: the prompt's tokens, [1, text tokens, d].
    table: six vectors for each distinct noise level, [k, 6 d]: shift, scale and gate for self-attention and for
        feed-forward.
    index: for each token the index of its noise level, [n].
    rotary: the position embeddings.
    bias: added to the logits of the attention to the prompt, [1, 1, text tokens].
    """

    text: Tensor
    table: Tensor
    index: Tensor
    rotary: Rotary
    bias: Tensor


def block_forward(block: Any, hidden: Tensor, inputs: BlockInputs) -> Tensor:
    """Returns the hidden states [1, n, d] of n tokens after one transformer block.

    block: the block of diffusers' transformer, which has the layers.
    hidden: the hidden states before it.
    inputs: the other inputs of the block.
    """
    index = inputs.index
    vectors = block.scale_shift_table + inputs.table.unflatten(-1, (6, -1))
    shift, scale, gate, shift_ff, scale_ff, gate_ff = vectors.unbind(1)
    h = block.norm1(hidden) * (1 + per_token(scale, index)) + per_token(shift, index)
    hidden = hidden + block.attn1(h, image_rotary_emb=inputs.rotary) * per_token(gate, index)
    hidden = hidden + block.attn2(hidden, encoder_hidden_states=inputs.text, attention_mask=inputs.bias)
    h = block.norm2(hidden) * (1 + per_token(scale_ff, index)) + per_token(shift_ff, index)
    out: Tensor = hidden + block.ff(h) * per_token(gate_ff, index)
    return out


def per_token(values: Tensor, index: Tensor) -> Tensor:
    """Returns for each token the vector that belongs to its noise level: [1, n, d].

    values: one vector for each noise level, [k, d]. If k is 1, the result is [1, 1, d], which broadcasts over tokens.
    index: for each token the index of its noise level, [n].
    """
    return values[None] if len(values) == 1 else values[index][None]


def with_varying_sizes(
    vary: Callable[[Tensor, int], None], hidden: Tensor, inputs: BlockInputs
) -> tuple[Tensor, BlockInputs]:
    """Returns the inputs of `block_forward`, after telling the compiler which sizes vary: the numbers of tokens and of
    noise levels.

    The inputs stay as they are, except that a single noise level is repeated, because compiled code treats a size of 1
    as special. `vary` is called with a tensor and the number of an axis whose size differs between requests.
    """
    table = inputs.table if len(inputs.table) > 1 else torch.cat([inputs.table, inputs.table])
    for tensor, axis in ((hidden, 1), (table, 0), (inputs.index, 0), *((values, 1) for values in inputs.rotary)):
        vary(tensor, axis)
    return hidden, replace(inputs, table=table)
