"""The transformer's forward pass for training. It is faster than that of diffusers' class.

As in `recipes.tiny.forward`, modulation of the video is computed per latent frame, attention is written as matrix
products, and all layers share one compiled block. The attention between video and sound follows the published model,
not diffusers: its scale and shift depend on each token's own noise level, and its gate on the noise level of the other
modality.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

COMPILED = {(9, 16), (31, 16)}
"""The (latent frames, cells per frame) for which the block is compiled: the most frequent of the stage `lasting`."""
EPS = 1e-6
Weights = dict[str, torch.Tensor]
Rope = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Modality:
    """The input of one stream: F latent frames of S tokens. Sound has S = 1.

    x: the noisy tokens, `[B, F, S, C]`.
    sigmas: the noise level of each latent frame, `[B, F]`.
    level: the noise level of the window, `[B]`.
    text: the text tokens, `[B, L, D]`.
    coords: the start and end of each token in seconds and pixels, `[1, axes, F * S, 2]`.
    """

    x: torch.Tensor
    sigmas: torch.Tensor
    level: torch.Tensor
    text: torch.Tensor
    coords: torch.Tensor


def _unit(x: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + EPS).to(x.dtype)


def _rotate(x: torch.Tensor, rope: Rope) -> torch.Tensor:
    """Rotates the two halves of each head of `[B, N, heads, d]` by angles `[1, N, heads, d / 2]`."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * rope[0] - b * rope[1], b * rope[0] + a * rope[1]], dim=-1)


def _linear(x: torch.Tensor, w: Weights, name: str) -> torch.Tensor:
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def _attend(
    x: torch.Tensor, other: torch.Tensor, w: Weights, name: str, heads: int, ropes: tuple[Rope, Rope] | None
) -> torch.Tensor:
    """Returns the output of the attention of `x` `[B, N, D]` to `other` `[B, M, E]`, with a gate per head.

    w, name: the layer's weights, and the name of the attention in them.
    ropes: the rotary embeddings of `x` and of `other`; None for none.
    """
    q = (_unit(_linear(x, w, f"{name}.to_q")) * w[f"{name}.norm_q.weight"]).unflatten(-1, (heads, -1))
    k = (_unit(_linear(other, w, f"{name}.to_k")) * w[f"{name}.norm_k.weight"]).unflatten(-1, (heads, -1))
    v = _linear(other, w, f"{name}.to_v").unflatten(-1, (heads, -1))
    if ropes is not None:
        q, k = _rotate(q, ropes[0]), _rotate(k, ropes[1])
    q, k, v = (part.transpose(1, 2) for part in (q * q.shape[-1] ** -0.5, k, v))
    weights = torch.softmax(torch.matmul(q, k.transpose(-1, -2)).float(), -1).to(v.dtype)
    gates = 2 * torch.sigmoid(_linear(x, w, f"{name}.to_gate_logits"))
    mixed = torch.matmul(weights, v).transpose(1, 2) * gates[..., None]
    return _linear(mixed.flatten(2), w, f"{name}.to_out.0")


