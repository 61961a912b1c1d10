"""The layout of LTX-Video: turns published names and settings into those of diffusers' classes. Needs no torch.

One file holds the transformer, with names that begin with `model.diffusion_model.`, and the autoencoder, with names
that begin with `vae.`. The entry `config` of the file's metadata holds, as JSON, the settings of the reference's
classes. The reference is the publisher's code.

In the reference, the autoencoder's encoder is one flat list of blocks, in which residual and resampling blocks
alternate. Its decoder is another such list. A block's number is its place in the list. diffusers groups the same blocks
by level.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from longtake.models.layout import Config, Layout, PublishedConfig, Shapes, refuse, require
from longtake.models.registry import PartName
from longtake.models.transformer_keys import transformer_key

TRANSFORMER_PREFIX = "model.diffusion_model."
VAE_PREFIX = "vae."
_PREFIXES: Mapping[str, PartName] = {TRANSFORMER_PREFIX: "transformer", VAE_PREFIX: "vae"}

TRANSFORMER_13B: Config = {
    "in_channels": 128,
    "out_channels": 128,
    "num_attention_heads": 32,
    "attention_head_dim": 128,
    "cross_attention_dim": 4096,
    "num_layers": 48,
    "caption_channels": 4096,
}
"""The settings of the 13B transformer of 0.9.7 and 0.9.8, which has 13,042,569,344 parameters."""

VAE_13B: Config = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 128,
    "block_out_channels": [128, 256, 512, 1024, 2048],
    "down_block_types": ["LTXVideo095DownBlock3D"] * 4,
    "decoder_block_out_channels": [256, 512, 1024],
    "layers_per_block": [4, 6, 6, 2, 2],
    "decoder_layers_per_block": [5, 5, 5, 5],
    "spatio_temporal_scaling": [True] * 4,
    "decoder_spatio_temporal_scaling": [True] * 3,
    "decoder_inject_noise": [False] * 4,
    "downsample_type": ["spatial", "temporal", "spatiotemporal", "spatiotemporal"],
    "upsample_residual": [True] * 3,
    "upsample_factor": [2, 2, 2],
    "timestep_conditioning": True,
    "patch_size": 4,
    "patch_size_t": 1,
    "resnet_norm_eps": 1e-6,
    "scaling_factor": 1.0,
    "encoder_causal": True,
    "decoder_causal": False,
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
"""The settings of the 13B model's autoencoder, which has 1,246,913,522 parameters."""

_VAE_WORDS: tuple[tuple[str, str], ...] = (
    ("last_time_embedder.", "time_embedder."),
    ("last_scale_shift_table", "scale_shift_table"),
    (".res_blocks.", ".resnets."),
    (".norm3.norm.", ".norm3."),
    (".conv_shortcut.", ".conv_shortcut.conv."),
)

_STATISTICS: Mapping[str, str | None] = {
    "mean-of-means": "latents_mean",
    "std-of-means": "latents_std",
    "channel": None,
    "mean-of-stds": None,
    "mean-of-stds_over_std-of-means": None,
}
"""Published name -> diffusers' name of each statistic of the latents; None for one that sampling does not use."""

_BLOCK = re.compile(r"^(encoder|decoder)\.(?:down|up)_blocks\.(\d+)\.(.*)$")
_DOWNSAMPLE = {
    "compress_space_res": "spatial",
    "compress_time_res": "temporal",
    "compress_all_res": "spatiotemporal",
}


def recognises(names: Collection[str], published: PublishedConfig) -> bool:
    """Returns True if a file holds a transformer or an autoencoder, of LTX-Video or of LTX-2.

    The names do not tell the two families apart. So a caller must first ask `layout_ltx2` whether the file is one of
    LTX-2.

    names: the names of the file's tensors.
    published: not used.
    """
    return any(part_of(name) for name in names)


def part_of(key: str) -> PartName | None:
    """Returns the part of the model that the weight `key` belongs to; None if no part has it."""
    return next((part for prefix, part in _PREFIXES.items() if key.startswith(prefix)), None)


def rename(part: PartName, key: str, published: PublishedConfig) -> str | None:
    """Returns diffusers' name of a published weight; None if the part's class does not need the weight.

    part: the part of the model that the weight belongs to.
    key: the published name.
    published: the published settings. Only the autoencoder's names depend on them: on its number of blocks.
    """
    if part == "transformer":
        return transformer_key(key.removeprefix(TRANSFORMER_PREFIX))
    return vae_key(key.removeprefix(VAE_PREFIX), encoder_levels(published))


def encoder_levels(published: PublishedConfig) -> int:
    """Returns the number of resampling blocks of the autoencoder's encoder.

    published: the published settings. If they do not list the encoder's blocks, the number is that of LTX-Video's 13B
        model.
    """
    blocks = published.get("vae", {}).get("encoder_blocks")
    return len(blocks) // 2 if isinstance(blocks, list) else len(VAE_13B["down_block_types"])


