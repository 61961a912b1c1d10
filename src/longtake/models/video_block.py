"""The forward pass of one block of the LTX-Video transformer, as operations on tensors that `torch.compile` can fuse.

This forward pass runs the layers of diffusers' class, and gives the same results as the class's own forward pass. That
one cannot be compiled as a part of another function.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

Rotary = tuple[Tensor, Tensor]
"""Cosines and sines of rotary position embeddings, [1, n, d] each."""


def block_forward(block: Any, hidden: Tensor, text: Tensor, modulation: Tensor, rotary: Rotary, bias: Tensor) -> Tensor:
    """Returns the hidden states [1, n, d] of n tokens after one transformer block.

    block: the block of diffusers' transformer, which has the layers.
    hidden: the hidden states before it.
    text: the prompt's tokens, [1, text tokens, d].
    modulation: six vectors for each token, [1, n, 6 d]: shift, scale and gate for self-attention and for feed-forward.
    rotary: the position embeddings.
    bias: added to the logits of the attention to the prompt, [1, 1, text tokens].
    """
    vectors = block.scale_shift_table + modulation.unflatten(-1, (6, -1))
    shift, scale, gate, shift_ff, scale_ff, gate_ff = vectors.unbind(2)
    h = block.norm1(hidden) * (1 + scale) + shift
    hidden = hidden + block.attn1(h, image_rotary_emb=rotary) * gate
    hidden = hidden + block.attn2(hidden, encoder_hidden_states=text, attention_mask=bias)
    h = block.norm2(hidden) * (1 + scale_ff) + shift_ff
    out: Tensor = hidden + block.ff(h) * gate_ff
    return out


def with_varying_sizes(
    vary: Callable[[Tensor, int], None],
    hidden_states: Tensor,
    encoder_hidden_states: Tensor,
    temb: Tensor,
    image_rotary_emb: Rotary,
    encoder_attention_mask: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Rotary, Tensor]:
    """Returns the inputs of `block_forward`, after telling the compiler that the number of tokens varies.

    The arguments have the names that diffusers gives them. `vary` is called with a tensor and the number of an axis
    whose size differs between requests.
    """
    for tensor in (hidden_states, temb, *image_rotary_emb):
        vary(tensor, 1)
    return hidden_states, encoder_hidden_states, temb, image_rotary_emb, encoder_attention_mask
