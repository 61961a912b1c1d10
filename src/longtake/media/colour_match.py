"""Removes the autoencoder's colour cast from new frames next to the source's own frames."""

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

    `source_frame` [H, W, 3] is the source's frame next to the new ones. `decoded_frame` [H, W, 3] is the same frame
    after the model has encoded and decoded it. The colour cast is the difference between their channel means. It is
    removed completely from the new frame next to the source, less from each later frame, and not at all after
    `fade_frames` frames. `first` is the number of frames between the source and `new_frames[0]`: 0, or more for later
    chunks.
    """
    cast = source_frame.mean(axis=(0, 1), dtype=np.float64) - decoded_frame.mean(axis=(0, 1), dtype=np.float64)
    weights = np.maximum(0, 1 - np.arange(first, first + len(new_frames)) / max(fade_frames, 1))
    if not weights.any():
        return new_frames
    offsets: NDArray[np.float32] = (weights[:, None, None, None] * cast).astype(np.float32)
    matched: NDArray[np.float32] = np.clip(new_frames + offsets, 0, 1)
    return matched
