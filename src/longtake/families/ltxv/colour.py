"""Statistics of latents: matching one video's colours to another's, and compressing their range."""

import torch
from torch import Tensor


def adain(latent: Tensor, reference: Tensor, factor: float = 1.0) -> Tensor:
    """Returns `latent` [B, C, F, H, W] with the mean and standard deviation of `reference` per channel.

    `factor` 0..1 interpolates from `latent` unchanged to the full match. The shapes may differ in F, H and W. Source:
    adaptive instance normalisation (Huang and Belongie 2017), over frames, rows and columns.
    """
    axes = (2, 3, 4)
    own_std, own_mean = torch.std_mean(latent, axes, keepdim=True)
    std, mean = torch.std_mean(reference, axes, keepdim=True)
    return torch.lerp(latent, (latent - own_mean) / own_std * std + mean, factor)


def tone_map(latent: Tensor, compression: float) -> Tensor:
    """Returns normalised latents with their range compressed: z (1 - 0.8 k sigmoid(4 k (|z| - 1))).

    k = 0.75 `compression`, which is 0 (unchanged) to 1. Source: LTX-Video 0.9.8.
    """
    k = 0.75 * compression
    return latent * (1 - 0.8 * k * torch.sigmoid(4 * k * (latent.abs() - 1)))
