"""One evaluation of the LTX-2 transformer: several predictions of picture and sound at once, from diffusers' weights.

diffusers' own forward pass is not used, for four reasons: scale and shift of the attention between the modalities must
follow each token's own noise level and the gate the other modality's (there both follow one of them); attention must
be disturbable for one modality alone; a video without sound needs no audio at all; and modulation for each distinct
noise level, looked up per token where it is used, takes a hundredth of the memory of modulation per token.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

Stream = Literal["video", "audio"]
"""The two modalities, in the order in which noise is drawn for them."""

Tokens = Mapping[Stream, Tensor]
"""Tokens [B, n, C] of each modality that takes part."""

OTHER: Mapping[Stream, Stream] = {"video": "audio", "audio": "video"}
_PREFIX: Mapping[Stream, str] = {"video": "", "audio": "audio_"}
"""diffusers' names of the audio's modules begin with this; the video's are without."""

Rotary = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt encoded for LTX-2: text tokens [1, n, d] for each modality."""

    video: Tensor
    audio: Tensor

    def to(self, device: torch.device | str) -> "EncodedPrompt":
        return EncodedPrompt(self.video.to(device), self.audio.to(device))


@dataclass(frozen=True)
class Look:
    """One prediction to make: for this `prompt`; `disturbed` are the modalities whose self-attention passes values on
    and looks at no other token, in the guidance's blocks; `isolated`: video and audio do not see each other."""

    prompt: EncodedPrompt
    disturbed: frozenset[Stream] = frozenset()
    isolated: bool = False


class Placed(Protocol):
    """One modality's tokens as the transformer needs to know them: their `bounds` [1, axes, n, 2], the `levels`, which
    are the distinct shares [k] of the noise that tokens carry and each token's index [n] into them, and whether it
    `is_free`, that is, whether any token carries noise."""

    @property
    def bounds(self) -> Tensor: ...
    @property
    def levels(self) -> tuple[Tensor, Tensor]: ...
    @property
    def is_free(self) -> bool: ...


@dataclass(frozen=True)
class Layout:
    """What a transformer needs to know of a window's tracks and that no step changes: with each the rotary embeddings
    among itself and towards the other."""

    tracks: Mapping[Stream, Placed]
    own: Mapping[Stream, Rotary]
    cross: Mapping[Stream, Rotary]

    @classmethod
    def of(cls, transformer: Any, tracks: Mapping[Stream, Placed]) -> "Layout":
        embed = {"video": transformer.rope, "audio": transformer.audio_rope}
        towards = {"video": transformer.cross_attn_rope, "audio": transformer.cross_attn_audio_rope}
        return cls(
            tracks,
            {stream: embed[stream](track.bounds) for stream, track in tracks.items()},
            {stream: towards[stream](track.bounds[:, :1]) for stream, track in tracks.items()},
        )


def attach(transformer: Any) -> None:
    """Gives a diffusers LTX2VideoTransformer3DModel, of the LTX-2.3 layout, the forward pass of this file.

    On the instance, before any hook is put on it, so that offloading, casting and adapters find what they know.
    """
    transformer.forward = partial(_forward, transformer)
    for block in transformer.transformer_blocks:
        block.forward = partial(_block_forward, block)


def velocities(
    transformer: nn.Module,
    layout: Layout,
    tokens: Tokens,
    sigma: float,
    looks: Sequence[Look],
    blocks: Sequence[int],
) -> dict[Stream, Tensor]:
    """The velocities n - x0 [looks, n, C] at noise level `sigma`, for every look and each modality of `layout`.

    `tokens` are [1, n, C]; a token's own level is its share of sigma. `blocks` are those that a look's
    `disturbed` concerns. The model computes in the precision of the words; the results are in the tokens'.
    """
    predictions: dict[Stream, Tensor] = transformer(layout, tokens, sigma, looks, blocks)
    return {stream: prediction.to(tokens[stream].dtype) for stream, prediction in predictions.items()}


@dataclass(frozen=True)
class _Modulation:
    """What noise levels mean to one modality, per distinct level [k, ...]: `table` of 9 and `cross` of 4 vectors; the
    `gate` on what it takes from the other modality, `prompt` shift and scale, and the words [looks, n, d]."""

    table: Tensor
    cross: Tensor | None
    gate: Tensor | None
    prompt: Tensor
    words: Tensor
    index: Tensor

    def at(self, values: Tensor) -> Tensor:
        """Vectors per level [k, d] as [1, n or 1, d]: each token's own."""
        return values[None] if len(values) == 1 else values[self.index][None]


