"""Joins the latents of a window to those of the windows before it, with a cross-fade."""

import torch
from torch import Tensor

from longtake.families.ltxv.colour import adain


def fuse(before: Tensor, window: Tensor, first: Tensor, overlap: int, adain_factor: float) -> Tensor:
    """Returns the latents of the windows so far, continued by the latents of the next window.

    The next window begins with its own version of the last `overlap` latent frames so far. The two versions are joined
    like this:
    - The colours of the next window are matched to those of the first window.
    - The next window's first latent frame is dropped, because the first latent frame of a window covers only one frame.
      The version in `before` is kept.
    - The other `overlap` - 1 latent frames fade linearly from the version in `before` to that in `window`.

    `before`: the latents of the windows so far, [B, C, F, H, W].
    `window`: the latents of the next window. Only F may differ.
    `first`: the latents of the first window. Only F may differ.
    `overlap`: the number of latent frames that the next window shares with `before`.
    `adain_factor`: how far the colours are matched, 0 (not) to 1 (fully).

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
