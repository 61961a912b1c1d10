"""Guidance: from a few velocity predictions to the one that is followed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from longtake.families.ltxv.profiles import Guidance
from longtake.models.t5 import EncodedPrompt


def velocity(transformer: nn.Module, tokens: Tensor, time: Tensor, coords: Tensor, prompt: EncodedPrompt) -> Tensor:
    """One evaluation: the velocity n - x0 [1, n, C] at the tokens' own noise levels `time` [1, n] in [0, 1].

    The model computes in the precision of the prompt's embeddings; the result is in the tokens'.
    """
    prediction: Tensor = transformer(
        hidden_states=tokens.to(prompt.embeddings.dtype),
        encoder_hidden_states=prompt.embeddings,
        timestep=time * 1000,
        encoder_attention_mask=prompt.mask,
        video_coords=coords,
        return_dict=False,
    )[0]
    return prediction.to(tokens.dtype)


@dataclass(frozen=True)
class Guide:
    """The source of predicted velocities: the network, the prompts (`negative` is None where none counts), and the
    guidance at each noise level."""

    transformer: nn.Module
    positive: EncodedPrompt
    negative: EncodedPrompt | None
    scales: Guidance


def guided_velocity(guide: Guide, tokens: Tensor, time: Tensor, coords: Tensor, level: float) -> Tensor:
    """The guided velocity at schedule level `level`; only the evaluations that the level's scales need are made.

    c, u, p: the predictions for the prompt, for the negative prompt, and with disturbed attention.
    y = u + cfg (c - u) if cfg > 1, else c; y += stg (c - p) if stg > 0, and only then
    y *= rescale * std(c) / std(y) + 1 - rescale. With `nag`, c looks away from the negative prompt by itself.
    Source: LTX-Video; STG: Hyung et al. 2024.
    """
    transformer, positive, negative, guidance = guide.transformer, guide.positive, guide.negative, guide.scales
    bin = guidance.bin(level)
    cfg, stg, rescale = guidance.cfg[bin], guidance.stg[bin], guidance.rescale[bin]
    if negative is None and (cfg > 1 or guidance.nag > 0):
        raise ValueError(f"guidance at noise level {level} needs a negative prompt")
    with negative_attention(transformer, negative, guidance.nag):
        conditional = velocity(transformer, tokens, time, coords, positive)
    guided = conditional
    if cfg > 1 and negative is not None:
        unconditional = velocity(transformer, tokens, time, coords, negative)
        if guidance.cfg_star:
            unconditional = project(unconditional, conditional)
        guided = unconditional + cfg * (conditional - unconditional)
    if stg > 0:
        with value_attention(transformer, guidance.blocks[bin]):
            disturbed = velocity(transformer, tokens, time, coords, positive)
        guided = guided + stg * (conditional - disturbed)
        if rescale != 1:
            guided = guided * (rescale * conditional.std() / guided.std() + 1 - rescale)
    return guided


def project(unconditional: Tensor, conditional: Tensor) -> Tensor:
    """CFG*: the negative prediction scaled to its projection on the positive one. Source: Fan et al. 2025."""
    u, c = unconditional.flatten(1), conditional.flatten(1)
    share = (c * u).sum(1) / (u.square().sum(1) + 1e-8)
    return share[:, None, None] * unconditional


class ValueAttention:
    """An attention processor that passes each token's value on and looks at no other token."""

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        out: Tensor = attn.to_out[0](attn.to_v(hidden_states))
        return out


NAG_LIMIT = 2.5
NAG_SHARE = 0.25
"""The limit of a guided feature's size, as a multiple of the plain one's, and its share in the result."""


class NegativeAttention:
    """A cross-attention processor that moves what is read from the prompt away from what a negative prompt says.

    z+ and z-: the features read from the two prompts. z = z+ + scale (z+ - z-), no longer than NAG_LIMIT times z+ by
    its L1 norm, and mixed in by NAG_SHARE. Source: normalised attention guidance, Chen et al. 2025.
    """

    def __init__(self, plain: Any, embeddings: Tensor, bias: Tensor, scale: float) -> None:
        self.plain, self.embeddings, self.bias, self.scale = plain, embeddings, bias, scale

    def __call__(self, attn: Any, hidden_states: Tensor, *rest: Any, **options: Any) -> Tensor:
        positive: Tensor = self.plain(attn, hidden_states, *rest, **options)
        away = options | {"encoder_hidden_states": self.embeddings, "attention_mask": self.bias}
        guided = positive + self.scale * (positive - self.plain(attn, hidden_states, **away))
        growth = guided.norm(1, -1, keepdim=True) / positive.norm(1, -1, keepdim=True).clamp(min=1e-8)
        return torch.lerp(positive, guided * (NAG_LIMIT / growth).clamp(max=1), NAG_SHARE)


@contextmanager
def negative_attention(transformer: Any, negative: EncodedPrompt | None, scale: float) -> Iterator[None]:
    """Within it, every cross-attention looks away from the negative prompt; with scale 0 nothing changes."""
    if negative is None or scale == 0:
        yield
        return
    embeddings = transformer.caption_projection(negative.embeddings)
    bias = (1 - negative.mask.to(embeddings.dtype))[:, None] * -10_000
    layers = [block.attn2 for block in transformer.transformer_blocks]
    with processors(layers, [NegativeAttention(layer.processor, embeddings, bias, scale) for layer in layers]):
        yield


@contextmanager
def value_attention(transformer: Any, blocks: tuple[int, ...]) -> Iterator[None]:
    """Within it, the self-attention of these blocks is replaced by its value projection."""
    layers = [transformer.transformer_blocks[block].attn1 for block in blocks]
    with processors(layers, [ValueAttention() for _ in layers]):
        yield


@contextmanager
def processors(layers: Sequence[Any], others: Sequence[Any]) -> Iterator[None]:
    """Within it, the attention layers work by other processors; afterwards by their own, whatever happens."""
    own = [layer.processor for layer in layers]
    try:
        for layer, other in zip(layers, others, strict=True):
            layer.processor = other
        yield
    finally:
        for layer, processor in zip(layers, own, strict=True):
            layer.processor = processor
