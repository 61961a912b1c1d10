"""Long videos: joins a window's latents to those before it."""

import torch
from torch import Tensor

from longtake.families.ltxv.colour import adain


def fuse(before: Tensor, window: Tensor, first: Tensor, overlap: int, adain_factor: float) -> Tensor:
    """Returns `before` [B, C, F, H, W] continued by a window that was conditioned on its last `overlap` latents.

    The window takes on the colours of the `first` window's latents by `adain_factor`, 0..1. Its first latent is
    dropped: it covers one frame, where `before` has several. The other overlap - 1 are cross-faded linearly.
    Source: ComfyUI-LTXVideo's looping sampler.
    """
    window = adain(window, first, adain_factor)[:, :, 1:]
    shared = overlap - 1
    if shared == 0:
        return torch.cat([before, window], 2)
    fading_out = 1 - torch.arange(1, shared + 1, device=window.device, dtype=window.dtype) / (shared + 1)
    fading_out = fading_out[:, None, None]
    seam = fading_out * before[:, :, -shared:] + (1 - fading_out) * window[:, :, :shared]
    return torch.cat([before[:, :, :-shared], seam, window[:, :, shared:]], 2)
