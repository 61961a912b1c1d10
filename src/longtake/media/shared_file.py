"""An open file that several readers can read alternately, each from its own position."""

import io
import os
from typing import BinaryIO, Literal, Protocol


class Openable(Protocol):
    """A file that can be opened for reading: a path, or a SharedFile in a process that cannot open paths."""

    def open(self, mode: Literal["rb"]) -> BinaryIO: ...


class SharedFile:
    """An open file, for a process that cannot open files itself. It can have several readers (see `open`).

    The readers share one file descriptor, so only one thread may use them.

    file: the open file, which must be unbuffered.
    """

    def __init__(self, file: io.FileIO) -> None:
        self._file = file

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """Returns a new reader with its own position, at the start of the file. Closing it leaves the file open."""
        return io.BufferedReader(_Reader(self._file))


class _Reader(io.RawIOBase):
    """One reader of a SharedFile, with a position of its own."""

    def __init__(self, file: io.FileIO) -> None:
        super().__init__()
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        self._file.seek(self._position)
        count = self._file.readinto(buffer) or 0
        self._position += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_END:
            offset += self._file.seek(0, os.SEEK_END)
        elif whence == os.SEEK_CUR:
            offset += self._position
        if offset < 0:
            raise ValueError(f"The position {offset} is before the start of the file.")
        self._position = offset
        return offset


def size_of(file: Openable) -> int:
    """Returns the size of a file in bytes."""
    with file.open("rb") as opened:
        return opened.seek(0, os.SEEK_END)
