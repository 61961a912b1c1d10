"""The settings of LTX-2.3's parts for sound, as published, turned into those of diffusers' classes. Needs no torch."""

from collections.abc import Mapping
from typing import Any

from longtake.models.layout import Config, Shapes, require


def audio_stream_config(section: Mapping[str, Any], sound: Mapping[str, Any]) -> Config:
    """Returns those settings of diffusers' `LTX2VideoTransformer3DModel` that are about sound.

    section: the published settings of the transformer.
    sound: the published settings of the audio autoencoder. They may be empty.
    """
    return {
        "audio_in_channels": section.get("audio_in_channels", 128),
        "audio_out_channels": section.get("audio_out_channels", 128),
        "audio_patch_size": 1,
        "audio_patch_size_t": 1,
        "audio_num_attention_heads": section.get("audio_num_attention_heads", 32),
        "audio_attention_head_dim": section.get("audio_attention_head_dim", 64),
        "audio_cross_attention_dim": section.get("audio_cross_attention_dim", 2048),
        "audio_scale_factor": 4,
        "audio_pos_embed_max_pos": section.get("audio_positional_embedding_max_pos", [20])[0],
        "audio_sampling_rate": sound["model"]["params"].get("sampling_rate", 16000) if sound else 16000,
        "audio_hop_length": sound["preprocessing"]["stft"].get("hop_length", 160) if sound else 160,
        "audio_gated_attn": bool(section.get("apply_gated_attention")),
        "audio_cross_attn_mod": bool(section.get("cross_attention_adaln")),
    }


def audio_vae_config(section: Mapping[str, Any]) -> Config:
    """Returns the settings with which diffusers' `AutoencoderKLLTX2Audio` is built.

    section: the published settings of the audio autoencoder and of the spectrum that it reads.
    Raises `BadCheckpoint` for a setting that diffusers' class does not support.
    """
    parameters, spectrum = section["model"]["params"], section["preprocessing"]
    shape = parameters["ddconfig"]
    require("audio_vae", shape, {"resamp_with_conv": True, "attn_type": "vanilla"})
    return {
        "base_channels": shape.get("ch", 128),
        "output_channels": shape.get("out_ch", 2),
        "ch_mult": shape.get("ch_mult", [1, 2, 4]),
        "num_res_blocks": shape.get("num_res_blocks", 2),
        "attn_resolutions": shape.get("attn_resolutions") or None,
        "in_channels": shape.get("in_channels", 2),
        "resolution": shape.get("resolution", 256),
        "latent_channels": shape.get("z_channels", 8),
        "norm_type": shape.get("norm_type", "pixel"),
        "causality_axis": shape.get("causality_axis", "height"),
        "dropout": shape.get("dropout", 0.0),
        "mid_block_add_attention": shape.get("mid_block_add_attention", True),
        "sample_rate": parameters.get("sampling_rate", 16000),
        "mel_hop_length": spectrum["stft"].get("hop_length", 160),
        "is_causal": spectrum["stft"].get("causal", True),
        "mel_bins": shape.get("mel_bins") or spectrum["mel"]["n_mel_channels"],
        "double_z": shape.get("double_z", True),
    }


def vocoder_config(section: Mapping[str, Any], shapes: Shapes) -> Config:
    """Returns the settings with which diffusers' `LTX2VocoderWithBWE` is built.

    section: the published settings of the vocoder.
    shapes: the shapes of its tensors, by diffusers' names.
    Raises `BadCheckpoint` for a setting that diffusers' class does not support.
    """
    config: Config = {}
    for generator, prefix, weights in (("vocoder", "", "vocoder"), ("bwe", "bwe_", "bwe_generator")):
        part = section[generator]
        require("vocoder", part, {"resblock": "AMP1", "stereo": True, "activation": "snakebeta"})
        settings = {
            "in_channels": shapes[f"{weights}.conv_in.weight"][1],
            "hidden_channels": part["upsample_initial_channel"],
            "out_channels": 2,
            "upsample_kernel_sizes": part["upsample_kernel_sizes"],
            "upsample_factors": part["upsample_rates"],
            "resnet_kernel_sizes": part["resblock_kernel_sizes"],
            "resnet_dilations": part["resblock_dilation_sizes"],
            "act_fn": "snakebeta",
            "leaky_relu_negative_slope": 0.1,
            "antialias": True,
            "antialias_ratio": 2,
            "antialias_kernel_size": 12,
            "final_act_fn": "tanh" if part.get("use_tanh_at_final", True) else None,
            "final_bias": bool(part.get("use_bias_at_final", True)),
        }
        config |= {f"{prefix}{name}": value for name, value in settings.items()}
    wide = section["bwe"]
    return config | {
        "filter_length": wide["n_fft"],
        "hop_length": wide["hop_length"],
        "window_length": wide["n_fft"],
        "num_mel_channels": wide["num_mels"],
        "input_sampling_rate": wide["input_sampling_rate"],
        "output_sampling_rate": wide["output_sampling_rate"],
    }
