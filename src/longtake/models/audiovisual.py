"""The forward pass of the LTX-2 transformer: several predictions of video and audio in one evaluation.

The weights are those of diffusers' class. The class's own forward pass is replaced by the one in this module, which
differs from it in four ways:
- In the attention between video and audio, shift and scale follow each token's own noise level, and the gate follows
  the noise level of the other modality.
- The self-attention of one modality alone can be switched off (for spatio-temporal guidance).
- A video without sound needs no audio tokens.
- Modulation is stored once per distinct noise level and not once per token, which takes a hundredth of the memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from longtake.models.frequencies import keep_float64_on_host, sinusoids

Stream = Literal["video", "audio"]
"""A modality. Where both are listed, `video` is first."""

Tokens = Mapping[Stream, Tensor]
"""The tokens [B, n, C] of each modality; n differs between them. Audio is absent for a video without sound."""

OTHER: Mapping[Stream, Stream] = {"video": "audio", "audio": "video"}
"""For each modality, the other one."""

_PREFIX: Mapping[Stream, str] = {"video": "", "audio": "audio_"}
"""For each modality, the text with which diffusers' class begins the names of its modules."""

Rotary = tuple[Tensor, Tensor]
"""Cosines and sines of rotary position embeddings, in the shape [1, ...] that diffusers' attention expects."""


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt encoded for LTX-2: for each modality its text tokens [1, n, d], n tokens of width d."""

    video: Tensor
    audio: Tensor

    def to(self, device: torch.device | str) -> "EncodedPrompt":
        return EncodedPrompt(self.video.to(device), self.audio.to(device))


@dataclass(frozen=True)
class Prediction:
    """The conditions of one prediction. One evaluation of the transformer can make several predictions.

    prompt: the encoded prompt.
    disturbed: the modalities whose self-attention is switched off for spatio-temporal guidance (STG), so that each
        token attends to itself alone. This concerns only the blocks in the argument `stg_blocks` of `velocities`.
    isolated: True if video and audio do not attend to each other.
    """

    prompt: EncodedPrompt
    disturbed: frozenset[Stream] = frozenset()
    isolated: bool = False


class TrackInputs(Protocol):
    """The positions and noise levels of the n tokens of one modality (video or audio), for the transformer."""

    @property
    def bounds(self) -> Tensor:
        """Start and end of each of the n tokens on each axis, [1, axes, n, 2].

        The axes are (seconds, y px, x px) for video, and seconds for audio.
        """
        ...

    @property
    def levels(self) -> tuple[Tensor, Tensor]:
        """(shares, index): the noise level of each of the n tokens, as a share (0..1) of the step's noise level.

        shares [k] are the k distinct shares. index [n] says which of them each token has: token i has
        `shares[index[i]]`. A token of share 0 has no noise.
        """
        ...

    @property
    def is_free(self) -> bool:
        """True if any of the n tokens has noise to remove, False if all of them are given and stay unchanged.

        If False, the transformer uses noise level 0 for the whole modality.
        """
        ...


@dataclass(frozen=True)
class PositionedTracks:
    """The tracks (the tokens of each modality) and their rotary position embeddings, computed once for all steps.

    tracks: by modality; audio is absent for a video without sound.
    own: the embeddings for each modality's self-attention.
    cross: the embeddings for the attention between the modalities. They depend on the tokens' times alone.
    """

    tracks: Mapping[Stream, TrackInputs]
    own: Mapping[Stream, Rotary]
    cross: Mapping[Stream, Rotary]

    @classmethod
    def of(cls, transformer: Any, tracks: Mapping[Stream, TrackInputs]) -> "PositionedTracks":
        """Returns `tracks` with the position embeddings that the transformer's rotary layers compute for them."""
        own = {"video": transformer.rope, "audio": transformer.audio_rope}
        cross = {"video": transformer.cross_attn_rope, "audio": transformer.cross_attn_audio_rope}
        return cls(
            tracks,
            {stream: own[stream](track.bounds) for stream, track in tracks.items()},
            {stream: cross[stream](track.bounds[:, :1]) for stream, track in tracks.items()},
        )


