"""A small LTX-2 model with random weights: its parts, a published single file of them, Gemma-3, and folders."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video, LTX2VideoTransformer3DModel
from diffusers.pipelines.ltx2 import LTX2LatentUpsamplerModel, LTX2TextConnectors, LTX2VocoderWithBWE
from safetensors.torch import save_file
from torch import Tensor, nn

from longtake.models.audiovisual import EncodedPrompt, PositionedTracks, Prediction, velocities
from longtake.models.checkpoints import Checkpoint
from longtake.models.layout_ltx2 import LTX2_LAYOUT
from longtake.models.registry import PartName
from tests.models import small

GEMMA_WIDTH, GEMMA_LAYERS, REGISTERS = 16, 2, 8

TRANSFORMER: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "cross_attention_dim": 32,
    "vae_scale_factors": [2, 16, 16],
    "gated_attn": True,
    "cross_attn_mod": True,
    "audio_in_channels": 8,
    "audio_out_channels": 8,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 8,
    "audio_cross_attention_dim": 16,
    "audio_gated_attn": True,
    "audio_cross_attn_mod": True,
    "num_layers": 2,
    "caption_channels": GEMMA_WIDTH,
    "rope_type": "split",
    "use_prompt_embeddings": False,
    "perturbed_attn": True,
}
VAE: dict[str, Any] = {
    "latent_channels": 4,
    "block_out_channels": [8, 8],
    "down_block_types": ["LTX2VideoDownBlock3D"] * 2,
    "decoder_block_out_channels": [4, 8],
    "layers_per_block": [1, 2, 1],
    "decoder_layers_per_block": [2, 1, 1],
    "spatio_temporal_scaling": [True] * 2,
    "decoder_spatio_temporal_scaling": [True] * 2,
    "decoder_inject_noise": [False] * 3,
    "downsample_type": ["spatial", "spatiotemporal"],
    "upsample_type": ["spatiotemporal", "spatial"],
    "upsample_residual": [False] * 2,
    "upsample_factor": [2, 2],
    "decoder_causal": False,
    "decoder_spatial_padding_mode": "zeros",
    "spatial_compression_ratio": 16,
    "temporal_compression_ratio": 2,
}
AUDIO_VAE: dict[str, Any] = {
    "base_channels": 4,
    "ch_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "latent_channels": 2,
    "mel_bins": 16,
}
VOCODER: dict[str, Any] = {
    "in_channels": 32,
    "hidden_channels": 8,
    "upsample_kernel_sizes": [11, 4],
    "upsample_factors": [5, 2],
    "resnet_kernel_sizes": [3],
    "resnet_dilations": [[1, 3, 5]],
    "bwe_in_channels": 32,
    "bwe_hidden_channels": 8,
    "bwe_upsample_kernel_sizes": [12, 4],
    "bwe_upsample_factors": [6, 2],
    "bwe_resnet_kernel_sizes": [3],
    "bwe_resnet_dilations": [[1, 3, 5]],
    "filter_length": 32,
    "hop_length": 4,
    "window_length": 32,
    "num_mel_channels": 16,
}
CONNECTORS: dict[str, Any] = {
    "caption_channels": GEMMA_WIDTH,
    "text_proj_in_factor": GEMMA_LAYERS + 1,
    "video_connector_num_attention_heads": 2,
    "video_connector_attention_head_dim": 16,
    "video_connector_num_layers": 1,
    "video_connector_num_learnable_registers": REGISTERS,
    "video_gated_attn": True,
    "audio_connector_num_attention_heads": 2,
    "audio_connector_attention_head_dim": 8,
    "audio_connector_num_layers": 1,
    "audio_connector_num_learnable_registers": REGISTERS,
    "audio_gated_attn": True,
    "rope_type": "split",
    "per_modality_projections": True,
    "video_hidden_dim": 32,
    "audio_hidden_dim": 16,
    "proj_bias": True,
}
UPSAMPLER: dict[str, Any] = {"in_channels": 4, "mid_channels": 32, "num_blocks_per_stage": 1}

CLASSES: dict[str, tuple[Any, dict[str, Any]]] = {
    "transformer": (LTX2VideoTransformer3DModel, TRANSFORMER),
    "vae": (AutoencoderKLLTX2Video, VAE),
    "audio_vae": (AutoencoderKLLTX2Audio, AUDIO_VAE),
    "vocoder": (LTX2VocoderWithBWE, VOCODER),
    "connectors": (LTX2TextConnectors, CONNECTORS),
}

PUBLISHED: dict[str, Any] = {
    "transformer": {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 2,
        "cross_attention_dim": 32,
        "positional_embedding_max_pos": [20, 2048, 2048],
        "audio_num_attention_heads": 2,
        "audio_attention_head_dim": 8,
        "audio_in_channels": 8,
        "audio_out_channels": 8,
        "audio_cross_attention_dim": 16,
        "av_ca_timestep_scale_multiplier": 1000,
        "rope_type": "split",
        "frequencies_precision": "float64",
        "apply_gated_attention": True,
        "cross_attention_adaln": True,
        "caption_channels": GEMMA_WIDTH,
        "caption_proj_before_connector": True,
        "connector_num_attention_heads": 2,
        "connector_attention_head_dim": 16,
        "connector_num_layers": 1,
        "connector_positional_embedding_max_pos": [4096],
        "audio_connector_attention_head_dim": 8,
        "connector_apply_gated_attention": True,
    },
    "vae": {
        "_class_name": "CausalVideoAutoencoder",
        "dims": 3,
        "latent_channels": 4,
        "encoder_blocks": [
            ["res_x", {"num_layers": 1}],
            ["compress_space_res", {"multiplier": 2}],
            ["res_x", {"num_layers": 2}],
            ["compress_all_res", {"multiplier": 1}],
            ["res_x", {"num_layers": 1}],
        ],
        "decoder_blocks": [
            ["res_x", {"num_layers": 2}],
            ["compress_space", {"multiplier": 2}],
            ["res_x", {"num_layers": 1}],
            ["compress_all", {"multiplier": 2}],
            ["res_x", {"num_layers": 1}],
        ],
        "patch_size": 4,
        "norm_layer": "pixel_norm",
        "latent_log_var": "uniform",
        "causal_decoder": False,
        "timestep_conditioning": False,
        "spatial_padding_mode": "zeros",
        "decoder_base_channels": 2,
    },
    "audio_vae": {
        "model": {
            "params": {
                "sampling_rate": 16000,
                "ddconfig": {
                    "ch": 4,
                    "out_ch": 2,
                    "in_channels": 2,
                    "ch_mult": [1, 2, 2],
                    "num_res_blocks": 1,
                    "attn_resolutions": [],
                    "resolution": 256,
                    "z_channels": 2,
                    "double_z": True,
                    "mid_block_add_attention": False,
                },
            }
        },
        "preprocessing": {"stft": {"hop_length": 160, "causal": True}, "mel": {"n_mel_channels": 16}},
    },
    "vocoder": {
        "vocoder": {
            "resblock": "AMP1",
            "stereo": True,
            "activation": "snakebeta",
            "use_tanh_at_final": False,
            "use_bias_at_final": False,
            "resblock_kernel_sizes": [3],
            "resblock_dilation_sizes": [[1, 3, 5]],
            "upsample_rates": [5, 2],
            "upsample_kernel_sizes": [11, 4],
            "upsample_initial_channel": 8,
        },
        "bwe": {
            "resblock": "AMP1",
            "stereo": True,
            "activation": "snakebeta",
            "use_tanh_at_final": False,
            "use_bias_at_final": False,
            "resblock_kernel_sizes": [3],
            "resblock_dilation_sizes": [[1, 3, 5]],
            "upsample_rates": [6, 2],
            "upsample_kernel_sizes": [12, 4],
            "upsample_initial_channel": 8,
            "n_fft": 32,
            "hop_length": 4,
            "num_mels": 16,
            "input_sampling_rate": 16000,
            "output_sampling_rate": 48000,
        },
    },
}

_WORDS: dict[str, dict[str, str]] = {
    "transformer": {
        "audio_proj_in": "audio_patchify_proj",
        "proj_in": "patchify_proj",
        "audio_time_embed": "audio_adaln_single",
        "time_embed": "adaln_single",
        "audio_prompt_adaln": "audio_prompt_adaln_single",
        "prompt_adaln": "prompt_adaln_single",
        "av_cross_attn_video_scale_shift": "av_ca_video_scale_shift_adaln_single",
        "av_cross_attn_audio_scale_shift": "av_ca_audio_scale_shift_adaln_single",
        "av_cross_attn_video_a2v_gate": "av_ca_a2v_gate_adaln_single",
        "av_cross_attn_audio_v2a_gate": "av_ca_v2a_gate_adaln_single",
        "video_a2v_cross_attn_scale_shift_table": "scale_shift_table_a2v_ca_video",
        "audio_a2v_cross_attn_scale_shift_table": "scale_shift_table_a2v_ca_audio",
        "norm_q": "q_norm",
        "norm_k": "k_norm",
    },
    "connectors": {
        "video_connector": "model.diffusion_model.video_embeddings_connector",
        "audio_connector": "model.diffusion_model.audio_embeddings_connector",
        "video_text_proj_in": "text_embedding_projection.video_aggregate_embed",
        "audio_text_proj_in": "text_embedding_projection.audio_aggregate_embed",
        "transformer_blocks": "transformer_1d_blocks",
        "norm_q": "q_norm",
        "norm_k": "k_norm",
    },
    "vocoder": {
        "conv_in": "conv_pre",
        "conv_out": "conv_post",
        "act_out": "act_post",
        "upsamplers": "ups",
        "resnets": "resblocks",
        "downsample": "downsample.lowpass",
    },
    "audio_vae": {
        "latents_mean": "per_channel_statistics.mean-of-means",
        "latents_std": "per_channel_statistics.std-of-means",
    },
}
_PREFIXES = {
    "transformer": "model.diffusion_model.",
    "connectors": "",
    "vocoder": "vocoder.",
    "audio_vae": "audio_vae.",
}


def model(part: str) -> nn.Module:
    """A part of the small model; always the same weights."""
    cls, config = CLASSES[part]
    return small.seeded(cls, config)


def upsampler() -> nn.Module:
    return small.seeded(LTX2LatentUpsamplerModel, UPSAMPLER | {"use_rational_resampler": False})


def published_names(part: str) -> dict[str, Tensor]:
    """The state of a part under the names of the published file, written from their side."""
    state = model(part).state_dict()
    if part == "vae":
        return {_vae_name(name): tensor for name, tensor in state.items()}
    words = _WORDS[part]
    return {
        _PREFIXES[part] + ".".join(words.get(word, word) for word in name.split(".")): tensor
        for name, tensor in state.items()
    }


def _vae_name(name: str) -> str:
    for ours, theirs in (
        ("encoder.mid_block", "encoder.down_blocks.4"),
        ("encoder.down_blocks.0.downsamplers.0", "encoder.down_blocks.1"),
        ("encoder.down_blocks.1.downsamplers.0", "encoder.down_blocks.3"),
        ("encoder.down_blocks.1.resnets", "encoder.down_blocks.2.resnets"),
        ("decoder.up_blocks.1.upsamplers.0", "decoder.up_blocks.3"),
        ("decoder.up_blocks.1.resnets", "decoder.up_blocks.4.resnets"),
        ("decoder.up_blocks.0.upsamplers.0", "decoder.up_blocks.1"),
        ("decoder.up_blocks.0.resnets", "decoder.up_blocks.2.resnets"),
        ("decoder.mid_block", "decoder.up_blocks.0"),
        ("latents_mean", "per_channel_statistics.mean-of-means"),
        ("latents_std", "per_channel_statistics.std-of-means"),
    ):
        if name.startswith(ours):
            name = name.replace(ours, theirs)
            break
    return "vae." + name.replace("resnets", "res_blocks")


def write_single(
    path: Path, config: Mapping[str, Any] | None = PUBLISHED, extra: Mapping[str, Tensor] | None = None
) -> Path:
    """A published single file of the five parts."""
    tensors = {name: tensor for part in CLASSES for name, tensor in published_names(part).items()}
    tensors |= {"vae.per_channel_statistics.mean-of-stds": torch.ones(4), **(extra or {})}
    metadata = None if config is None else {"config": json.dumps(config), "model_version": "2.3.0"}
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path, metadata)
    return path


def write_upscaler(path: Path) -> Path:
    config = {"_class_name": "LatentUpsampler", **UPSAMPLER, "dims": 3, "spatial_upsample": True, "spatial_scale": 2.0}
    save_file(dict(upsampler().state_dict()), path, {"config": json.dumps(config | {"rational_resampler": False})})
    return path


WORDS = ("a", "red", "blue", "ball", "rolls", "rings", "loudly", "user", "model", "paragraph", "the", "video", "is")
SIGNS = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
SIGHTS = ("<start_of_image>", "<end_of_image>", "<image_soft_token>")


def write_text(folder: Path, *, sees: bool = False, speaks: bool = True) -> Path:
    """A Gemma-3 and its tokenizer. `sees`: with a vision tower; `speaks`: it knows turns of a conversation."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        Gemma3Config,
        Gemma3ForCausalLM,
        Gemma3ForConditionalGeneration,
        Gemma3TextConfig,
        PreTrainedTokenizerFast,
    )

    vocabulary = [*(SIGNS if speaks else SIGNS[:4]), *SIGHTS, *WORDS]
    index = {word: place for place, word in enumerate(vocabulary)}
    text: dict[str, Any] = {
        "vocab_size": len(vocabulary),
        "hidden_size": GEMMA_WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": GEMMA_LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention"],
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
        "initializer_range": 0.5,
    }
    torch.manual_seed(6)
    if sees:
        vision = {
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 7,
            "vision_use_head": False,
        }
        config = Gemma3Config(
            text_config=text,
            vision_config=vision,
            mm_tokens_per_image=4,
            boi_token_index=index["<start_of_image>"],
            eoi_token_index=index["<end_of_image>"],
            image_token_index=index["<image_soft_token>"],
            initializer_range=0.5,
        )
        encoder: Any = Gemma3ForConditionalGeneration(config)
        encoder.model.multi_modal_projector.mm_input_projection_weight.data.normal_()
    else:
        encoder = Gemma3ForCausalLM(Gemma3TextConfig(**text))
    encoder.save_pretrained(folder / "text_encoder")
    tokenizer = Tokenizer(models.WordLevel(index, unk_token="<unk>"))
    tokenizer.add_special_tokens([sign for sign in (*SIGNS, *SIGHTS) if sign in index])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
    )
    wrapped.save_pretrained(folder / "tokenizer")
    return folder


