"""The positions of tokens for the rotary embedding, in seconds from the start of the window, and in pixels."""

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """The grid of a video's latents.

    temporal: the number of frames that a latent covers. The first latent covers one frame: latent i starts at frame
        max(temporal * i - (temporal - 1), 0) and ends before frame temporal * i + 1.
    spatial: the side in pixels of the square that a latent covers.
    rate: the playback rate in frames per second.
    """

    temporal: int
    spatial: int
    rate: Fraction

    def coords(self, frames: int, height: int, width: int, start_frame: int = 0) -> Tensor:
        """Returns the position at which each latent starts: [1, 3, frames * height * width] float32.

        A position is (seconds, y px, x px). The latents are in the order frame, row, column.

        frames, height, width: the numbers of latents on the axes.
        start_frame: the video frame (not latent frame) at which the first latent starts, from 0.

        Source: LTX-Video 0.9.5 and later.
        """
        first_frames = (torch.arange(frames) * self.temporal - (self.temporal - 1)).clamp(min=0) + start_frame
        seconds = first_frames.float() / float(self.rate)
        axes = (seconds, torch.arange(height).float() * self.spatial, torch.arange(width).float() * self.spatial)
        return torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)[None]

    def bounds(self, frames: int, height: int, width: int) -> Tensor:
        """Returns the start and end of each latent: [1, 3, frames * height * width, 2] float32.

        The second axis is (seconds, y px, x px), and the last is (start, end). The latents are in the order frame, row,
        column.

        frames, height, width: the numbers of latents on the axes.

        Source: LTX-2.
        """
        first = torch.arange(frames) * self.temporal - (self.temporal - 1)
        return self._bounds(torch.stack([first.clamp(min=0), first + self.temporal], -1), height, width)

    def keyframe_bounds(self, height: int, width: int, frame: int) -> Tensor:
        """Returns the place of each latent of an image in time and space: [1, 3, height * width, 2] float32.

        A place is a range on each of three axes: seconds, y in pixels and x in pixels. The last axis of the result is
        (start, end) of the range. The latents are in rows, from top to bottom.

        height, width: the numbers of latents in a column and in a row.
        frame: the number (from 0) of the video frame that the image stands for. The range in seconds of each latent
            is that of this frame.
        """
        return self._bounds(torch.tensor([[frame, frame + 1]]), height, width)

    def _bounds(self, frames: Tensor, height: int, width: int) -> Tensor:
        """Returns the start and end of each latent as (seconds, y px, x px): [1, 3, f * height * width, 2] float32.

        frames: [f, 2]: for each latent frame, the number of its first video frame, and the number of the video frame
            that follows its last one.
        height, width: the numbers of latents in a column and in a row.
        """
        seconds = frames.float() / float(self.rate)
        rows, columns = (
            torch.stack([start, start + self.spatial], -1).float()
            for start in (torch.arange(side) * self.spatial for side in (height, width))
        )
        counts = [torch.arange(len(axis)) for axis in (seconds, rows, columns)]
        places = torch.meshgrid(*counts, indexing="ij")
        axes = [axis[place.flatten()] for axis, place in zip((seconds, rows, columns), places, strict=True)]
        return torch.stack(axes)[None]


AUDIO_LATENTS_PER_S = 25
"""Audio latents per second. A latent covers four mel frames, and there are 100 mel frames per second."""


def audio_latents(num_frames: int, rate: Fraction) -> int:
    """Returns the number of audio latents for `num_frames` video frames: 25 per second, rounded to a whole number.

    rate: the playback rate of the video in frames per second.
    """
    return round(num_frames / rate * AUDIO_LATENTS_PER_S)


def audio_bounds(count: int) -> Tensor:
    """Returns the start and end of `count` audio latents in seconds: [1, 1, count, 2] float32. The times count from the
    start of the first audio latent.

    Latent i covers the mel frames max(4i - 3, 0) to 4i. A mel frame lasts 10 ms. Source: LTX-2.
    """
    first = torch.arange(count) * 4 - 3
    return torch.stack([first.clamp(min=0), first + 4], -1)[None, None].float() / 100


def audio_before(count: int, seconds: Fraction) -> Tensor:
    """Returns a mask [count], True for each audio latent that ends at or before `seconds`, counted from the start of
    the first audio latent."""
    return torch.tensor([Fraction(4 * i + 1, 100) <= seconds for i in range(count)])


def audio_from(count: int, seconds: Fraction) -> Tensor:
    """Returns a mask [count], True for each audio latent that starts at or after `seconds`, counted from the start of
    the first audio latent."""
    return torch.tensor([Fraction(max(4 * i - 3, 0), 100) >= seconds for i in range(count)])


def to_tokens(latent: Tensor) -> Tensor:
    """Rearranges latents [B, C, F, H, W] into tokens [B, F * H * W, C]."""
    return latent.flatten(2).transpose(1, 2)


def to_latent(tokens: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Rearranges tokens [B, F * H * W, C] into latents of `shape` = [B, C, F, H, W]."""
    return tokens.transpose(1, 2).reshape(shape)
