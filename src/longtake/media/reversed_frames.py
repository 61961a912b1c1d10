"""Stores frames in a temporary file and reads them in reverse order."""

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray


class ReversedFrames:
    """A temporary file of RGB frames [height, width, 3], which are written in order and read in reverse order.

    The file is in `folder`, has no name, and exists only within the `with` block.
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
        """Appends frames [t, H, W, 3]. Raises ValueError for another size or dtype."""
        if frames.shape[1:] != self._shape or frames.dtype != self._dtype:
            raise ValueError(f"Frames must be [t, {self._shape}] {self._dtype}, not {frames.shape} {frames.dtype}.")
        self._file.seek(self.num_frames * self._frame_bytes())
        for frame in frames:
            self._file.write(frame.tobytes())
        self.num_frames += len(frames)

    def chunks(self, size: int) -> Iterator[NDArray[np.uint8] | NDArray[np.uint16]]:
        """Yields all frames in reverse order, in arrays [t, H, W, 3] with `t` at most `size`."""
        self._file.flush()
        for stop in range(self.num_frames, 0, -size):
            start = max(0, stop - size)
            count = (stop - start) * math.prod(self._shape)
            self._file.seek(start * self._frame_bytes())
            forwards = np.frombuffer(self._file.read(count * self._dtype.itemsize), self._dtype)
            yield np.ascontiguousarray(forwards.reshape(-1, *self._shape)[::-1])

    def _frame_bytes(self) -> int:
        return math.prod(self._shape) * self._dtype.itemsize
