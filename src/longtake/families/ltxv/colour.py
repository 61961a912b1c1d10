"""Changes latents: `adain` gives a video the colours of another video, `tone_map` compresses the range of values."""

import torch
from torch import Tensor

from longtake.sampling.deviation import divisor


def adain(latent: Tensor, reference: Tensor, factor: float = 1.0) -> Tensor:
    """Returns `latent` with the mean and the standard deviation of each channel moved to those of `reference`.

    In a picture this changes the colours. The statistics of a channel are taken over all frames, rows and columns. If
    all values of a channel of `latent` are equal, only its mean is moved.

    `latent`: [B, C, F, H, W].
    `reference`: latents with the same B and C; their F, H and W may differ.
    `factor`: how far the statistics are moved, 0 (not) to 1 (fully).

    Source: adaptive instance normalisation (Huang and Belongie 2017).
    """
    axes = (2, 3, 4)
    own_std, own_mean = torch.std_mean(latent, axes, keepdim=True)
    std, mean = torch.std_mean(reference, axes, keepdim=True)
    return torch.lerp(latent, (latent - own_mean) / divisor(own_std) * std + mean, factor)


def tone_map(latent: Tensor, compression: Tensor | float) -> Tensor:
    """Returns the normalised latents `latent` [B, C, F, H, W] with a compressed range: large values are reduced most.

    A value z becomes z (1 - 0.8 k sigmoid(4 k (|z| - 1))), where k is 0.75 * `compression`.

    `compression`: 0 (nothing changes) to 1: one number, or a tensor that is broadcast to the shape of `latent`.

    Source: LTX-Video 0.9.8.
    """
    k = 0.75 * compression
    return latent * (1 - 0.8 * k * torch.sigmoid(4 * k * (latent.abs() - 1)))
