"""Removes the colour cast of the model's autoencoder from generated frames, so that they match the source's colours."""

import numpy as np
from numpy.typing import NDArray


def match_colour(
    new_frames: NDArray[np.float32],
    source_frame: NDArray[np.float32],
    decoded_frame: NDArray[np.float32],
    fade_frames: int,
    *,
    first: int = 0,
) -> NDArray[np.float32]:
    """Returns `new_frames` [t, H, W, 3] (RGB in 0..1) without the colour cast of the model's autoencoder.

    The cast is the difference between the channel means of `source_frame` and `decoded_frame`. It is removed completely
    from the new frame next to the source, and less and less from the frames after it.

    new_frames: generated frames, ordered by their distance from the source, the nearest one first.
    source_frame: the source's frame next to the new ones, [H, W, 3] in 0..1.
    decoded_frame: the same frame after the autoencoder has encoded and decoded it, [H, W, 3] in 0..1.
    fade_frames: the number of new frames over which the correction fades out. Frames after these are unchanged.
    first: number of new frames between the source and `new_frames[0]`, if the new frames come in several chunks.
    """
    cast = source_frame.mean(axis=(0, 1), dtype=np.float64) - decoded_frame.mean(axis=(0, 1), dtype=np.float64)
    weights = np.maximum(0, 1 - np.arange(first, first + len(new_frames)) / max(fade_frames, 1))
    if not weights.any():
        return new_frames
    offsets: NDArray[np.float32] = (weights[:, None, None, None] * cast).astype(np.float32)
    matched: NDArray[np.float32] = np.clip(new_frames + offsets, 0, 1)
    return matched