def vae_key(key: str, levels: int = 4) -> str | None:
    """Returns diffusers' name of a weight of the autoencoder; None if diffusers' class does not need it.

    key: the published name without the prefix `vae.`.
    levels: the number of resampling blocks of the encoder. The published encoder has 2 * levels + 1 blocks with
        numbers. diffusers calls the last one the middle block. Names of the decoder do not depend on `levels`.
    """
    if key.startswith("per_channel_statistics."):
        return statistic(key)
    match = _BLOCK.match(key)
    if match:
        side, index, rest = match[1], int(match[2]), match[3]
        key = _encoder_block(index, rest, levels) if side == "encoder" else _decoder_block(index, rest)
    for published, ours in _VAE_WORDS:
        key = _translated(key, published, ours)
    return key


def statistic(key: str) -> str | None:
    """Returns diffusers' name of a weight of the autoencoder, if the weight is a statistic of the latents.

    - A statistic that sampling uses: its name, such as `latents_mean`.
    - A statistic that sampling does not use: None.
    - Any other weight: `key` itself.

    key: the published name of the weight, without the prefix `vae.`.
    """
    head, _, name = key.partition(".")
    return _STATISTICS.get(name, key) if head == "per_channel_statistics" else key


def _translated(key: str, published: str, ours: str) -> str:
    """Returns the weight's name `key` with `published` replaced by `ours` at the start of the name and after each dot.

    For example, `_translated("mid_block.res_blocks.0", ".res_blocks.", ".resnets.")` is `mid_block.resnets.0`.

    published, ours: a piece of the name as its publisher writes it, and as diffusers writes it. A dot at their start is
        ignored, because the piece may also be the start of the name.
    """
    bare = published.lstrip(".")
    return re.sub(rf"(^|\.){re.escape(bare)}", lambda match: match[1] + ours.lstrip("."), key)


def _encoder_block(index: int, rest: str, levels: int) -> str:
    """Returns diffusers' name of a weight in one of the encoder's published blocks.

    index: the published number of the block.
    rest: the weight's name in the block.
    levels: the number of resampling blocks of the encoder.
    """
    if index == 2 * levels:
        return f"encoder.mid_block.{rest}"
    return f"encoder.down_blocks.{index // 2}." + (f"downsamplers.0.{rest}" if index % 2 else rest)


def _decoder_block(index: int, rest: str) -> str:
    """Returns diffusers' name of a weight in one of the decoder's published blocks.

    index: the published number of the block.
    rest: the weight's name in the block.
    """
    if index == 0:
        return f"decoder.mid_block.{rest}"
    return f"decoder.up_blocks.{(index - 1) // 2}." + (f"upsamplers.0.{rest}" if index % 2 else rest)


def config_of(part: PartName, published: PublishedConfig, shapes: Shapes) -> Config:
    """Returns the settings with which diffusers' class of a model's part is built.

    A setting that `published` lacks gets the value that it has in LTX-Video's 13B model.

    published: the published settings of all parts.
    shapes: not used.
    Raises `BadCheckpoint` for a setting that the class does not support.
    """
    return (transformer_config if part == "transformer" else vae_config)(published.get(part, {}))


def transformer_config(published: Mapping[str, Any]) -> Config:
    """Returns the settings with which diffusers' `LTXVideoTransformer3DModel` is built.

    published: the settings of the publisher's class `Transformer3DModel`.
    Raises `BadCheckpoint` for a setting that diffusers' class does not support.
    """
    fixed = {
        "positional_embedding_type": "rope",
        "positional_embedding_theta": 10000.0,
        "positional_embedding_max_pos": [20, 2048, 2048],
        "timestep_scale_multiplier": 1000,
        "causal_temporal_positioning": True,
        "qk_norm": "rms_norm",
        "standardization_norm": "rms_norm",
        "adaptive_norm": "single_scale_shift",
        "double_self_attention": False,
        "only_cross_attention": False,
    }
    require("transformer", published, fixed)
    names = (*TRANSFORMER_13B, "activation_fn", "attention_bias", "norm_elementwise_affine", "norm_eps")
    return TRANSFORMER_13B | {name: published[name] for name in names if name in published}


