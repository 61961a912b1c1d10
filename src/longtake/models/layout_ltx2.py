"""The layout of LTX-2.3: turns published names and settings into those of diffusers' classes. Needs no torch.

One file holds all parts but the text encoder and the upsampler. The entry `config` of the file's metadata holds, as
JSON, the settings of the reference's classes. The reference is the publisher's code. The names of tensors have these
prefixes:
- `model.diffusion_model.`: the transformer. The names of the connectors continue with `video_embeddings_connector.` or
  `audio_embeddings_connector.`.
- `text_embedding_projection.`: the connectors' first layers.
- `vae.`, `audio_vae.` and `vocoder.`: the parts of these names.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from longtake.errors import BadCheckpoint
from longtake.models import layout_ltxv
from longtake.models.layout import Config, Layout, PublishedConfig, Shapes, refuse, require
from longtake.models.layout_ltx2_sound import audio_stream_config, audio_vae_config, vocoder_config
from longtake.models.layout_ltxv import TRANSFORMER_PREFIX, VAE_PREFIX, encoder_levels, residual_pairs
from longtake.models.registry import PartName
from longtake.models.transformer_keys import reworded, transformer_key

_CONNECTOR = re.compile(r"text_embedding_projection\.|model\.diffusion_model\.(video|audio)_embeddings_connector\.")
_PREFIXES: Mapping[str, PartName] = {
    TRANSFORMER_PREFIX: "transformer",
    VAE_PREFIX: "vae",
    "audio_vae.": "audio_vae",
    "vocoder.": "vocoder",
}
_MARKS = ("text_embedding_projection.", "audio_vae.", "vocoder.", f"{TRANSFORMER_PREFIX}audio_")

_CONNECTOR_WORDS: Mapping[str, str] = {
    "video_embeddings_connector": "video_connector",
    "audio_embeddings_connector": "audio_connector",
    "video_aggregate_embed": "video_text_proj_in",
    "audio_aggregate_embed": "audio_text_proj_in",
    "transformer_1d_blocks": "transformer_blocks",
    "q_norm": "norm_q",
    "k_norm": "norm_k",
}
_VOCODER_WORDS: Mapping[str, str] = {
    "conv_pre": "conv_in",
    "conv_post": "conv_out",
    "act_post": "act_out",
    "ups": "upsamplers",
    "resblocks": "resnets",
}

_TRANSFORMER_NEEDS: Config = {
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "positional_embedding_type": "rope",
    "qk_norm": "rms_norm",
    "standardization_norm": "rms_norm",
    "norm_elementwise_affine": False,
    "use_audio_video_cross_attention": True,
    "av_cross_ada_norm": True,
    "use_middle_indices_grid": True,
    "cross_attention_norm": True,
    "double_self_attention": False,
    "only_cross_attention": False,
    "share_ff": False,
}
"""The only values of these settings that diffusers' transformer supports."""

GEMMA_WIDTH = 3840
"""Channels of a hidden state of Gemma-3-12B, as the published connectors between Gemma and the transformer read it."""


def recognises(names: Collection[str], published: PublishedConfig) -> bool:
    """Returns True if a file holds weights that only LTX-2 has: weights for audio, or the connectors' projections.

    names: the names of the file's tensors.
    published: not used.
    """
    return any(name.startswith(_MARKS) for name in names)


def part_of(key: str) -> PartName | None:
    """Returns the part of the model that the weight `key` belongs to; None if no part has it."""
    if _CONNECTOR.match(key):
        return "connectors"
    return next((part for prefix, part in _PREFIXES.items() if key.startswith(prefix)), None)