@dataclass(frozen=True)
class _Step:
    """All that the blocks share in one evaluation."""

    layout: Layout
    modulation: Mapping[Stream, _Modulation]
    disturbed: Mapping[Stream, list[int]]
    connected: list[int]


def _forward(
    model: Any, layout: Layout, tokens: Tokens, sigma: float, looks: Sequence[Look], blocks: Sequence[int]
) -> dict[Stream, Tensor]:
    dtype = looks[0].prompt.video.dtype
    hidden: dict[Stream, Tensor] = {}
    modulation: dict[Stream, _Modulation] = {}
    embedded: dict[Stream, Tensor] = {}
    noise = {stream: sigma if track.is_free else 0.0 for stream, track in layout.tracks.items()}
    for stream, track in layout.tracks.items():
        hidden[stream] = _part(model, stream, "proj_in")(tokens[stream].to(dtype)).expand(len(looks), -1, -1)
        values, index = track.levels
        embed = partial(_embedded, dtype=dtype)
        table, embedded[stream] = embed(_part(model, stream, "time_embed"), values * sigma)
        own = torch.full_like(values[:1], noise[stream])
        cross, gate = None, None
        if len(layout.tracks) == 2:
            other = torch.full_like(own, noise[OTHER[stream]] * _gate_multiplier(model))
            cross, _ = embed(_part(model, stream, _CROSS[stream]), values * sigma)
            gate, _ = embed(_part(model, stream, _GATE[stream]), other)
        prompt, _ = embed(_part(model, stream, "prompt_adaln"), own)
        words = torch.cat([getattr(look.prompt, stream) for look in looks])
        modulation[stream] = _Modulation(table, cross, gate, prompt, words, index)
    connected = [row for row, look in enumerate(looks) if not look.isolated]
    for number, block in enumerate(model.transformer_blocks):
        disturbed: dict[Stream, list[int]] = {
            stream: [row for row, look in enumerate(looks) if stream in look.disturbed and number in blocks]
            for stream in hidden
        }
        hidden = block(hidden, _Step(layout, modulation, disturbed, connected))
    out: dict[Stream, Tensor] = {}
    for stream, x in hidden.items():
        shift, scale = (_part(model, stream, "scale_shift_table") + embedded[stream][:, None]).unbind(1)
        at = modulation[stream].at
        out[stream] = _part(model, stream, "proj_out")(
            _part(model, stream, "norm_out")(x) * (1 + at(scale)) + at(shift)
        )
    return out


_CROSS: Mapping[Stream, str] = {"video": "av_cross_attn_video_scale_shift", "audio": "av_cross_attn_audio_scale_shift"}
_GATE: Mapping[Stream, str] = {"video": "av_cross_attn_video_a2v_gate", "audio": "av_cross_attn_audio_v2a_gate"}


def _block_forward(block: Any, hidden: Mapping[Stream, Tensor], step: _Step) -> dict[Stream, Tensor]:
    """Self-attention, the prompt, the other modality, feed-forward."""
    x = dict(hidden)
    tables: dict[Stream, tuple[Tensor, ...]] = {}
    for stream in x:
        own = step.modulation[stream]
        part, at = partial(_part, block, stream), own.at
        tables[stream] = (part("scale_shift_table") + own.table.unflatten(-1, (9, -1))).unbind(1)
        shift, scale, gate, *_, shift_text, scale_text, gate_text = tables[stream]
        h = _modulated(part("norm1")(x[stream]), at(shift), at(scale))
        h = _self_attention(part("attn1"), h, step.layout.own[stream], step.disturbed[stream])
        x[stream] = x[stream] + h * at(gate)
        shift, scale = (part("prompt_scale_shift_table") + own.prompt.unflatten(-1, (2, -1))).unbind(1)
        h = _modulated(part("norm2")(x[stream]), at(shift_text), at(scale_text))
        h = part("attn2")(h, encoder_hidden_states=_modulated(own.words, shift, scale))
        x[stream] = x[stream] + h * at(gate_text)
    if len(x) == 2 and step.connected:
        x = _exchanged(block, x, step)
    for stream in x:
        _, _, _, shift, scale, gate, *_ = tables[stream]
        part, at = partial(_part, block, stream), step.modulation[stream].at
        h = _modulated(part("norm3")(x[stream]), at(shift), at(scale))
        x[stream] = x[stream] + part("ff")(h) * at(gate)
    return x


