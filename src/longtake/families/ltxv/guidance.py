"""The guidance of LTX-Video 0.9.x: combines up to three predictions of the velocity into one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from longtake.families.ltxv.profiles import Guidance
from longtake.models.replicas import Replicas
from longtake.models.t5 import EncodedPrompt
from longtake.models.video_transformer import TokenLevels
from longtake.sampling.deviation import divisor


def velocity(
    transformer: nn.Module, tokens: Tensor, levels: TokenLevels, coords: Tensor, prompt: EncodedPrompt
) -> Tensor:
    """Returns the velocity [1, n, C] that one evaluation of the model predicts: the noise minus the clean tokens.

    `transformer`: the model, diffusers' LTXVideoTransformer3DModel with the forward pass of `models.video_transformer`.
    `tokens`: the noisy tokens, [1, n, C].
    `levels`: the noise levels of the tokens.
    `coords`: the position of each token, [1, 3, n], as (seconds, y px, x px).
    `prompt`: the encoded prompt. The model computes in the dtype of the prompt's embeddings.

    The result has the dtype of `tokens`.
    """
    noisy = tokens.to(prompt.embeddings.dtype)
    prediction: Tensor = transformer(noisy, levels, coords, prompt.embeddings, prompt.mask)
    return prediction.to(tokens.dtype)


@dataclass(frozen=True)
class Guide:
    """The inputs of the guided prediction in one pass: the model, the prompts and the guidance scales.

    `replicas`: the model and its copies on other devices, which share out the predictions. It is diffusers'
        LTXVideoTransformer3DModel with the forward pass of `models.video_transformer`.
    `positive`, `negative`: the encoded prompts. `negative` may be None if the guidance never uses a negative prompt.
    `guidance`: the guidance scales for each noise level.
    """

    replicas: Replicas
    positive: EncodedPrompt
    negative: EncodedPrompt | None
    guidance: Guidance

    def predictions(self, level: float) -> dict[str, "Conditions"]:
        """Returns what the model must predict at a noise level, by name: `conditional`, and if the guidance needs them
        `negative` (for the negative prompt) and `disturbed` (with disturbed self-attention).

        Raises ValueError if a negative prompt is needed and there is none.
        """
        bin = self.guidance.bin(level)
        if self.negative is None and (self.guidance.cfg[bin] > 1 or self.guidance.nag > 0):
            raise ValueError(f"guidance at noise level {level} needs a negative prompt")
        needed = {"conditional": Conditions(self.positive, self.negative, self.guidance.nag)}
        if self.guidance.cfg[bin] > 1 and self.negative is not None:
            needed["negative"] = Conditions(self.negative)
        if self.guidance.stg[bin] > 0:
            needed["disturbed"] = Conditions(self.positive, disturbed=self.guidance.blocks[bin])
        return needed


@dataclass(frozen=True)
class Conditions:
    """The conditions of one prediction.

    `prompt`: the encoded prompt.
    `negative`, `nag`: the prompt from which the cross-attention moves away, and how far (see `negative_attention`).
    `disturbed`: the numbers of the transformer blocks with disturbed self-attention.
    """

    prompt: EncodedPrompt
    negative: EncodedPrompt | None = None
    nag: float = 0.0
    disturbed: tuple[int, ...] = ()


def predicted(transformer: Any, item: tuple[Conditions, Tensor, TokenLevels, Tensor]) -> Tensor:
    """Returns the velocity [1, n, C] that the model predicts under the conditions of a prediction.

    `item`: the prediction, the noisy tokens, their noise levels and their positions (see `velocity`).
    """
    wanted, tokens, levels, coords = item
    with (
        negative_attention(transformer, wanted.negative, wanted.nag),
        value_attention(transformer, wanted.disturbed),
    ):
        return velocity(transformer, tokens, levels, coords, wanted.prompt)


def guided_velocity(guide: Guide, tokens: Tensor, levels: TokenLevels, coords: Tensor, level: float) -> Tensor:
    """Returns the guided velocity [1, n, C]: one to three predictions of the model, combined by the guidance scales.
    Several devices share out the predictions.

    The scales cfg, stg and rescale are those of `guide.guidance` at `level`. The steps are:
    1. c is the prediction for the positive prompt. If the scale `nag` is above 0, the cross-attention moves away from
       the negative prompt while c is predicted (see `NegativeAttention`).
    2. If cfg is above 1, u is the prediction for the negative prompt, and y = u + cfg (c - u). If `cfg_star` is set, u
       is replaced with `project(u, c)` before. If cfg is 1 or less, y = c.
    3. If stg is above 0, p is the prediction for the positive prompt with disturbed self-attention, and stg (c - p) is
       added to y. Then y is multiplied by (rescale std(c) / std(y) + 1 - rescale). As in the published
       configurations, a rescale of 1 turns this off, as 0 does: y is then not multiplied.
    4. The result is y.

    `tokens`: the noisy tokens, [1, n, C].
    `levels`: the noise levels of the tokens.
    `coords`: the position of each token, [1, 3, n], as (seconds, y px, x px).
    `level`: the schedule's noise level.

    Raises ValueError if a negative prompt is needed and there is none. Sources: LTX-Video; for STG Hyung et al. 2024.
    """
    guidance, needed = guide.guidance, guide.predictions(level)
    bin = guidance.bin(level)
    cfg, stg, rescale = guidance.cfg[bin], guidance.stg[bin], guidance.rescale[bin]
    items = [(prediction, tokens, levels, coords) for prediction in needed.values()]
    found = dict(zip(needed, guide.replicas.run(predicted, items), strict=True))
    guided = conditional = found["conditional"]
    if "negative" in found:
        unconditional = found["negative"]
        if guidance.cfg_star:
            unconditional = project(unconditional, conditional)
        guided = unconditional + cfg * (conditional - unconditional)
    if "disturbed" in found:
        guided = guided + stg * (conditional - found["disturbed"])
        if rescale != 1:
            guided = guided * (rescale * conditional.std() / divisor(guided.std()) + 1 - rescale)
    return guided


def project(unconditional: Tensor, conditional: Tensor) -> Tensor:
    """Returns the projection of the prediction `conditional` (c) onto the prediction `unconditional` (u), per sample.

    It is u <c, u> / |u|^2. Both predictions and the result are [B, n, C]. Source: CFG-Zero*, Fan et al. 2025.
    """
    u, c = unconditional.flatten(1), conditional.flatten(1)
    share = (c * u).sum(1) / (u.square().sum(1) + 1e-8)
    return share[:, None, None] * unconditional


class ValueAttention:
    """An attention processor with which each token attends only to itself: it returns the token's own value vector."""

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        out: Tensor = attn.to_out[0](attn.to_v(hidden_states))
        return out


