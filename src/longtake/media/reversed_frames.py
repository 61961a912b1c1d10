"""Stores frames in a temporary file and reads them in reverse order."""

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from longtake.media.planes import Planes


class ReversedFrames:
    """A temporary file of frames, which are written in order and read in reverse order.

    `shape` and `dtype` are the shape and the dtype of the array of one frame. The file is in `folder`, has no name, and
    exists only within the `with` block.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: type[np.uint8] | type[np.uint16]) -> None:
        self._folder = folder
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self.num_frames = 0

    def __enter__(self) -> Self:
        self._file = tempfile.TemporaryFile(dir=self._folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, frames: Planes) -> None:
        """Appends an array of frames [t, *shape]. Raises ValueError if a frame does not have `shape` and `dtype`."""
        if frames.shape[1:] != self._shape or frames.dtype != self._dtype:
            raise ValueError(f"Frames must be [t, {self._shape}] {self._dtype}, not {frames.shape} {frames.dtype}.")
        self._file.seek(self.num_frames * self._frame_bytes())
        for frame in frames:
            self._file.write(frame.tobytes())
        self.num_frames += len(frames)

    def chunks(self, size: int) -> Iterator[Planes]:
        """Yields all frames in reverse order, in arrays [t, *shape] of at most `size` frames."""
        self._file.flush()
        for stop in range(self.num_frames, 0, -size):
            start = max(0, stop - size)
            count = (stop - start) * math.prod(self._shape)
            self._file.seek(start * self._frame_bytes())
            forwards = np.frombuffer(self._file.read(count * self._dtype.itemsize), self._dtype)
            yield np.ascontiguousarray(forwards.reshape(-1, *self._shape)[::-1])

    def _frame_bytes(self) -> int:
        return math.prod(self._shape) * self._dtype.itemsize
