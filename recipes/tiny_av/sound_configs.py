"""Sizes and settings of the sound parts. Rates are the same as in the published model; widths are smaller."""

from typing import Any

SOUND_RATE = 16_000
"""Rate in Hz of the sounds that the audio autoencoder reads."""
HOP = 160
"""Samples per spectrogram frame."""
MEL_BINS = 64
FULL_RATE = 48_000
"""Rate in Hz of the sounds that the vocoder makes."""

AUDIO_CHANNELS = 2
AUDIO_BINS = MEL_BINS // 4
AUDIO_TOKEN = AUDIO_CHANNELS * AUDIO_BINS
"""The length of an audio token: the number of (channel, bin) pairs. It must equal `base_channels`, the number of
statistics in the model."""
AUDIO_RATE = 25
"""Audio latents per second. The first latent covers one spectrogram frame, and each later one covers four."""

AUDIO_VAE: dict[str, Any] = {
    "base_channels": AUDIO_TOKEN,
    "output_channels": 2,
    "ch_mult": (1, 1, 1),
    "num_res_blocks": 1,
    "attn_resolutions": None,
    "in_channels": 2,
    "resolution": 256,
    "latent_channels": AUDIO_CHANNELS,
    "norm_type": "pixel",
    "causality_axis": "height",
    "dropout": 0.0,
    "mid_block_add_attention": False,
    "sample_rate": SOUND_RATE,
    "mel_hop_length": HOP,
    "is_causal": True,
    "mel_bins": MEL_BINS,
    "double_z": True,
}

LISTENING = (1, 1, 2)
SUMMING = (3, 9, 27, 81, 243, 729)
"""Dilations of the vocoder's blocks that add up phase. The first block sums 3 * 3 = 9 frames, and each further one
three times as many.

The last one sums 2187 frames, almost 22 s.
"""
VOCODER: dict[str, Any] = {
    "in_channels": 2 * MEL_BINS,
    "hidden_channels": 64,
    "out_channels": 2,
    "upsample_kernel_sizes": (1, 192),
    "upsample_factors": (1, HOP),
    "resnet_kernel_sizes": (5,),
    "resnet_dilations": ((*LISTENING, *SUMMING, 1),),
    "act_fn": "snakebeta",
    "antialias": False,
    "final_act_fn": None,
    "final_bias": False,
    "bwe_in_channels": 32,
    "bwe_hidden_channels": 8,
    "bwe_out_channels": 2,
    "bwe_upsample_kernel_sizes": (240,),
    "bwe_upsample_factors": (240,),
    "bwe_resnet_kernel_sizes": (3,),
    "bwe_resnet_dilations": ((1,),),
    "bwe_act_fn": "snakebeta",
    "bwe_antialias": False,
    "bwe_final_act_fn": None,
    "bwe_final_bias": False,
    "filter_length": 96,
    "hop_length": 80,
    "window_length": 96,
    "num_mel_channels": 16,
    "input_sampling_rate": SOUND_RATE,
    "output_sampling_rate": FULL_RATE,
}