def attach(transformer: Any) -> None:
    """Replaces the forward pass of an LTX-2.3 transformer by the one in this module. Call it before any hook is added.

    transformer: diffusers' LTX2VideoTransformer3DModel. Hooks for offloading, casting and adapters wrap its `forward`.
    """
    keep_float64_on_host(transformer)
    transformer.forward = partial(_forward, transformer)
    for block in transformer.transformer_blocks:
        block.forward = partial(_block_forward, block)
        for layer in block.children():
            if hasattr(layer, "processor"):  # attention, whose own forward pass inspects a signature at each call
                layer.forward = partial(layer.processor, layer)


def velocities(
    transformer: nn.Module,
    positioned: PositionedTracks,
    tokens: Tokens,
    sigma: float,
    predictions: Sequence[Prediction],
    stg_blocks: Sequence[int],
) -> dict[Stream, Tensor]:
    """Returns the velocities (noise minus clean tokens) of each modality: [predictions, n, C] in the tokens' dtype.

    transformer: one whose forward pass `attach` has replaced.
    positioned: the tracks (what is known of the tokens besides their values) with their position embeddings.
    tokens: the noisy tokens of each modality, [1, n, C]: n tokens with C channels each.
    sigma: the step's noise level, 0..1. A token's own noise level is its share (`TrackInputs.levels`) of sigma.
    predictions: the conditions of each prediction. Row i of the result belongs to predictions[i]. The transformer
        computes in the dtype of the encoded prompts.
    stg_blocks: numbers (from 0) of the blocks in which the `disturbed` modalities' self-attention is switched off.
    """
    found: dict[Stream, Tensor] = transformer(positioned, tokens, sigma, predictions, stg_blocks)
    return {stream: velocity.to(tokens[stream].dtype) for stream, velocity in found.items()}


@dataclass(frozen=True)
class _Modulation:
    """The inputs of all blocks for one modality: vectors that depend on noise levels, and the prompt's tokens.

    In the shapes, k is the number of distinct noise levels, n the number of tokens, and d the width of the modality's
    hidden states.

    table: nine vectors per level, [k, 9 d]: a shift, a scale and a gate each for self-attention, for feed-forward and
        for the attention to the prompt.
    cross: four vectors per level for the attention between the modalities, [k, 4 d]; None without the other modality.
    gate: the gate on what this modality reads from the other one, [1, d]; None without the other modality.
    prompt: shift and scale of the prompt's tokens, [1, 2 d].
    text: the prompt's tokens for each prediction, [predictions, text tokens, d].
    index: for each token the index of its noise level, [n].
    """

    table: Tensor
    cross: Tensor | None
    gate: Tensor | None
    prompt: Tensor
    text: Tensor
    index: Tensor

    def per_token(self, values: Tensor) -> Tensor:
        """Returns for each token the vector that belongs to its noise level: [1, n, d].

        values: one vector per noise level, [k, d]. If k is 1, the result is [1, 1, d], which broadcasts over tokens.
        """
        return values[None] if len(values) == 1 else values[self.index][None]


@dataclass(frozen=True)
class _Evaluation:
    """The inputs of a transformer block besides the hidden states.

    Each row of the hidden states, counted from 0, belongs to one prediction.

    positioned: the tracks with their position embeddings.
    modulation: for each modality, the vectors that shift, scale and gate its tokens.
    disturbed: for each modality, the rows in which the self-attention is switched off in this block (STG).
    connected: the rows in which video and audio attend to each other.
    """

    positioned: PositionedTracks
    modulation: Mapping[Stream, _Modulation]
    disturbed: Mapping[Stream, list[int]]
    connected: list[int]


