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
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from longtake.models.audiovisual_block import (
    OTHER,
    BlockInputs,
    Rotary,
    Rows,
    Stream,
    StreamInputs,
    block_forward,
    modulated,
    part,
)
from longtake.models.frequencies import keep_float64_on_host, sinusoids

__all__ = ["EncodedPrompt", "PositionedTracks", "Prediction", "Stream", "Tokens", "TrackInputs", "attach", "velocities"]

Tokens = Mapping[Stream, Tensor]
"""The tokens [B, n, C] of each modality; n differs between them. Audio is absent for a video without sound."""


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
    """The positions and noise levels of the n tokens of one modality, for the transformer."""

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
        """True if any of the n tokens of this modality has noise to remove.

        If all of them are given and stay unchanged, it is False, and the transformer uses noise level 0 for the whole
        modality.
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
        """Returns `tracks`, and with it the position embeddings that the transformer's rotary layers compute for its
        tokens.

        tracks: for each modality, the positions and noise levels of its tokens.
        """
        own = {"video": transformer.rope, "audio": transformer.audio_rope}
        cross = {"video": transformer.cross_attn_rope, "audio": transformer.cross_attn_audio_rope}
        return cls(
            tracks,
            {stream: own[stream](track.bounds) for stream, track in tracks.items()},
            {stream: cross[stream](track.bounds[:, :1]) for stream, track in tracks.items()},
        )


def attach(transformer: Any) -> None:
    """Replaces the forward pass of an LTX-2.3 transformer by the one in this module. Call it before any hook is added.

    transformer: diffusers' LTX2VideoTransformer3DModel. Hooks for offloading wrap its `forward`.
    """
    keep_float64_on_host(transformer)
    transformer.forward = partial(_forward, transformer)
    for block in transformer.transformer_blocks:
        block.forward = partial(block_forward, block)


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
        computes in the dtype of the encoded prompts. Isolated predictions, in which video and audio do not attend to
        each other, must be the last ones. Those that switch off the self-attention of the same modality (`disturbed`)
        must follow one another.
    stg_blocks: numbers (from 0) of the blocks in which the `disturbed` modalities' self-attention is switched off.
    """
    found: dict[Stream, Tensor] = transformer(positioned, tokens, sigma, predictions, stg_blocks)
    return {stream: velocity.to(tokens[stream].dtype) for stream, velocity in found.items()}


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
    inputs: dict[Stream, StreamInputs] = {}
    embedded: dict[Stream, Tensor] = {}
    noise = {stream: sigma if track.is_free else 0.0 for stream, track in positioned.tracks.items()}
    for stream, track in positioned.tracks.items():
        hidden[stream] = part(model, stream, "proj_in")(tokens[stream].to(dtype)).expand(len(predictions), -1, -1)
        shares, index = track.levels
        embed = partial(_embedded, dtype=dtype)
        table, embedded[stream] = embed(part(model, stream, "time_embed"), shares * sigma)
        own = torch.full_like(shares[:1], noise[stream])
        cross, gate = None, None
        if len(positioned.tracks) == 2:
            other = torch.full_like(own, noise[OTHER[stream]] * _gate_multiplier(model))
            cross, _ = embed(part(model, stream, _CROSS[stream]), shares * sigma)
            gate, _ = embed(part(model, stream, _GATE[stream]), other)
        prompt, _ = embed(part(model, stream, "prompt_adaln"), own)
        text = torch.cat([getattr(prediction.prompt, stream) for prediction in predictions])
        rotary = positioned.own[stream], positioned.cross[stream]
        inputs[stream] = StreamInputs(table, cross, gate, prompt, text, index, *rotary)
    usual = BlockInputs(inputs, {}, _num_connected(predictions))
    disturbing = replace(usual, disturbed=_disturbed_rows(predictions, list(hidden)))
    for number, block in enumerate(model.transformer_blocks):
        hidden = block(hidden, disturbing if number in stg_blocks else usual)
    out: dict[Stream, Tensor] = {}
    for stream, x in hidden.items():
        shift, scale = (part(model, stream, "scale_shift_table") + embedded[stream][:, None]).unbind(1)
        per_token = inputs[stream].per_token
        normal = part(model, stream, "norm_out")(x)
        out[stream] = part(model, stream, "proj_out")(modulated(normal, per_token(shift), per_token(scale)))
    return out


def _num_connected(predictions: Sequence[Prediction]) -> int:
    """Returns how many predictions are not isolated. In an isolated one, video and audio do not attend to each other.

    Raises ValueError if an isolated prediction is before one that is not.
    """
    count = sum(not prediction.isolated for prediction in predictions)
    if any(prediction.isolated for prediction in predictions[:count]):
        raise ValueError("isolated predictions must be the last ones")
    return count


def _disturbed_rows(predictions: Sequence[Prediction], streams: Sequence[Stream]) -> dict[Stream, Rows]:
    """Returns the rows (numbers in the batch) of the predictions whose self-attention is switched off for
    spatio-temporal guidance, for each modality that has such rows.

    Raises ValueError if the rows of a modality are not consecutive.
    """
    found: dict[Stream, Rows] = {}
    for stream in streams:
        rows = [row for row, prediction in enumerate(predictions) if stream in prediction.disturbed]
        if rows:
            found[stream] = (rows[0], rows[-1] + 1)
            if rows != list(range(*found[stream])):
                raise ValueError(f"the predictions with disturbed {stream} must follow one another")
    return found


_CROSS: Mapping[Stream, str] = {"video": "av_cross_attn_video_scale_shift", "audio": "av_cross_attn_audio_scale_shift"}
_GATE: Mapping[Stream, str] = {"video": "av_cross_attn_video_a2v_gate", "audio": "av_cross_attn_audio_v2a_gate"}


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
