"""The ways in which the models of a case can compute: as in this package, or as diffusers' own classes do."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from longtake.families.ltx2.model import BLOCK_FORWARD as LTX2_BLOCKS
from longtake.families.ltxv.guidance import replaced_processors
from longtake.families.ltxv.model import BLOCK_FORWARD as LTXV_BLOCKS
from longtake.models import applying, audiovisual, video_transformer
from longtake.models.audiovisual import PositionedTracks, Prediction, Stream, Tokens
from longtake.models.compiled import CompiledBlocks
from longtake.models.loras import LoadedAdapter
from longtake.models.vae_format import CAUSAL, set_format
from longtake.models.video_transformer import TokenLevels

Way = Literal["package", "compiled", "channels last", "diffusers"]
"""How the models of a case compute.

package: as in this package.
compiled: as in this package, with the transformers' blocks compiled.
channels last: as in this package, with the video VAE's numbers in this order in memory.
diffusers: with the forward passes of diffusers' own classes.
"""


def attach(net: nn.Module, way: Way) -> None:
    """Makes a model that was just built compute in a way. It must be on its device already."""
    kind = type(net).__name__
    if kind == "LTXVideoTransformer3DModel":
        _attach_transformer(net, way, video_transformer.attach, LTXV_BLOCKS, _ltxv)
    elif kind == "LTX2VideoTransformer3DModel":
        _attach_transformer(net, way, audiovisual.attach, LTX2_BLOCKS, _ltx2)
    elif way == "channels last" and any(type(module).__name__ in CAUSAL for module in net.modules()):
        set_format(net, "channels last")


def _attach_transformer(
    net: Any, way: Way, own: Callable[[Any], None], blocks: Any, theirs: Callable[..., object]
) -> None:
    if way == "diffusers":
        net.forward = partial(theirs, net, net.forward)
        return
    own(net)
    if way == "compiled":
        CompiledBlocks(blocks).attach(net)


def _ltxv(
    model: Any, forward: Any, tokens: Tensor, levels: TokenLevels, coords: Tensor, text: Tensor, mask: Tensor
) -> Tensor:
    """Calls the forward pass of diffusers' LTXVideoTransformer3DModel with the arguments of this package's."""
    times = 1000 * levels.values[levels.index][None]
    made: Tensor = forward(tokens, text, times, mask, video_coords=coords, return_dict=False)[0]
    return made


def _ltx2(
    model: Any,
    forward: Any,
    positioned: PositionedTracks,
    tokens: Tokens,
    sigma: float,
    predictions: Sequence[Prediction],
    stg_blocks: Sequence[int],
) -> dict[Stream, Tensor]:
    """Calls the forward pass of diffusers' LTX2VideoTransformer3DModel with the arguments of this package's.

    Hooks make it compute what the original implementation computes (see `longtake.models.audiovisual`). For a video
    without sound it gets one audio token, to which the video does not attend.
    """
    rows = [_ltx2_alone(model, forward, positioned, tokens, sigma, one, stg_blocks) for one in predictions]
    return {stream: torch.cat([row[stream] for row in rows]) for stream in tokens}


def _ltx2_alone(
    model: Any,
    forward: Any,
    positioned: PositionedTracks,
    tokens: Tokens,
    sigma: float,
    prediction: Prediction,
    stg_blocks: Sequence[int],
) -> dict[Stream, Tensor]:
    dtype, tracks = prediction.prompt.video.dtype, positioned.tracks

    def times(stream: Stream) -> Tensor:
        shares, index = tracks[stream].levels
        return 1000 * (shares * sigma)[index][None]

    def level(stream: Stream) -> Tensor:
        return tokens["video"].new_full((1,), 1000 * sigma if tracks[stream].is_free else 0.0)

    sound: Stream = "audio" if "audio" in tokens else "video"
    silent = tokens["video"].new_zeros(1, 1, model.config.audio_in_channels)
    attentions = {"video": "attn1", "audio": "audio_attn1"}
    layers = [
        getattr(model.transformer_blocks[block], attentions[stream])
        for block in stg_blocks
        for stream in prediction.disturbed
    ]
    with ExitStack() as stack:
        stack.enter_context(replaced_processors(layers, [_Disturbed(layer.processor) for layer in layers]))
        stack.enter_context(_gate_times(model.av_cross_attn_video_a2v_gate, level(sound), model))
        stack.enter_context(_gate_times(model.av_cross_attn_audio_v2a_gate, level("video"), model))
        video, audio = forward(
            hidden_states=tokens["video"].to(dtype),
            audio_hidden_states=tokens.get("audio", silent).to(dtype),
            encoder_hidden_states=prediction.prompt.video,
            audio_encoder_hidden_states=prediction.prompt.audio,
            timestep=times("video"),
            audio_timestep=times("audio") if sound == "audio" else level("video")[None],
            sigma=level("video"),
            audio_sigma=level(sound),
            video_coords=tracks["video"].bounds,
            audio_coords=tracks["audio"].bounds if sound == "audio" else silent.new_zeros(1, 1, 1, 2),
            isolate_modalities=prediction.isolated or sound == "video",
            return_dict=False,
        )
    return {"video": video, "audio": audio}


class _Disturbed:
    """The attention processor of a layer in which each token attends to itself alone."""

    def __init__(self, plain: Any) -> None:
        self._plain = plain

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        query_rotary_emb: Any = None,
        key_rotary_emb: Any = None,
        perturbation_mask: Tensor | None = None,
        all_perturbed: bool | None = None,
    ) -> Tensor:
        made: Tensor = self._plain(attn, hidden_states, query_rotary_emb=query_rotary_emb, all_perturbed=True)
        return made


@contextmanager
def _gate_times(layer: nn.Module, level: Tensor, model: Any) -> Iterator[None]:
    """Context manager: inside its block a gate of the attention between the modalities follows the noise level of the
    other modality, [1] in 0..1000. Diffusers' forward pass gives it the times of the modality's own tokens."""
    factor = model.config.cross_attn_timestep_scale_multiplier / model.config.timestep_scale_multiplier
    hook = layer.register_forward_pre_hook(lambda module, arguments: (level * factor, *arguments[1:]))
    try:
        yield
    finally:
        hook.remove()


def applied(
    net: Any, adapters: Sequence[LoadedAdapter], way: Way
) -> AbstractContextManager[Callable[[int | None], None]]:
    """Applies adapters inside a `with` block, as `longtake.models.applying.applied` does.

    In the way `diffusers` they are merged one after the other in the dtype of the weights.
    """
    return _fused(net, adapters) if way == "diffusers" else applying.applied(net, adapters)


@contextmanager
def _fused(net: Any, adapters: Sequence[LoadedAdapter]) -> Iterator[Callable[[int | None], None]]:
    names = {name for adapter, _ in adapters for name in adapter.pairs}
    own = {name: net.get_submodule(name).weight.data.clone() for name in names}

    def set_pass(number: int | None) -> None:
        for name, weight in own.items():
            net.get_submodule(name).weight.data = weight.clone()
        for adapter, scales in adapters if number is not None else ():
            for name, pair in adapter.pairs.items():
                weight = net.get_submodule(name).weight.data
                a, b = (side.to(weight.device, weight.dtype) for side in (pair.a, pair.b))
                weight += scales[number or 0] * pair.factor * (b @ a)

    try:
        yield set_pass
    finally:
        set_pass(None)
