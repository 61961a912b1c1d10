"""Joins the latents of a window to those of the windows before it, with a cross-fade."""

import torch
from torch import Tensor

from longtake.families.ltxv.colour import adain


def fuse(before: Tensor, window: Tensor, first: Tensor, overlap: int, adain_factor: float) -> Tensor:
    """Returns the latents `before` [B, C, F, H, W] continued by the latents of the next `window`.

    The window was conditioned on the last `overlap` latent frames of `before`, so it begins with its own version of
    them. The steps are:
    - The window's colours are matched to those of the `first` window by `adain_factor`, 0 (not) to 1 (fully).
    - The window's first latent frame is dropped, because it covers one frame. The latent frame of `before` at the same
      place covers several, and is kept.
    - The other overlap - 1 shared latent frames are cross-faded linearly.

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
