"""The audio models' published architectures on few channels, with weights that are always the same."""

from typing import Any

import torch

LATENT_CHANNELS, LATENT_BINS, MEL_BINS = 2, 4, 16


def small_audio_vae() -> Any:
    """Eight values a token."""
    from diffusers import AutoencoderKLLTX2Audio

    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderKLLTX2Audio(
            base_channels=LATENT_CHANNELS * LATENT_BINS,
            ch_mult=(1, 2, 3),
            num_res_blocks=1,
            latent_channels=LATENT_CHANNELS,
            mel_bins=MEL_BINS,
        )
        vae.latents_mean.copy_(torch.randn(8))
        vae.latents_std.copy_(torch.rand(8) + 0.5)
    return vae.eval()


def small_vocoder(rate: int = 48_000, **config: Any) -> Any:
    """The published kernels and rates, for the small autoencoder's bins; without bandwidth extension at other rates."""
    from diffusers.pipelines.ltx2 import LTX2Vocoder, LTX2VocoderWithBWE

    with torch.random.fork_rng():
        torch.manual_seed(0)
        if rate != 48_000:
            return LTX2Vocoder(in_channels=2 * MEL_BINS, hidden_channels=32, output_sampling_rate=rate).eval()
        vocoder = LTX2VocoderWithBWE(in_channels=2 * MEL_BINS, hidden_channels=64, bwe_hidden_channels=32, **config)
        for name, basis in vocoder.mel_stft.named_buffers():
            basis.copy_(torch.rand_like(basis) * 0.01 if "mel" in name else torch.randn_like(basis) * 0.05)
    return vocoder.eval()
