"""Sizes and settings of the embedded LTX-2 model's parts. Those of both embedded models are in
`recipes.tiny.configs`."""

from pathlib import Path
from typing import Any

from recipes.tiny import configs as first
from recipes.tiny_av.sound_configs import AUDIO_TOKEN

HEADS = 6
VIDEO_WIDTH = 192
"""Width of the transformer's video stream. It is the same as in the LTX-Video model, whose weights are the start of
training."""
AUDIO_WIDTH = 72
"""Width of the audio stream. It must be much larger than an audio token, otherwise the stream cannot denoise the
tokens."""
GEMMA_WIDTH = 64
GEMMA_LAYERS = 2

VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": first.LATENT_CHANNELS,
    "block_out_channels": (64, 64),
    "down_block_types": ("LTX2VideoDownBlock3D",) * 2,
    "layers_per_block": (1, 1, 1),
    "spatio_temporal_scaling": (True, True),
    "downsample_type": ("spatiotemporal",) * 2,
    "decoder_block_out_channels": (64, 64),
    "decoder_layers_per_block": first.VAE["decoder_layers_per_block"],
    "decoder_spatio_temporal_scaling": (True, True),
    "decoder_inject_noise": (False,) * 3,
    "upsample_type": ("spatiotemporal",) * 2,
    "upsample_residual": (True, True),
    "upsample_factor": (1, 1),
    "patch_size": 4,
    "patch_size_t": 1,
    "encoder_causal": True,
    "decoder_causal": False,
    "encoder_spatial_padding_mode": "zeros",
    "decoder_spatial_padding_mode": "zeros",
    "timestep_conditioning": False,
    "spatial_compression_ratio": first.SPATIAL,
    "temporal_compression_ratio": first.TEMPORAL,
}
TRANSFORMER: dict[str, Any] = {
    "in_channels": first.LATENT_CHANNELS,
    "out_channels": first.LATENT_CHANNELS,
    "num_attention_heads": HEADS,
    "attention_head_dim": VIDEO_WIDTH // HEADS,
    "cross_attention_dim": VIDEO_WIDTH,
    "vae_scale_factors": (first.TEMPORAL, first.SPATIAL, first.SPATIAL),
    "gated_attn": True,
    "cross_attn_mod": True,
    "audio_in_channels": AUDIO_TOKEN,
    "audio_out_channels": AUDIO_TOKEN,
    "audio_num_attention_heads": HEADS,
    "audio_attention_head_dim": AUDIO_WIDTH // HEADS,
    "audio_cross_attention_dim": AUDIO_WIDTH,
    "audio_gated_attn": True,
    "audio_cross_attn_mod": True,
    "num_layers": 6,
    "caption_channels": GEMMA_WIDTH,
    "rope_type": "split",
    "use_prompt_embeddings": False,
    "perturbed_attn": True,
}
GEMMA: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": GEMMA_WIDTH,
    "intermediate_size": 128,
    "num_hidden_layers": GEMMA_LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "max_position_embeddings": first.SEQUENCE,
    "sliding_window": first.SEQUENCE,
    "layer_types": ["full_attention"] * GEMMA_LAYERS,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
    "tie_word_embeddings": True,
    "use_cache": False,
}
CONNECTORS: dict[str, Any] = {
    "caption_channels": GEMMA_WIDTH,
    "text_proj_in_factor": GEMMA_LAYERS + 1,
    "video_connector_num_attention_heads": HEADS,
    "video_connector_attention_head_dim": VIDEO_WIDTH // HEADS,
    "video_connector_num_layers": 0,
    "video_connector_num_learnable_registers": first.SEQUENCE,
    "video_gated_attn": True,
    "audio_connector_num_attention_heads": HEADS,
    "audio_connector_attention_head_dim": AUDIO_WIDTH // HEADS,
    "audio_connector_num_layers": 0,
    "audio_connector_num_learnable_registers": first.SEQUENCE,
    "audio_gated_attn": True,
    "rope_type": "split",
    "per_modality_projections": True,
    "video_hidden_dim": VIDEO_WIDTH,
    "audio_hidden_dim": AUDIO_WIDTH,
    "proj_bias": True,
}
UPSAMPLER: dict[str, Any] = {
    "in_channels": first.LATENT_CHANNELS,
    "mid_channels": 64,
    "num_blocks_per_stage": 1,
    "dims": 3,
    "spatial_upsample": True,
    "temporal_upsample": False,
    "rational_spatial_scale": 2.0,
    "use_rational_resampler": False,
}

WORK = Path(__file__).parent / "work"
"""The folder of checkpoints, latents and logs, which is not part of the repository."""
WEIGHTS = first.WEIGHTS.parent / "ltx2-tiny"
FIRST_WEIGHTS = first.WEIGHTS
"""The folder of the embedded LTX-Video model, where training starts."""
