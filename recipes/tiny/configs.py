"""Sizes and settings of the embedded LTX-Video model's parts, for training, evaluation and export."""

from pathlib import Path
from typing import Any

LATENT_CHANNELS = 64
SPATIAL = 16
"""Pixels per latent cell, in width and height."""
TEMPORAL = 4
"""Frames per latent frame. The first latent frame holds one frame."""
CAPTION = 64
"""Width of the text encoder."""
SEQUENCE = 32
"""Tokens of an encoded prompt. Longer prompts are cut."""
FPS = 24.0

VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": LATENT_CHANNELS,
    "block_out_channels": (32, 64, 128),
    "down_block_types": ("LTXVideo095DownBlock3D",) * 2,
    "layers_per_block": (1, 1, 1),
    "spatio_temporal_scaling": (True, True),
    "downsample_type": ("spatiotemporal",) * 2,
    "decoder_block_out_channels": (64, 64),
    "decoder_layers_per_block": (2, 4, 3),
    "decoder_spatio_temporal_scaling": (True, True),
    "decoder_inject_noise": (False,) * 3,
    "upsample_residual": (True, True),
    "upsample_factor": (1, 1),
    "patch_size": 4,
    "patch_size_t": 1,
    "encoder_causal": True,
    "decoder_causal": False,
    "timestep_conditioning": False,
    "spatial_compression_ratio": SPATIAL,
    "temporal_compression_ratio": TEMPORAL,
}
SHALLOW_VAE: dict[str, Any] = VAE | {"decoder_layers_per_block": (1, 2, 2)}
"""The VAE before its decoder gets its last layers. Encoder and latents are the same."""
TRANSFORMER: dict[str, Any] = {
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "num_attention_heads": 6,
    "attention_head_dim": 32,
    "cross_attention_dim": 192,
    "num_layers": 8,
    "caption_channels": CAPTION,
}
SHALLOW_TRANSFORMER: dict[str, Any] = TRANSFORMER | {"num_layers": 6}
"""The transformer before it gets two more layers."""
KEPT_LAYERS = (0, 1, 3, 4, 6, 7)
"""The numbers that the layers of the shallow transformer have in the one with more layers."""
TEXT_ENCODER: dict[str, Any] = {
    "vocab_size": 128,
    "d_model": CAPTION,
    "d_kv": 16,
    "num_heads": 4,
    "d_ff": 128,
    "num_layers": 1,
    "dropout_rate": 0.0,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "is_encoder_decoder": False,
    "use_cache": False,
}
UPSAMPLER: dict[str, Any] = {
    "in_channels": LATENT_CHANNELS,
    "mid_channels": 64,
    "num_blocks_per_stage": 1,
    "dims": 3,
    "spatial_upsample": True,
    "temporal_upsample": False,
}

STEPS = 8
"""Sampling steps. They start at the noise levels 1, .994, .988, .981, .975, .909, .725 and .422."""

WORK = Path(__file__).parent / "work"
"""The folder of checkpoints, latents and logs, which is not part of the repository."""
WEIGHTS = Path(__file__).parents[2] / "src" / "longtake" / "weights" / "ltxv-tiny"


def num_latents(num_frames: int) -> int:
    """Returns the number of latent frames of a clip of `num_frames` = 4k+1 frames."""
    return (num_frames - 1) // TEMPORAL + 1