def rename(part: PartName, key: str, published: PublishedConfig) -> str | None:
    """Returns diffusers' name of the weight that is published as `key`; None if the part's class does not need it. The
    settings `published` are used for the VAE alone, whose names depend on its number of blocks."""
    if part == "transformer":
        return transformer_key(key.removeprefix(TRANSFORMER_PREFIX))
    if part == "connectors":
        short = key.removeprefix("text_embedding_projection.").removeprefix(TRANSFORMER_PREFIX)
        return reworded(short, _CONNECTOR_WORDS)
    if part == "vocoder":
        return reworded(key.removeprefix("vocoder."), _VOCODER_WORDS).replace("downsample.lowpass.", "downsample.")
    if part == "audio_vae":
        return layout_ltxv.statistic(key.removeprefix("audio_vae."))
    return layout_ltxv.vae_key(key.removeprefix(VAE_PREFIX), encoder_levels(published))


def config_of(part: PartName, published: Mapping[str, Any], shapes: Shapes) -> Config:
    """Returns the settings with which diffusers' class of a model's part is built.

    A setting that `published` lacks gets the default of the reference (the publisher's code).

    published: the settings of all parts, as the reference names them.
    shapes: the shapes of the part's tensors, by diffusers' names.
    Raises `BadCheckpoint` if the part's settings are absent or malformed, and for a setting that the class does not
    support.
    """
    try:
        return {
            "transformer": lambda: _transformer_config(published),
            "connectors": lambda: _connectors_config(published["transformer"], shapes),
            "vae": lambda: vae_config(published["vae"]),
            "audio_vae": lambda: audio_vae_config(published["audio_vae"]),
            "vocoder": lambda: vocoder_config(published["vocoder"], shapes),
        }[part]()
    except (LookupError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise BadCheckpoint(
            f"The checkpoint's `config` does not tell how its {part} is built: {type(error).__name__} at {error}."
        ) from None


def _transformer_config(published: Mapping[str, Any]) -> Config:
    section = published["transformer"]
    require("transformer", section, _TRANSFORMER_NEEDS)
    if not section.get("caption_proj_before_connector"):
        refuse("transformer", "caption_proj_before_connector", False, "True (LTX-2.3)")
    seconds, height, width = section.get("positional_embedding_max_pos", [20, 2048, 2048])
    video = published.get("vae", {})
    compression = vae_config(video) if video else {}
    spatial, temporal = (compression.get(f"{axis}_compression_ratio") for axis in ("spatial", "temporal"))
    optional = ("ff_bias", "audio_ff_bias", "use_prompt_adaln_single", "use_keyframes_abs_pos_embedding")
    return {
        "in_channels": section.get("in_channels", 128),
        "out_channels": section.get("out_channels", 128),
        "patch_size": 1,
        "patch_size_t": 1,
        "num_attention_heads": section.get("num_attention_heads", 32),
        "attention_head_dim": section.get("attention_head_dim", 128),
        "cross_attention_dim": section.get("cross_attention_dim", 4096),
        "vae_scale_factors": [temporal or 8, spatial or 32, spatial or 32],
        "pos_embed_max_pos": seconds,
        "base_height": height,
        "base_width": width,
        "gated_attn": bool(section.get("apply_gated_attention")),
        "cross_attn_mod": bool(section.get("cross_attention_adaln")),
        "num_layers": section.get("num_layers", 48),
        "activation_fn": "gelu-approximate",
        "qk_norm": "rms_norm_across_heads",
        "norm_elementwise_affine": False,
        "norm_eps": section.get("norm_eps", 1e-6),
        "caption_channels": section.get("caption_channels", GEMMA_WIDTH),
        "attention_bias": True,
        "attention_out_bias": True,
        "rope_theta": section.get("positional_embedding_theta", 10000.0),
        "rope_double_precision": section.get("frequencies_precision") == "float64",
        "causal_offset": 1,
        "timestep_scale_multiplier": section.get("timestep_scale_multiplier", 1000),
        "cross_attn_timestep_scale_multiplier": section.get("av_ca_timestep_scale_multiplier", 1),
        "rope_type": section.get("rope_type", "split"),
        "use_prompt_embeddings": False,
        "perturbed_attn": True,
        **audio_stream_config(section, published.get("audio_vae", {})),
        **{name: section[name] for name in optional if name in section},
    }


def _connectors_config(section: Mapping[str, Any], shapes: Shapes) -> Config:
    sides: Config = {}
    for side, prefix in (("video", ""), ("audio", "audio_")):
        width, features = shapes[f"{side}_text_proj_in.weight"]

        def setting(name: str, otherwise: int, prefix: str = prefix) -> Any:
            return section.get(f"{prefix}{name}", section.get(name, otherwise))

        registers = shapes.get(f"{side}_connector.learnable_registers")
        sides |= {
            f"{side}_connector_num_attention_heads": setting("connector_num_attention_heads", 30),
            f"{side}_connector_attention_head_dim": setting("connector_attention_head_dim", 128),
            f"{side}_connector_num_layers": setting("connector_num_layers", 2),
            f"{side}_connector_num_learnable_registers": registers[0] if registers else None,
            f"{side}_gated_attn": bool(section.get("connector_apply_gated_attention")),
            f"{side}_hidden_dim": width,
        }
    declared = section.get("caption_channels", GEMMA_WIDTH)
    caption = declared if features % declared == 0 else GEMMA_WIDTH
    return sides | {
        "caption_channels": caption,
        "text_proj_in_factor": features // caption,
        "connector_rope_base_seq_len": section.get("connector_positional_embedding_max_pos", [1])[0],
        "rope_theta": section.get("positional_embedding_theta", 10000.0),
        "rope_double_precision": section.get("frequencies_precision") == "float64",
        "causal_temporal_positioning": False,
        "rope_type": section.get("rope_type", "split"),
        "per_modality_projections": True,
        "proj_bias": "video_text_proj_in.bias" in shapes,
    }


_RESAMPLE: Mapping[str, str] = {
    "compress_space": "spatial",
    "compress_time": "temporal",
    "compress_all": "spatiotemporal",
}


def vae_config(section: Mapping[str, Any]) -> Config:
    """Returns the settings with which diffusers' `AutoencoderKLLTX2Video` is built.

    section: the settings of the publisher's class `CausalVideoAutoencoder`.
    Raises `BadCheckpoint` for a setting or a kind of block that diffusers' class does not support.
    """
    needed = {"_class_name": "CausalVideoAutoencoder", "dims": 3, "norm_layer": "pixel_norm"}
    require("vae", section, needed | {"latent_log_var": "uniform"})
    encoder, decoder = residual_pairs("encoder", section), residual_pairs("decoder", section)
    down = [_resampling(kind.removesuffix("_res"), kind.endswith("_res")) for kind, _ in encoder[1::2]]
    up = [_resampling(kind, True) for kind, _ in decoder[1::2]]
    latents, patch = section.get("latent_channels", 128), section.get("patch_size", 4)
    return {
        "in_channels": section.get("in_channels", 3),
        "out_channels": section.get("out_channels", 3),
        "latent_channels": latents,
        "block_out_channels": _widths(latents, encoder, 2),
        "down_block_types": ["LTX2VideoDownBlock3D"] * len(down),
        "decoder_block_out_channels": _widths(section.get("decoder_base_channels", 128), decoder, 1),
        "layers_per_block": [options["num_layers"] for _, options in encoder[::2]],
        "decoder_layers_per_block": [options["num_layers"] for _, options in decoder[::2]],
        "spatio_temporal_scaling": [True] * len(down),
        "decoder_spatio_temporal_scaling": [True] * len(up),
        "decoder_inject_noise": [bool(options.get("inject_noise")) for _, options in decoder[::2]],
        "downsample_type": down,
        # diffusers reads the other lists of the decoder from the end, but this one from the beginning.
        "upsample_type": up[::-1],
        "upsample_residual": [bool(options.get("residual")) for _, options in decoder[1::2]],
        "upsample_factor": [options.get("multiplier", 1) for _, options in decoder[1::2]],
        "timestep_conditioning": bool(section.get("timestep_conditioning", True)),
        "patch_size": patch,
        "patch_size_t": 1,
        "resnet_norm_eps": 1e-6,
        "encoder_causal": True,
        "decoder_causal": bool(section.get("causal_decoder")),
        "encoder_spatial_padding_mode": section.get("encoder_spatial_padding_mode", "zeros"),
        "decoder_spatial_padding_mode": section.get("spatial_padding_mode", "reflect"),
        "spatial_compression_ratio": patch * 2 ** sum(kind != "temporal" for kind in down),
        "temporal_compression_ratio": 2 ** sum(kind != "spatial" for kind in down),
    }


def _resampling(kind: str, is_valid: bool) -> str:
    """Returns diffusers' name for a kind of resampling block, such as "temporal" for `compress_time`.

    kind: the published name. An encoder's names must end in `_res`; the caller has removed this ending.
    is_valid: False for an encoder's name without this ending, which is an error like an unknown kind; otherwise True.
    Raises `BadCheckpoint` for an unknown kind, or if `is_valid` is False.
    """
    if not is_valid or kind not in _RESAMPLE:
        refuse("vae", "blocks", kind, f"{', '.join(_RESAMPLE)}, and these with _res to encode")
    return _RESAMPLE[kind]


def _widths(first: int, pairs: Sequence[tuple[str, Config]], otherwise: int) -> list[int]:
    """Returns the number of channels after each resampling block of an encoder or decoder, in the order of `pairs`.

    Each block multiplies the number of channels by its option `multiplier`.

    first: the number of channels before the first block.
    pairs: all blocks as (kind, options), from `residual_pairs`. Blocks at odd indices resample; the others are ignored.
    otherwise: the multiplier of a block without that option.
    """
    widths = [first]
    for _, options in pairs[1::2]:
        widths.append(widths[-1] * options.get("multiplier", otherwise))
    return widths[1:]


def is_upsampler(names: Collection[str], published: PublishedConfig) -> bool:
    """Returns True if a file holds the latent upsampler of LTX-2, and not the one of LTX-Video.

    names: the names of the file's tensors.
    published: the file's `config`. Only LTX-2's has a setting `spatial_scale` or `rational_resampler`.
    """
    own = "spatial_scale" in published or "rational_resampler" in published
    return own and layout_ltxv.is_upsampler(names, published)


def upsampler_config(published: PublishedConfig) -> Config:
    """Returns the settings for diffusers' `LTX2LatentUpsamplerModel`, made from the `published` ones in its file."""
    return layout_ltxv.upsampler_config(published) | {
        "rational_spatial_scale": published.get("spatial_scale", 2.0),
        "use_rational_resampler": bool(published.get("rational_resampler")),
    }


_PIPELINE = "diffusers.pipelines.ltx2"

LTX2_LAYOUT = Layout(
    name="LTX-2.3",
    recognises=recognises,
    part_of=part_of,
    rename=rename,
    settings=config_of,
    classes={
        "transformer": ("diffusers", "LTX2VideoTransformer3DModel"),
        "vae": ("diffusers", "AutoencoderKLLTX2Video"),
        "audio_vae": ("diffusers", "AutoencoderKLLTX2Audio"),
        "vocoder": (_PIPELINE, "LTX2VocoderWithBWE"),
        "connectors": (_PIPELINE, "LTX2TextConnectors"),
    },
    sections=("transformer", "vae", "audio_vae", "vocoder"),
)

LTX2_UPSAMPLER_LAYOUT = replace(
    layout_ltxv.LTXV_UPSAMPLER_LAYOUT,
    name="LTX-2.3 upsampler",
    recognises=is_upsampler,
    settings=lambda part, published, shapes: upsampler_config(published),
    classes={"upsampler": (_PIPELINE, "LTX2LatentUpsamplerModel")},
)