def _modulate(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    return (_unit(x) * (1 + scale) + shift).flatten(1, 2)


def _alone(
    x: torch.Tensor,
    base: torch.Tensor,
    prompt: torch.Tensor,
    text: torch.Tensor,
    cross: torch.Tensor,
    rope: Rope,
    heads: int,
    w: Weights,
    prefix: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Runs the first half of a block for one stream `x` `[B, F, S, D]`: self-attention and attention to the text.

    base, prompt, cross: the modulations `[B, F, 1, 9, D]`, `[B, 2, D]` and `[B, F, 1, 4, D]`, without the layer's own
        tables.

    Returns the stream, and two modulated copies of it `[B, F * S, D]`: for the attention from sound to video, and for
    the attention from video to sound.
    """
    frames = x.shape[1]
    shift, scale, gate, _, _, _, shift_q, scale_q, gate_q = base.unbind(3)
    h = _modulate(x, scale, shift)
    x = x + _attend(h, h, w, f"{prefix}attn1", heads, (rope, rope)).unflatten(1, (frames, -1)) * gate
    shift_kv, scale_kv = prompt[:, :, None].unbind(1)
    h = _attend(_modulate(x, scale_q, shift_q), text * (1 + scale_kv) + shift_kv, w, f"{prefix}attn2", heads, None)
    x = x + h.unflatten(1, (frames, -1)) * gate_q
    scale_in, shift_in, scale_out, shift_out = cross.unbind(3)
    return x, _modulate(x, scale_in, shift_in), _modulate(x, scale_out, shift_out)


def _ended(
    x: torch.Tensor, heard: torch.Tensor, gate: torch.Tensor, base: torch.Tensor, w: Weights, prefix: str
) -> torch.Tensor:
    """Runs the second half of a block for one stream: adds `heard` times `gate`, and applies the feed-forward layer.

    heard: the output of the attention to the other stream, `[B, F * S, D]`. gate: `[B, 1, 1, D]`.
    """
    x = x + heard.unflatten(1, (x.shape[1], -1)) * gate
    _, _, _, shift, scale, gate_ff, _, _, _ = base.unbind(3)
    h = _unit(x) * (1 + scale) + shift
    h = _linear(F.gelu(_linear(h, w, f"{prefix}ff.net.0.proj"), approximate="tanh"), w, f"{prefix}ff.net.2")
    return x + h * gate_ff


@dataclass(frozen=True)
class _Times:
    """The modulations of a stream, which depend on its noise levels. The layers' own tables are added later."""

    base: torch.Tensor
    prompt: torch.Tensor
    cross: torch.Tensor
    gate: torch.Tensor


class Forward:
    """The forward pass of an `LTX2VideoTransformer3DModel`.

    compiled: True compiles the block for the shapes in COMPILED. Evaluation and tests set it to False.
    """

    def __init__(self, model: Any, compiled: bool = True) -> None:
        self.model = model
        self.heads: int = model.config.num_attention_heads
        self.weights: list[Weights] = [dict(block.named_parameters()) for block in model.transformer_blocks]
        self.fast: tuple[Callable[..., Any], Callable[..., Any]] = (
            (torch.compile(_alone, dynamic=False), torch.compile(_ended, dynamic=False))
            if compiled
            else (_alone, _ended)
        )

    def _embed(self, name: str, sigmas: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the modulation and the embedding of noise levels `sigmas` `[...]` by the model's module `name`."""
        module = self.model.get_submodule(name)
        projected = module.emb.time_proj(sigmas.flatten() * 1000).to(dtype)
        embedded = module.emb.timestep_embedder(projected).unflatten(0, sigmas.shape)
        return module.linear(module.silu(embedded)), embedded

    def _rope(self, name: str, coords: torch.Tensor, dtype: torch.dtype) -> Rope:
        cos, sin = self.model.get_submodule(name)(coords)
        return cos.transpose(1, 2).to(dtype), sin.transpose(1, 2).to(dtype)

    def _times(self, name: str, stream: Modality, other: Modality) -> tuple[_Times, torch.Tensor]:
        """Returns a stream's modulations, and the embedding of its noise levels for the output layer."""
        dtype = stream.x.dtype
        prefix, gate = ("", "a2v") if name == "video" else ("audio_", "v2a")
        base, embedded = self._embed(f"{prefix}time_embed", stream.sigmas, dtype)
        prompt, _ = self._embed(f"{prefix}prompt_adaln", stream.level, dtype)
        cross, _ = self._embed(f"av_cross_attn_{name}_scale_shift", stream.sigmas, dtype)
        gates, _ = self._embed(f"av_cross_attn_{name}_{gate}_gate", other.level, dtype)
        base, cross = base.unflatten(-1, (9, -1))[:, :, None], cross.unflatten(-1, (4, -1))[:, :, None]
        return _Times(base, prompt.unflatten(-1, (2, -1)), cross, gates[:, None, None]), embedded

    def __call__(self, video: Modality, audio: Modality, linked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the velocities of both streams, each in the shape of its `x`.

        linked: `[B]`; 1 if the streams of an example attend to each other, 0 if not.
        """
        model, dtype = self.model, video.x.dtype
        seen, seen_embedded = self._times("video", video, audio)
        heard, heard_embedded = self._times("audio", audio, video)
        own = self._rope("rope", video.coords, dtype), self._rope("audio_rope", audio.coords, dtype)
        cross = (
            self._rope("cross_attn_rope", video.coords[:, :1], dtype),
            self._rope("cross_attn_audio_rope", audio.coords[:, :1], dtype),
        )
        alone, ended = self.fast if video.x.shape[1:3] in COMPILED else (_alone, _ended)
        together = linked.to(dtype)[:, None, None, None]
        heads = self.heads
        x, a = model.proj_in(video.x), model.audio_proj_in(audio.x)
        for w in self.weights:
            base, audio_base = seen.base + w["scale_shift_table"], heard.base + w["audio_scale_shift_table"]
            table, audio_table = (w[f"{k}_a2v_cross_attn_scale_shift_table"] for k in ("video", "audio"))
            prompt = seen.prompt + w["prompt_scale_shift_table"]
            x, asks, shows = alone(x, base, prompt, video.text, seen.cross + table[:4], own[0], heads, w, "")
            prompt = heard.prompt + w["audio_prompt_scale_shift_table"]
            a, tells, listens = _alone(
                a, audio_base, prompt, audio.text, heard.cross + audio_table[:4], own[1], heads, w, "audio_"
            )
            to_video = _attend(asks, tells, w, "audio_to_video_attn", heads, cross)
            to_audio = _attend(listens, shows, w, "video_to_audio_attn", heads, (cross[1], cross[0]))
            x = ended(x, to_video, (seen.gate + table[4]) * together, base, w, "")
            a = _ended(a, to_audio, (heard.gate + audio_table[4]) * together, audio_base, w, "audio_")
        shift, scale = (model.scale_shift_table + seen_embedded[:, :, None]).unsqueeze(2).unbind(3)
        made: torch.Tensor = model.proj_out(model.norm_out(x) * (1 + scale) + shift)
        shift, scale = (model.audio_scale_shift_table + heard_embedded[:, :, None]).unsqueeze(2).unbind(3)
        return made, model.audio_proj_out(model.audio_norm_out(a) * (1 + scale) + shift)
