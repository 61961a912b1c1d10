"""The transformer's forward pass for training. It gives the results of diffusers' class in half the time.

All tokens of a latent frame have one noise level, so modulation is computed per frame and not per token. Attention is
written as matrix products, because the fused attention's backward pass is slow in bf16 on a CPU. All layers share one
compiled block, which saves a third of the time.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

COMPILED = {(9, 16), (31, 16)}
"""The (latent frames, cells per frame) for which the block is compiled: the most frequent of the stage `lasting`."""
Weights = dict[str, torch.Tensor]
Rope = tuple[torch.Tensor, torch.Tensor]


def _unit(x: torch.Tensor, eps: float) -> torch.Tensor:
    return x * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + eps).to(x.dtype)


def _rotate(x: torch.Tensor, rope: Rope) -> torch.Tensor:
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return x * rope[0] + torch.stack([-odd, even], dim=-1).flatten(-2) * rope[1]


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, bias: torch.Tensor | None) -> torch.Tensor:
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2)).float()
    if bias is not None:
        scores = scores + bias
    return torch.matmul(torch.softmax(scores, -1).to(v.dtype), v).transpose(1, 2).flatten(2)


def _project(x: torch.Tensor, w: Weights, name: str) -> torch.Tensor:
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def _block(
    x: torch.Tensor,
    modulation: torch.Tensor,
    rope: Rope,
    text: torch.Tensor,
    bias: torch.Tensor,
    heads: int,
    w: Weights,
) -> torch.Tensor:
    """Returns the output of one layer for tokens `[B, F, S, D]`.

    modulation: `[B, F, 6, D]`, without the layer's own table.
    text: the text tokens, `[B, L, D]`.
    bias: added to the scores of the text tokens, `[B, 1, 1, L]`; very negative for padding.
    w: the layer's weights by name.
    """
    frames = x.shape[1]
    table = (modulation + w["scale_shift_table"])[:, :, None]
    shift, scale, gate, shift_ff, scale_ff, gate_ff = table.unbind(3)

    h = (_unit(x, 1e-6) * (1 + scale) + shift).flatten(1, 2)
    q = _rotate(_unit(_project(h, w, "attn1.to_q"), 1e-5) * w["attn1.norm_q.weight"], rope)
    k = _rotate(_unit(_project(h, w, "attn1.to_k"), 1e-5) * w["attn1.norm_k.weight"], rope)
    h = _project(_attend(q, k, _project(h, w, "attn1.to_v"), heads, None), w, "attn1.to_out.0")
    x = x + h.unflatten(1, (frames, -1)) * gate

    q = _unit(_project(x.flatten(1, 2), w, "attn2.to_q"), 1e-5) * w["attn2.norm_q.weight"]
    k = _unit(_project(text, w, "attn2.to_k"), 1e-5) * w["attn2.norm_k.weight"]
    h = _project(_attend(q, k, _project(text, w, "attn2.to_v"), heads, bias), w, "attn2.to_out.0")
    x = x + h.unflatten(1, (frames, -1))

    h = _unit(x, 1e-6) * (1 + scale_ff) + shift_ff
    h = _project(F.gelu(_project(h, w, "ff.net.0.proj"), approximate="tanh"), w, "ff.net.2")
    return x + h * gate_ff


class Forward:
    """The forward pass of an `LTXVideoTransformer3DModel`.

    compiled: True compiles the block for the shapes in COMPILED. Evaluation and tests set it to False.
    """

    def __init__(self, model: Any, compiled: bool = True) -> None:
        self.model = model
        self.heads: int = model.config.num_attention_heads
        self.weights: list[Weights] = [dict(block.named_parameters()) for block in model.transformer_blocks]
        self.compiled: Callable[..., torch.Tensor] = torch.compile(_block, dynamic=False) if compiled else _block

    def __call__(
        self, x: torch.Tensor, sigmas: torch.Tensor, text: torch.Tensor, mask: torch.Tensor, coords: torch.Tensor
    ) -> torch.Tensor:
        """Returns the velocities `[B, F, S, C]` of noisy tokens.

        x: the noisy tokens, `[B, F, S, C]`.
        sigmas: the noise level of each frame, `[B, F]`.
        text, mask: the encoded prompts `[B, L, CAPTION]`, and 1 for each of their tokens `[B, L]`.
        coords: the tokens' positions in (seconds, y px, x px), `[1, 3, F * S]`.
        """
        model, dtype = self.model, x.dtype
        batch, frames = sigmas.shape
        rope: Rope = tuple(part.to(dtype) for part in model.rope(x.flatten(1, 2)[:1], video_coords=coords))
        time = model.time_embed
        embedded = time.emb.timestep_embedder(time.emb.time_proj(sigmas.flatten() * 1000).to(dtype))
        modulation = time.linear(time.silu(embedded)).view(batch, frames, 6, -1)
        text = model.caption_projection(text)
        bias = ((1 - mask.float()) * -10000.0)[:, None, None]
        block = self.compiled if (frames, x.shape[2]) in COMPILED else _block
        x = model.proj_in(x)
        for weights in self.weights:
            x = block(x, modulation, rope, text, bias, self.heads, weights)
        shift, scale = (model.scale_shift_table + embedded.view(batch, frames, 1, -1))[:, :, None].unbind(3)
        out: torch.Tensor = model.proj_out(model.norm_out(x) * (1 + scale) + shift)
        return out
