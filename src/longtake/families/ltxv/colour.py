"""Two functions on latents: one matches the colours of a video to those of another, the other compresses the range of
values."""

import torch
from torch import Tensor

from longtake.sampling.deviation import divisor


def adain(latent: Tensor, reference: Tensor, factor: float = 1.0) -> Tensor:
    """Moves the mean and the standard deviation of each channel of `latent` [B, C, F, H, W] to those of `reference`.

    `factor` sets how far they are moved, 0 (not) to 1 (fully). The shape of `reference` may differ in F, H
    and W. The statistics are over frames, rows and columns. If all values of a channel of `latent` are equal, only the
    mean is matched. Source: adaptive instance normalisation (Huang and Belongie 2017).
    """
    axes = (2, 3, 4)
    own_std, own_mean = torch.std_mean(latent, axes, keepdim=True)
    std, mean = torch.std_mean(reference, axes, keepdim=True)
    return torch.lerp(latent, (latent - own_mean) / divisor(own_std) * std + mean, factor)


def tone_map(latent: Tensor, compression: Tensor | float) -> Tensor:
    """Returns normalised latents with a compressed range of values.

    A value z becomes z (1 - 0.8 k sigmoid(4 k (|z| - 1))), where k is 0.75 * `compression`. `compression` is 0
    (unchanged) to 1: one number, or a tensor of a shape that fits that of `latent`. Source: LTX-Video 0.9.8.
    """
    k = 0.75 * compression
    return latent * (1 - 0.8 * k * torch.sigmoid(4 * k * (latent.abs() - 1)))
