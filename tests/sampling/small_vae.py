"""A small autoencoder with random weights."""

import torch
from diffusers import AutoencoderKLLTXVideo


def small_vae() -> AutoencoderKLLTXVideo:
    """Returns an autoencoder of the embedded model's geometry: 16 pixels and 4 frames to a latent."""
    torch.manual_seed(0)
    return AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 16, 16),
        down_block_types=("LTXVideo095DownBlock3D",) * 2,
        layers_per_block=(1, 1, 1),
        spatio_temporal_scaling=(True, True),
        downsample_type=("spatiotemporal",) * 2,
        decoder_block_out_channels=(16, 16),
        decoder_layers_per_block=(1, 1, 1),
        decoder_spatio_temporal_scaling=(True, True),
        decoder_inject_noise=(False,) * 3,
        upsample_residual=(True, True),
        upsample_factor=(2, 1),
        timestep_conditioning=False,
        encoder_causal=True,
        decoder_causal=False,
    ).eval()