def _exchanged(block: Any, hidden: Mapping[Stream, Tensor], step: _Step) -> dict[Stream, Tensor]:
    """Each modality attends to the other, as both were before: of the four vectors per level two are for what flows
    from audio to video, two for the other way."""
    rows: Any = slice(None) if len(step.connected) == len(hidden["video"]) else step.connected
    tables = {
        "video": block.video_a2v_cross_attn_scale_shift_table,
        "audio": block.audio_a2v_cross_attn_scale_shift_table,
    }
    normal = {
        "video": block.audio_to_video_norm(hidden["video"][rows]),
        "audio": block.video_to_audio_norm(hidden["audio"][rows]),
    }
    ways = {"video": (0, 1), "audio": (2, 3)}
    attention = {"video": block.audio_to_video_attn, "audio": block.video_to_audio_attn}
    out: dict[Stream, Tensor] = {}
    for stream, x in hidden.items():
        towards: dict[str, Tensor] = {}
        for side in hidden:
            own = step.modulation[side]
            assert own.cross is not None
            vectors = (tables[side][:4] + own.cross.unflatten(-1, (4, -1))).unbind(1)
            scale, shift = (own.at(vectors[number]) for number in ways[stream])
            towards[side] = _modulated(normal[side], shift, scale)
        count = len(step.connected)
        h = attention[stream](
            towards[stream],
            encoder_hidden_states=towards[OTHER[stream]],
            query_rotary_emb=_for_rows(step.layout.cross[stream], count),
            key_rotary_emb=_for_rows(step.layout.cross[OTHER[stream]], count),
        )
        gate = step.modulation[stream].gate
        assert gate is not None
        h = h * (tables[stream][4:] + gate)[None]
        if rows == slice(None):
            out[stream] = x + h
        else:
            out[stream] = x.clone()
            out[stream][rows] += h
    return out


def _self_attention(attn: Any, x: Tensor, rotary: Rotary, disturbed: list[int]) -> Tensor:
    """Attention, but the values alone in the `disturbed` rows."""
    if not disturbed:
        return attn(x, query_rotary_emb=_for_rows(rotary, len(x)))  # type: ignore[no-any-return]
    whole = [row for row in range(len(x)) if row not in disturbed]
    out = torch.empty_like(x)
    out[disturbed] = _values(attn, x[disturbed])
    if whole:
        out[whole] = attn(x[whole], query_rotary_emb=_for_rows(rotary, len(whole)))
    return out


def _values(attn: Any, x: Tensor) -> Tensor:
    """What attention gives where every token looks at itself alone: its value, through the gate of each head."""
    value = attn.to_v(x)
    if attn.to_gate_logits is not None:
        gates = 2 * torch.sigmoid(attn.to_gate_logits(x))
        value = (value.unflatten(-1, (attn.heads, -1)) * gates[..., None]).flatten(-2)
    out: Tensor = attn.to_out[0](value)
    return out


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


def _embedded(layer: Any, times: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """An AdaLN layer at noise levels [k]: its modulation [k, m * d] and the embedding of the levels [k, d]."""
    embedding: Tensor = layer.emb.timestep_embedder(_waves(times * 1000, layer.emb.time_proj.num_channels).to(dtype))
    return layer.linear(layer.silu(embedding)), embedding


def _waves(times: Tensor, channels: int) -> Tensor:
    """Cosines, then sines of times [k] at frequencies from 1 down to 1/10000: [k, channels] float32.

    A time is up to 1000 radians, so that a frequency off by one rounding moves what the model says by 1e-5. Rounding
    exp from double precision is the same on every processor; PyTorch's own in single precision is not.
    """
    half = channels // 2
    exponents = -math.log(10_000) * torch.arange(half, device=times.device, dtype=torch.float32) / half
    angles = times[:, None] * exponents.double().exp().float()
    return torch.cat([angles.cos(), angles.sin()], 1)


def _gate_multiplier(model: Any) -> float:
    config = model.config
    return float(config.cross_attn_timestep_scale_multiplier / config.timestep_scale_multiplier)


def _for_rows(rotary: Rotary, count: int) -> Rotary:
    cos, sin = (part.expand(count, *part.shape[1:]) for part in rotary)
    return cos, sin


def _part(module: Any, stream: Stream, name: str) -> Any:
    return getattr(module, name if name.startswith("av_") else _PREFIX[stream] + name)
