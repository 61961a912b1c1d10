"""Removes the colour cast of the model's autoencoder from generated frames, so that they match the source's colours."""

from collections.abc import Sequence

import torch
from torch import Tensor


def match_colour(
    new_frames: Tensor, source_frame: Tensor, decoded_frame: Tensor, fade_frames: int, distances: Sequence[int]
) -> Tensor:
    """Returns `new_frames` [t, 3, H, W] (RGB in 0..1) without the colour cast of the model's autoencoder.

    The cast is the difference between the channel means of `source_frame` and `decoded_frame`. It is removed completely
    from the new frame next to the source, and less and less from the frames after it.

    new_frames: generated frames.
    source_frame: the source's frame next to the new ones, [3, H, W] in 0..1.
    decoded_frame: the same frame after the autoencoder has encoded and decoded it, [3, H, W] in 0..1.
    fade_frames: the number of new frames over which the correction fades out. Frames after these are unchanged.
    distances: for each frame of `new_frames`, the number of new frames between the source and this frame.

    The three tensors are on one device, and so is the result.
    """
    weights = [max(0.0, 1 - distance / max(fade_frames, 1)) for distance in distances]
    if not any(weights):
        return new_frames
    cast = source_frame.mean((1, 2)) - decoded_frame.mean((1, 2))
    offsets = torch.tensor(weights, device=cast.device)[:, None] * cast
    return (new_frames + offsets[:, :, None, None]).clamp_(0, 1)
