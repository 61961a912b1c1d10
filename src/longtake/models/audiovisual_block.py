"""The forward pass of one block of the LTX-2 transformer, as operations on tensors that `torch.compile` can fuse.

What differs between blocks (the weights) is in the block's torch module. What differs between evaluations is in
`BlockInputs`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

Stream = Literal["video", "audio"]
"""A modality. Where both are listed, `video` is first."""

OTHER: Mapping[Stream, Stream] = {"video": "audio", "audio": "video"}
"""For each modality, the other one."""

_PREFIX: Mapping[Stream, str] = {"video": "", "audio": "audio_"}
"""For each modality, the text with which diffusers' class begins the names of its modules."""

Rotary = tuple[Tensor, Tensor]
"""Cosines and sines of rotary position embeddings, in the shape [1, ...] that diffusers' attention expects. The last
axis but one is that of the tokens."""

Rows = tuple[int, int]
"""The first row of consecutive rows, and the row after the last one."""


@dataclass(frozen=True)
class StreamInputs:
    """The inputs of all blocks for one modality: vectors that depend on noise levels, positions, and the prompt.

    In the shapes, k is the number of distinct noise levels, n the number of tokens, and d the width of the modality's
    hidden states.

    table: nine vectors per level, [k, 9 d]: a shift, a scale and a gate each for self-attention, for feed-forward and
        for the attention to the prompt.
    cross: four vectors per level for the attention between the modalities, [k, 4 d]; None without the other modality.
    gate: the gate on what this modality reads from the other one, [1, d]; None without the other modality.
    prompt: shift and scale of the prompt's tokens, [1, 2 d].
    text: for each prediction the tokens of its prompt, [predictions, text tokens, d]. The model makes several
        predictions at once, which guidance combines: for the prompt, for the negative prompt and so on.
    index: for each token the index of its noise level, [n].
    own_rotary: the position embeddings for the modality's self-attention.
    cross_rotary: the position embeddings for the attention between the modalities.
    """

    table: Tensor
    cross: Tensor | None
    gate: Tensor | None
    prompt: Tensor
    text: Tensor
    index: Tensor
    own_rotary: Rotary
    cross_rotary: Rotary

    def per_token(self, values: Tensor) -> Tensor:
        """Returns for each token the vector that belongs to its noise level: [1, n, d].

        values: one vector per noise level, [k, d]. If k is 1, the result is [1, 1, d], which broadcasts over tokens.
        """
        return values[None] if len(values) == 1 else values[self.index][None]


@dataclass(frozen=True)
class BlockInputs:
    """The inputs of a transformer block besides the hidden states.

    streams: the inputs of each modality.
    disturbed: the rows (predictions) whose self-attention is switched off in this block, for each modality that has
        such rows.
    connected: the number of rows in which video and audio attend to each other. They are the first ones.
    """

    streams: Mapping[Stream, StreamInputs]
    disturbed: Mapping[Stream, Rows]
    connected: int


def block_forward(block: Any, hidden: Mapping[Stream, Tensor], inputs: BlockInputs) -> dict[Stream, Tensor]:
    """Returns the hidden states of each modality after one transformer block.

    The block runs self-attention, attention to the prompt, attention to the other modality, and feed-forward.
    block: the block of diffusers' transformer, which has the layers.
    hidden: each modality's hidden states before the block, [predictions, n, d]. The first axis is the batch: the
        predictions that guidance combines, such as those with and without the prompt.
    inputs: the other inputs of the block.
    """
    x = dict(hidden)
    tables: dict[Stream, tuple[Tensor, ...]] = {}
    for stream in x:
        own = inputs.streams[stream]
        layer, at = partial(part, block, stream), own.per_token
        tables[stream] = (layer("scale_shift_table") + own.table.unflatten(-1, (9, -1))).unbind(1)
        shift, scale, gate, *_, shift_text, scale_text, gate_text = tables[stream]
        h = modulated(layer("norm1")(x[stream]), at(shift), at(scale))
        h = _self_attention(layer("attn1"), h, own.own_rotary, inputs.disturbed.get(stream))
        x[stream] = x[stream] + h * at(gate)
        shift, scale = (layer("prompt_scale_shift_table") + own.prompt.unflatten(-1, (2, -1))).unbind(1)
        h = modulated(layer("norm2")(x[stream]), at(shift_text), at(scale_text))
        h = _attended(layer("attn2"), h, encoder_hidden_states=modulated(own.text, shift, scale))
        x[stream] = x[stream] + h * at(gate_text)
    if len(x) == 2 and inputs.connected:
        x = _exchanged(block, x, inputs)
    for stream in x:
        _, _, _, shift, scale, gate, *_ = tables[stream]
        layer, at = partial(part, block, stream), inputs.streams[stream].per_token
        h = modulated(layer("norm3")(x[stream]), at(shift), at(scale))
        x[stream] = x[stream] + layer("ff")(h) * at(gate)
    return x