NAG_LIMIT = 2.5
"""The largest L1 norm of a feature after normalised attention guidance, as a multiple of its L1 norm before."""

NAG_SHARE = 0.25
"""The share of the guided feature in the result of normalised attention guidance. The rest is the unguided feature."""


class NegativeAttention:
    """A cross-attention processor that moves the attention's output away from that of a negative prompt.

    Both outputs are computed from the same video tokens: p with the positive prompt, n with the negative prompt. With
    the `scale` of the constructor the result is computed in three steps:
    1. z = p + scale (p - n).
    2. If the L1 norm of z is more than 2.5 times (NAG_LIMIT) that of p, z is scaled down to that limit.
    3. The result is 0.25 z + 0.75 p; 0.25 is NAG_SHARE.

    Source: normalised attention guidance, Chen et al. 2025.
    """

    def __init__(self, plain: Any, embeddings: Tensor, bias: Tensor, scale: float) -> None:
        """Makes the processor that replaces a layer's present one. It calls the present one once for each prompt.

        `plain`: the layer's present processor.
        `embeddings`: the embeddings of the negative prompt, [1, n, d].
        `bias`: [1, 1, n], added to the attention's logits: 0 for a token of the negative prompt, a large negative
            number for padding.
        `scale`: how far the attention's output moves away from that of the negative prompt.
        """
        self.plain, self.embeddings, self.bias, self.scale = plain, embeddings, bias, scale

    def __call__(self, attn: Any, hidden_states: Tensor, *rest: Any, **options: Any) -> Tensor:
        positive: Tensor = self.plain(attn, hidden_states, *rest, **options)
        for_negative = options | {"encoder_hidden_states": self.embeddings, "attention_mask": self.bias}
        guided = positive + self.scale * (positive - self.plain(attn, hidden_states, **for_negative))
        growth = guided.norm(1, -1, keepdim=True) / positive.norm(1, -1, keepdim=True).clamp(min=1e-8)
        return torch.lerp(positive, guided * (NAG_LIMIT / growth).clamp(max=1), NAG_SHARE)


@contextmanager
def negative_attention(transformer: Any, negative: EncodedPrompt | None, scale: float) -> Iterator[None]:
    """Context manager. Within it, every cross-attention of `transformer` moves its output away from that of a negative
    prompt: normalised attention guidance (NAG).

    `negative`: the encoded negative prompt. If it is None, nothing changes.
    `scale`: how far the output is moved. If it is 0, nothing changes.
    """
    if negative is None or scale == 0:
        yield
        return
    embeddings = transformer.caption_projection(negative.embeddings)
    bias = (1 - negative.mask.to(embeddings.dtype))[:, None] * -10_000
    layers = [block.attn2 for block in transformer.transformer_blocks]
    with replaced_processors(layers, [NegativeAttention(layer.processor, embeddings, bias, scale) for layer in layers]):
        yield


@contextmanager
def value_attention(transformer: Any, blocks: tuple[int, ...]) -> Iterator[None]:
    """Context manager. Within it, each token attends only to itself in the self-attention of some transformer blocks.

    `blocks`: the numbers (from 0) of these blocks. Each gets a `ValueAttention`.
    """
    layers = [transformer.transformer_blocks[block].attn1 for block in blocks]
    with replaced_processors(layers, [ValueAttention() for _ in layers]):
        yield


@contextmanager
def replaced_processors(layers: Sequence[Any], processors: Sequence[Any]) -> Iterator[None]:
    """Context manager. Within it, each of the attention `layers` has the processor at the same index in `processors`.

    Afterwards each layer has its own processor again, even after an error.
    """
    own = [layer.processor for layer in layers]
    try:
        for layer, other in zip(layers, processors, strict=True):
            layer.processor = other
        yield
    finally:
        for layer, processor in zip(layers, own, strict=True):
            layer.processor = processor
