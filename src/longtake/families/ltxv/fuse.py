"""Long videos: one window's latents joined to those before it."""

import torch
from torch import Tensor

from longtake.families.ltxv.colour import adain


def fuse(before: Tensor, window: Tensor, first: Tensor, overlap: int, adain_factor: float) -> Tensor:
    """`before` [B, C, F, H, W] continued by a window that started on its last `overlap` latents.

    The window takes on the first window's colours by `adain_factor`, loses its first latent (which stands for one
    frame where the video has several) and is cross-faded linearly over the other overlap - 1.
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