def _forward(
    model: Any,
    positioned: PositionedTracks,
    tokens: Tokens,
    sigma: float,
    predictions: Sequence[Prediction],
    stg_blocks: Sequence[int],
) -> dict[Stream, Tensor]:
    dtype = predictions[0].prompt.video.dtype
    hidden: dict[Stream, Tensor] = {}
    modulation: dict[Stream, _Modulation] = {}
    embedded: dict[Stream, Tensor] = {}
    noise = {stream: sigma if track.is_free else 0.0 for stream, track in positioned.tracks.items()}
    for stream, track in positioned.tracks.items():
        hidden[stream] = _part(model, stream, "proj_in")(tokens[stream].to(dtype)).expand(len(predictions), -1, -1)
        shares, index = track.levels
        embed = partial(_embedded, dtype=dtype)
        table, embedded[stream] = embed(_part(model, stream, "time_embed"), shares * sigma)
        own = torch.full_like(shares[:1], noise[stream])
        cross, gate = None, None
        if len(positioned.tracks) == 2:
            other = torch.full_like(own, noise[OTHER[stream]] * _gate_multiplier(model))
            cross, _ = embed(_part(model, stream, _CROSS[stream]), shares * sigma)
            gate, _ = embed(_part(model, stream, _GATE[stream]), other)
        prompt, _ = embed(_part(model, stream, "prompt_adaln"), own)
        text = torch.cat([getattr(prediction.prompt, stream) for prediction in predictions])
        modulation[stream] = _Modulation(table, cross, gate, prompt, text, index)
    connected = [row for row, prediction in enumerate(predictions) if not prediction.isolated]
    for number, block in enumerate(model.transformer_blocks):
        disturbed: dict[Stream, list[int]] = {
            stream: [
                row
                for row, prediction in enumerate(predictions)
                if stream in prediction.disturbed and number in stg_blocks
            ]
            for stream in hidden
        }
        hidden = block(hidden, _Evaluation(positioned, modulation, disturbed, connected))
    out: dict[Stream, Tensor] = {}
    for stream, x in hidden.items():
        shift, scale = (_part(model, stream, "scale_shift_table") + embedded[stream][:, None]).unbind(1)
        per_token = modulation[stream].per_token
        normal = _part(model, stream, "norm_out")(x)
        out[stream] = _part(model, stream, "proj_out")(_modulated(normal, per_token(shift), per_token(scale)))
    return out


_CROSS: Mapping[Stream, str] = {"video": "av_cross_attn_video_scale_shift", "audio": "av_cross_attn_audio_scale_shift"}
_GATE: Mapping[Stream, str] = {"video": "av_cross_attn_video_a2v_gate", "audio": "av_cross_attn_audio_v2a_gate"}


def _block_forward(block: Any, hidden: Mapping[Stream, Tensor], evaluation: _Evaluation) -> dict[Stream, Tensor]:
    """Returns each modality's hidden states after one transformer block.

    The block runs self-attention, attention to the prompt, attention to the other modality, and feed-forward.
    block: the block of diffusers' transformer, which has the layers.
    hidden: each modality's hidden states before the block.
    evaluation: the other inputs of the block.
    """
    x = dict(hidden)
    tables: dict[Stream, tuple[Tensor, ...]] = {}
    for stream in x:
        own = evaluation.modulation[stream]
        part, at = partial(_part, block, stream), own.per_token
        tables[stream] = (part("scale_shift_table") + own.table.unflatten(-1, (9, -1))).unbind(1)
        shift, scale, gate, *_, shift_text, scale_text, gate_text = tables[stream]
        h = _modulated(part("norm1")(x[stream]), at(shift), at(scale))
        h = _self_attention(part("attn1"), h, evaluation.positioned.own[stream], evaluation.disturbed[stream])
        x[stream] = x[stream] + h * at(gate)
        shift, scale = (part("prompt_scale_shift_table") + own.prompt.unflatten(-1, (2, -1))).unbind(1)
        h = _modulated(part("norm2")(x[stream]), at(shift_text), at(scale_text))
        h = part("attn2")(h, encoder_hidden_states=_modulated(own.text, shift, scale))
        x[stream] = x[stream] + h * at(gate_text)
    if len(x) == 2 and evaluation.connected:
        x = _exchanged(block, x, evaluation)
    for stream in x:
        _, _, _, shift, scale, gate, *_ = tables[stream]
        part, at = partial(_part, block, stream), evaluation.modulation[stream].per_token
        h = _modulated(part("norm3")(x[stream]), at(shift), at(scale))
        x[stream] = x[stream] + part("ff")(h) * at(gate)
    return x