def write_model(folder: Path, *, sees: bool = False) -> Path:
    """The whole small model in diffusers layout."""
    for part in CLASSES:
        small.write_folder(folder / part, model(part))
    small.write_folder(folder / "latent_upsampler", upsampler())
    return write_text(folder, sees=sees)


def opened(part: PartName, config: Mapping[str, Any]) -> Checkpoint:
    """A checkpoint of a part without weights."""
    return Checkpoint(part, Path("published"), LTX2_LAYOUT.classes[part], config, {})


@dataclass(frozen=True)
class NoisyTrack:
    """Tokens that all carry noise."""

    bounds: Tensor
    is_free: bool = True

    @property
    def levels(self) -> tuple[Tensor, Tensor]:
        return torch.ones(1), torch.zeros(self.bounds.shape[2], dtype=torch.long)


def evaluated(transformer: Any, words: EncodedPrompt, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """The velocities of eight picture tokens and six of sound; always the same ones."""
    generator = torch.Generator().manual_seed(3)
    counts, axes, widths = {"video": 8, "audio": 6}, {"video": 3, "audio": 1}, {"video": 4, "audio": 8}
    tokens, tracks = {}, {}
    for stream, count in counts.items():
        starts = torch.arange(float(count)).expand(1, axes[stream], count)
        tracks[stream] = NoisyTrack(torch.stack([starts, starts + 1], -1))
        tokens[stream] = torch.randn(1, count, widths[stream], generator=generator).to(dtype)
    positioned = PositionedTracks.of(transformer, tracks)  # type: ignore[arg-type]
    with torch.no_grad():
        found = velocities(transformer, positioned, tokens, 0.6, [Prediction(words)], ())  # type: ignore[arg-type]
    return found["video"], found["audio"]