def with_varying_sizes(
    vary: Callable[[Tensor, int], None], hidden: Mapping[Stream, Tensor], inputs: BlockInputs
) -> tuple[dict[Stream, Tensor], BlockInputs]:
    """Returns a block's inputs, after telling the compiler which of their sizes differ between requests.

    These are the numbers of tokens and of noise levels. The inputs stay as they are, except that a single noise level
    is repeated, because compiled code treats a size of 1 as special.

    vary: called with a tensor and the number of an axis whose size differs.
    """
    states = {stream: tensor.contiguous() for stream, tensor in hidden.items()}
    streams = {stream: _with_two_levels(own) for stream, own in inputs.streams.items()}
    for stream, own in streams.items():
        vary(states[stream], 1)
        vary(own.index, 0)
        for values in (own.table, own.cross):
            if values is not None:
                vary(values, 0)
        for values in (*own.own_rotary, *own.cross_rotary):
            vary(values, values.ndim - 2)
    return states, replace(inputs, streams=streams)


def _with_two_levels(own: StreamInputs) -> StreamInputs:
    """Returns the inputs of a modality with at least two noise levels, because compiled code treats a size of 1 as
    special. A single noise level is repeated; no token uses the second one."""
    if len(own.table) > 1:
        return own
    cross = None if own.cross is None else torch.cat([own.cross, own.cross])
    return replace(own, table=torch.cat([own.table, own.table]), cross=cross)


def _exchanged(block: Any, hidden: Mapping[Stream, Tensor], inputs: BlockInputs) -> dict[Stream, Tensor]:
    """Returns the hidden states after the attention between the modalities: video attends to audio, and audio to video.

    Only the first `inputs.connected` rows are changed. A row is one of several predictions that are made at once; in
    the others, the modalities do not attend to each other.

    block: the transformer block, which has the layers.
    """
    count = inputs.connected
    tables = {
        "video": block.video_a2v_cross_attn_scale_shift_table,
        "audio": block.audio_a2v_cross_attn_scale_shift_table,
    }
    normal = {
        "video": block.audio_to_video_norm(hidden["video"][:count]),
        "audio": block.video_to_audio_norm(hidden["audio"][:count]),
    }
    # The vectors are scale and shift for the flow from audio to video, then those for the flow from video to audio.
    ways = {"video": (0, 1), "audio": (2, 3)}
    attention = {"video": block.audio_to_video_attn, "audio": block.video_to_audio_attn}
    out: dict[Stream, Tensor] = {}
    for stream, x in hidden.items():
        towards: dict[str, Tensor] = {}
        for side in hidden:
            own = inputs.streams[side]
            assert own.cross is not None
            vectors = (tables[side][:4] + own.cross.unflatten(-1, (4, -1))).unbind(1)
            scale, shift = (own.per_token(vectors[number]) for number in ways[stream])
            towards[side] = modulated(normal[side], shift, scale)
        h = _attended(
            attention[stream],
            towards[stream],
            encoder_hidden_states=towards[OTHER[stream]],
            query_rotary_emb=_for_rows(inputs.streams[stream].cross_rotary, count),
            key_rotary_emb=_for_rows(inputs.streams[OTHER[stream]].cross_rotary, count),
        )
        gate = inputs.streams[stream].gate
        assert gate is not None
        connected = x[:count] + h * (tables[stream][4:] + gate)[None]
        out[stream] = connected if count == len(x) else torch.cat([connected, x[count:]])
    return out


def _self_attention(attn: Any, x: Tensor, rotary: Rotary, disturbed: Rows | None) -> Tensor:
    """Returns the output of a self-attention layer for the hidden states x. The transformer makes several predictions
    at once, such as with and without the prompt; x has one row for each.

    attn: the layer.
    rotary: the position embeddings of the tokens.
    disturbed: the rows of x in which each token attends to itself alone (spatio-temporal guidance); None if there are
        none.
    """
    if disturbed is None:
        return _attended(attn, x, query_rotary_emb=_for_rows(rotary, len(x)))
    first, stop = disturbed
    values = _values(attn, x[first:stop])
    if len(values) == len(x):
        return values
    others = torch.cat([x[:first], x[stop:]])
    attended = _attended(attn, others, query_rotary_emb=_for_rows(rotary, len(others)))
    return torch.cat([attended[:first], values, attended[first:]])


def _attended(attn: Any, x: Tensor, **inputs: Any) -> Tensor:
    """Returns the output of an attention layer for the hidden states x.

    The layer's own forward pass would inspect the signature of its processor at each call, which takes long.
    """
    out: Tensor = attn.processor(attn, x, **inputs)
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


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Returns x * (1 + scale) + shift."""
    return x * (1 + scale) + shift


def _for_rows(rotary: Rotary, count: int) -> Rotary:
    """Returns a copy of position embeddings of shape [1, ...] that is expanded to `count` rows: [count, ...]."""
    cos, sin = (values.expand(count, *values.shape[1:]) for values in rotary)
    return cos, sin


def part(module: Any, stream: Stream, name: str) -> Any:
    """Returns the submodule or parameter of `module` that belongs to the modality `stream` (video or audio).

    name: its name for video. For audio, `audio_` is put before it. A name that begins with `av_` stays as it is.
    """
    return getattr(module, name if name.startswith("av_") else _PREFIX[stream] + name)
