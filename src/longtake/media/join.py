"""Where the source's own frames meet the new ones, and the finished video backwards.

Every output is encoded from decoded frames: one path for any input. An H.264 source could instead keep its own
packets, with the new ones after them under a second parameter set; that fast path belongs here, behind a gate
(MP4, progressive 8-bit 4:2:0, constant rate, same size, no reversal, nothing asked of quality), once players on
every platform are known to seek across such a joint.
"""

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray


def match_colour(
    new_frames: NDArray[np.float32],
    last_kept: NDArray[np.float32],
    reconstruction: NDArray[np.float32],
    fade_frames: int,
    *,
    first: int = 0,
) -> NDArray[np.float32]:
    """New frames [t, H, W, 3] in 0..1 without the colour cast that the autoencoder gives to all it decodes.

    The cast is measured where the truth is known: `last_kept` [H, W, 3] is the source's frame at the joint,
    `reconstruction` what the model decoded for that same frame. Their difference in channel means is added to
    the first new frame in full, and less and less up to frame `fade_frames`, which is as decoded. `first` is the
    place of `new_frames[0]` after the joint, from 0, for videos that come in chunks.
    """
    cast = last_kept.mean(axis=(0, 1), dtype=np.float64) - reconstruction.mean(axis=(0, 1), dtype=np.float64)
    weights = np.maximum(0, 1 - np.arange(first, first + len(new_frames)) / max(fade_frames, 1))
    if not weights.any():
        return new_frames
    offsets: NDArray[np.float32] = (weights[:, None, None, None] * cast).astype(np.float32)
    matched: NDArray[np.float32] = np.clip(new_frames + offsets, 0, 1)
    return matched


class ReversedFrames:
    """Frames written forwards, read backwards: `with ReversedFrames(folder, height, width) as spool`.

    They lie in a nameless file in `folder` (width x height x 3 bytes each, for uint8), not in memory, and are gone
    with the block.
    """

    def __init__(self, folder: Path, height: int, width: int, dtype: type[np.uint8] | type[np.uint16] = np.uint8):
        self._folder = folder
        self._shape = (height, width, 3)
        self._dtype = np.dtype(dtype)
        self.num_frames = 0

    def __enter__(self) -> Self:
        self._file = tempfile.TemporaryFile(dir=self._folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, frames: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
        """Add frames [t, H, W, 3]."""
        if frames.shape[1:] != self._shape or frames.dtype != self._dtype:
            raise ValueError(f"Frames must be [t, {self._shape}] {self._dtype}, not {frames.shape} {frames.dtype}.")
        self._file.seek(self.num_frames * self._frame_bytes())
        for frame in frames:
            self._file.write(frame.tobytes())
        self.num_frames += len(frames)

    def chunks(self, size: int) -> Iterator[NDArray[np.uint8] | NDArray[np.uint16]]:
        """All frames, the last first, `size` at a time: [t, H, W, 3]."""
        self._file.flush()
        for stop in range(self.num_frames, 0, -size):
            start = max(0, stop - size)
            count = (stop - start) * math.prod(self._shape)
            self._file.seek(start * self._frame_bytes())
            forwards = np.frombuffer(self._file.read(count * self._dtype.itemsize), self._dtype)
            yield np.ascontiguousarray(forwards.reshape(-1, *self._shape)[::-1])

    def _frame_bytes(self) -> int:
        return math.prod(self._shape) * self._dtype.itemsize
