"""The interface to the storage of bytes, so that no other room knows whether it is a folder or a bucket."""

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

PIECE_BYTES = 256 * 1024
"""The most bytes that `Blobs.open` yields at a time."""


@dataclass(frozen=True)
class Blob:
    """A stored blob as `Blobs.list` reports it. `modified_at` is in seconds since 1970."""

    key: str
    size: int
    modified_at: float


class Blobs(Protocol):
    """Stores blobs (sequences of bytes) under keys. A blob appears whole or not at all.

    Callers store different bytes under different keys, so that the bytes of a key never change while it is stored.
    A key is a name, or a folder and a name with `/` between them, of ASCII letters, digits, `.`, `-` and `_`; neither
    starts with a dot. Every method raises ValueError for any other key, and OSError if the storage fails.
    """

    def put(self, key: str, file: Path) -> None:
        """Stores the bytes of a local file durably. A blob of the same key is replaced in one step.

        `file` stays, so that the call can be repeated, and must not be written to afterwards: the blob may be a second
        name of the same file.
        """

    def open(self, key: str, start: int = 0, stop: int | None = None) -> Generator[bytes, None, None]:
        """Returns a generator of the bytes from `start` up to `stop` (None: the end), in pieces of PIECE_BYTES at most.

        Raises FileNotFoundError, at once, if there is no such blob.
        """

    def local(self, key: str) -> AbstractContextManager[Path]:
        """Yields a local file with the blob's bytes, which must not be changed and is valid in the block only.

        Raises FileNotFoundError if there is no such blob.
        """

    def size(self, key: str) -> int | None:
        """Returns the blob's size in bytes, or None if there is no such blob."""

    def delete(self, key: str) -> None:
        """Deletes the blob, if there is one."""

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Yields every blob whose key starts with `prefix`, in no particular order."""
