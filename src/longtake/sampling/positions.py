"""Where tokens are in the video: seconds and pixels, for the rotary embedding."""

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """How latents lie in a video: VAE compression (frames, pixels) and playback rate (frames per second)."""

    temporal: int
    spatial: int
    rate: Fraction

    def coords(self, frames: int, height: int, width: int, start_frame: int = 0) -> Tensor:
        """[1, 3, frames * height * width] float32: (seconds, y px, x px) of each latent's start corner.

        Time is causal: latent 0 holds one frame, so latent i starts at frame max(temporal * i - (temporal - 1), 0);
        a clip placed at `start_frame` is moved by it. Tokens in the order frame, row, column.
        Source: LTX-Video 0.9.5 and later.
        """
        first_frames = (torch.arange(frames) * self.temporal - (self.temporal - 1)).clamp(min=0) + start_frame
        seconds = first_frames.float() / float(self.rate)
        axes = (seconds, torch.arange(height).float() * self.spatial, torch.arange(width).float() * self.spatial)
        return torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)[None]


def to_tokens(latent: Tensor) -> Tensor:
    """[B, C, F, H, W] -> [B, F * H * W, C]."""
    return latent.flatten(2).transpose(1, 2)


def to_latent(tokens: Tensor, shape: tuple[int, ...]) -> Tensor:
    """[B, F * H * W, C] -> `shape` = [B, C, F, H, W]."""
    return tokens.transpose(1, 2).reshape(shape)
