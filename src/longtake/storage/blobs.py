"""The interface of a storage for bytes, which can be a folder or a bucket. Other modules do not know which."""

import re
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

KEY = re.compile(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*", re.ASCII)
"""The form of a blob's key, which every implementation checks (see `Blobs`)."""

PIECE_BYTES = 256 * 1024
"""Maximum size in bytes of the pieces that `Blobs.open` yields."""


@dataclass(frozen=True)
class Blob:
    """A stored blob: its key, its size in bytes, and the Unix time in seconds at which it was stored."""

    key: str
    size: int
    modified_at: float


class Blobs(Protocol):
    """Stores blobs (sequences of bytes) under keys. A blob appears complete or not at all.

    A key is `name` or `folder/name`. Names and folders consist of ASCII letters, digits, `.`, `-` and `_`, and do not
    start with a dot. Callers never store different bytes under the same key. Every method raises ValueError for an
    invalid key, and OSError if the storage fails.
    """

    def put(self, key: str, file: Path) -> None:
        """Stores the bytes of a local file durably. An existing blob of this key is replaced atomically.

        `file` remains, so that the call can be repeated. It must not be written to afterwards, because the blob may be
        a hard link to it.
        """

    def open(self, key: str, start: int = 0, stop: int | None = None) -> Generator[bytes, None, None]:
        """Returns a generator that yields the blob's bytes in pieces of at most 256 KiB (PIECE_BYTES).

        `start`: the offset of the first byte.
        `stop`: the offset after the last byte; None means the end of the blob.

        If there is no such blob, the call itself raises FileNotFoundError.
        """

    def local(self, key: str) -> AbstractContextManager[Path]:
        """Returns a context manager that yields the path of a local file with the blob's bytes.

        The file must not be changed, and may be used only inside the `with` block. Raises FileNotFoundError if there is
        no such blob.
        """

    def size(self, key: str) -> int | None:
        """Returns the blob's size in bytes, or None if there is no such blob."""

    def delete(self, key: str) -> None:
        """Deletes the blob, if it exists."""

    def list(self) -> Iterator[Blob]:
        """Yields the facts about every blob, in any order."""