def vae_config(published: Mapping[str, Any]) -> Config:
    """Returns the settings with which diffusers' `AutoencoderKLLTXVideo` is built.

    LTX-Video 0.9.5 and later are supported. If `published` does not list the blocks of both encoder and decoder, all
    its settings are ignored, and the result is that of the 13B model.

    published: the settings of the publisher's class `CausalVideoAutoencoder`.
    Raises `BadCheckpoint` for a setting or a kind of block that diffusers' class does not support.
    """
    if "encoder_blocks" not in published or "decoder_blocks" not in published:
        return dict(VAE_13B)
    needed = {"dims": 3, "norm_layer": "pixel_norm", "latent_log_var": "uniform", "use_quant_conv": False}
    require("vae", published, needed | {"spatial_padding_mode": "zeros"})
    encoder, decoder = residual_pairs("encoder", published), residual_pairs("decoder", published)
    widths = [published.get("encoder_base_channels", 128)]
    for kind, options in encoder[1::2]:
        if kind not in _DOWNSAMPLE:
            refuse("vae", "encoder_blocks", kind, ", ".join(_DOWNSAMPLE))
        widths.append(widths[-1] * options.get("multiplier", 2))
    decoder_widths = [published.get("decoder_base_channels", 128)]
    for kind, options in decoder[1::2]:
        if kind != "compress_all":
            refuse("vae", "decoder_blocks", kind, "compress_all")
        decoder_widths.append(decoder_widths[-1] * options.get("multiplier", 1))
    samplings = [_DOWNSAMPLE[kind] for kind, _ in encoder[1::2]]
    patch = published.get("patch_size", 4)
    return VAE_13B | {
        "in_channels": published.get("in_channels", 3),
        "out_channels": published.get("out_channels", 3),
        "latent_channels": published.get("latent_channels", 128),
        "block_out_channels": widths,
        "down_block_types": ["LTXVideo095DownBlock3D"] * len(samplings),
        "decoder_block_out_channels": decoder_widths[1:],
        "layers_per_block": [options["num_layers"] for _, options in encoder[::2]],
        "decoder_layers_per_block": [options["num_layers"] for _, options in decoder[::2]],
        "spatio_temporal_scaling": [True] * len(samplings),
        "decoder_spatio_temporal_scaling": [True] * (len(decoder) // 2),
        "decoder_inject_noise": [bool(options.get("inject_noise")) for _, options in decoder[::2]],
        "downsample_type": samplings,
        "upsample_residual": [bool(options.get("residual")) for _, options in decoder[1::2]],
        "upsample_factor": [options.get("multiplier", 1) for _, options in decoder[1::2]],
        "timestep_conditioning": bool(published.get("timestep_conditioning")),
        "decoder_causal": bool(published.get("causal_decoder")),
        "patch_size": patch,
        "spatial_compression_ratio": patch * 2 ** sum(kind != "temporal" for kind in samplings),
        "temporal_compression_ratio": 2 ** sum(kind != "spatial" for kind in samplings),
    }


def residual_pairs(side: str, published: Mapping[str, Any]) -> Sequence[tuple[str, Config]]:
    """Returns the blocks of the autoencoder's encoder or decoder in published order, each as (kind, options).

    Blocks at even indices (0, 2, ...) are residual; blocks at odd indices resample.

    side: "encoder" or "decoder".
    published: the autoencoder's published settings.

    Raises `BadCheckpoint` if the published blocks are in another order or malformed.
    """
    blocks = published[f"{side}_blocks"]
    if not isinstance(blocks, list) or len(blocks) % 2 == 0 or len(blocks) > 17:
        refuse("vae", f"{side}_blocks", blocks, "residual and resampling blocks in turn")
    pairs = []
    for index, block in enumerate(blocks):
        kind, options = block if isinstance(block, list) and len(block) == 2 else (block, None)
        if not isinstance(options, dict) or (index % 2 == 0 and (kind != "res_x" or "num_layers" not in options)):
            refuse("vae", f"{side}_blocks", block, '["res_x", {"num_layers": n}] at even places')
        pairs.append((str(kind), options))
    return pairs


def is_upsampler(names: Collection[str], published: PublishedConfig) -> bool:
    """Returns True if a file holds a latent upsampler, of LTX-Video or of LTX-2.

    The names do not tell the two families apart. So a caller must first ask `layout_ltx2` whether the file is one of
    LTX-2.

    names: the names of the file's tensors. Upsamplers are published with the names of diffusers' class.
    published: not used.
    """
    return any(name.startswith("initial_conv.") for name in names)


def upsampler_config(published: PublishedConfig) -> Config:
    """Returns the settings with which diffusers' `LTXLatentUpsamplerModel` is built.

    published: the settings of the upsampler as its publisher writes them. Their names are those of diffusers.
    """
    names = ("in_channels", "mid_channels", "num_blocks_per_stage", "dims", "spatial_upsample", "temporal_upsample")
    return {name: published[name] for name in names if name in published}


LTXV_LAYOUT = Layout(
    name="LTX-Video",
    recognises=recognises,
    part_of=part_of,
    rename=rename,
    settings=config_of,
    classes={
        "transformer": ("diffusers", "LTXVideoTransformer3DModel"),
        "vae": ("diffusers", "AutoencoderKLLTXVideo"),
    },
    sections=("transformer", "vae"),
)

LTXV_UPSAMPLER_LAYOUT = Layout(
    name="LTX-Video upsampler",
    recognises=is_upsampler,
    part_of=lambda key: "upsampler",
    rename=lambda part, key, published: key,
    settings=lambda part, published, shapes: upsampler_config(published),
    classes={"upsampler": ("diffusers.pipelines.ltx.modeling_latent_upsampler", "LTXLatentUpsamplerModel")},
)