def _exchanged(block: Any, hidden: Mapping[Stream, Tensor], evaluation: _Evaluation) -> dict[Stream, Tensor]:
    """Returns the hidden states after the attention between the modalities: video attends to audio, and audio to video.

    The states of predictions that are not in `evaluation.connected` stay unchanged.

    block: the transformer block, which has the layers.
    evaluation: the inputs of the block besides `hidden`.
    """
    rows: Any = slice(None) if len(evaluation.connected) == len(hidden["video"]) else evaluation.connected
    tables = {
        "video": block.video_a2v_cross_attn_scale_shift_table,
        "audio": block.audio_a2v_cross_attn_scale_shift_table,
    }
    normal = {
        "video": block.audio_to_video_norm(hidden["video"][rows]),
        "audio": block.video_to_audio_norm(hidden["audio"][rows]),
    }
    # The vectors are scale and shift for the flow from audio to video, then those for the flow from video to audio.
    ways = {"video": (0, 1), "audio": (2, 3)}
    attention = {"video": block.audio_to_video_attn, "audio": block.video_to_audio_attn}
    out: dict[Stream, Tensor] = {}
    for stream, x in hidden.items():
        towards: dict[str, Tensor] = {}
        for side in hidden:
            own = evaluation.modulation[side]
            assert own.cross is not None
            vectors = (tables[side][:4] + own.cross.unflatten(-1, (4, -1))).unbind(1)
            scale, shift = (own.per_token(vectors[number]) for number in ways[stream])
            towards[side] = _modulated(normal[side], shift, scale)
        count = len(evaluation.connected)
        h = attention[stream](
            towards[stream],
            encoder_hidden_states=towards[OTHER[stream]],
            query_rotary_emb=_for_rows(evaluation.positioned.cross[stream], count),
            key_rotary_emb=_for_rows(evaluation.positioned.cross[OTHER[stream]], count),
        )
        gate = evaluation.modulation[stream].gate
        assert gate is not None
        h = h * (tables[stream][4:] + gate)[None]
        if rows == slice(None):
            out[stream] = x + h
        else:
            out[stream] = x.clone()
            out[stream][rows] += h
    return out


def _self_attention(attn: Any, x: Tensor, rotary: Rotary, disturbed: list[int]) -> Tensor:
    """Returns the output of a self-attention layer for the hidden states x, which have one row for each prediction.

    attn: the layer.
    rotary: the position embeddings of the tokens.
    disturbed: the rows of x in which each token attends to itself alone.
    """
    if not disturbed:
        return attn(x, query_rotary_emb=_for_rows(rotary, len(x)))  # type: ignore[no-any-return]
    whole = [row for row in range(len(x)) if row not in disturbed]
    out = torch.empty_like(x)
    out[disturbed] = _values(attn, x[disturbed])
    if whole:
        out[whole] = attn(x[whole], query_rotary_emb=_for_rows(rotary, len(whole)))
    return out


def _values(attn: Any, x: Tensor) -> Tensor:
    """Returns the output of the self-attention `attn` if each token of x attends to itself alone.

    The output of a token is then its own value vector, multiplied by the heads' gates if `attn` has gates, and passed
    through the output projection.
    """
    value = attn.to_v(x)
    if attn.to_gate_logits is not None:
        gates = 2 * torch.sigmoid(attn.to_gate_logits(x))
        value = (value.unflatten(-1, (attn.heads, -1)) * gates[..., None]).flatten(-2)
    out: Tensor = attn.to_out[0](value)
    return out


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


def _embedded(layer: Any, times: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Returns the two outputs of an AdaLN layer for k noise levels: (modulation [k, m * d], embedding [k, d]).

    The modulation of each level consists of m vectors of width d; the layer decides m. It computes in `dtype`.
    times: the noise levels [k] in 0..1.
    """
    embedding: Tensor = layer.emb.timestep_embedder(sinusoids(times * 1000, layer.emb.time_proj.num_channels).to(dtype))
    return layer.linear(layer.silu(embedding)), embedding


def _gate_multiplier(model: Any) -> float:
    """Returns a factor for the gates of the attention between video and audio.

    The gate of one modality's tokens is computed from this factor times the noise level of the other modality.

    model: diffusers' transformer.
    """
    config = model.config
    return float(config.cross_attn_timestep_scale_multiplier / config.timestep_scale_multiplier)


def _for_rows(rotary: Rotary, count: int) -> Rotary:
    """Returns a copy of position embeddings of shape [1, ...] that is expanded to `count` rows: [count, ...]."""
    cos, sin = (values.expand(count, *values.shape[1:]) for values in rotary)
    return cos, sin


def _part(module: Any, stream: Stream, name: str) -> Any:
    """Returns the submodule or parameter of `module` that belongs to a modality.

    name: its name for video. For audio, `audio_` is put before it. A name that begins with `av_` stays as it is.
    """
    return getattr(module, name if name.startswith("av_") else _PREFIX[stream] + name)
