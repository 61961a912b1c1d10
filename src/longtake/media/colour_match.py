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
    """Returns new frames [t, H, W, 3] in 0..1 whose colour cast is removed at the joint and fades back in.

    The cast is the difference in channel means between `source_frame` [H, W, 3] at the joint and `decoded_frame`, the
    model's decoding of that same frame. All of it is removed from the first new frame, less from each later one, and
    nothing from frame `fade_frames` on. `first` is the index of `new_frames[0]` after the joint, for videos in chunks.
    """
    cast = source_frame.mean(axis=(0, 1), dtype=np.float64) - decoded_frame.mean(axis=(0, 1), dtype=np.float64)
    weights = np.maximum(0, 1 - np.arange(first, first + len(new_frames)) / max(fade_frames, 1))
    if not weights.any():
        return new_frames
    offsets: NDArray[np.float32] = (weights[:, None, None, None] * cast).astype(np.float32)
    matched: NDArray[np.float32] = np.clip(new_frames + offsets, 0, 1)
    return matched
