"""Stores blobs as files in a folder, which may be on a network file system that several servers share."""

import os
import secrets
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

from longtake.atomic import make_lasting_folder
from longtake.storage.blobs import KEY, PIECE_BYTES, Blob
from longtake.system import flush

SCRATCH = ".incoming"
"""The subfolder for files that are still being written.

It is on the blobs' file system, so that such a file can become a blob without being copied.
"""


@dataclass(frozen=True)
class LocalBlobs:
    """Stores each blob as a file `<folder>/<key>`. The folder is created when the first blob is stored."""

    folder: Path

    def put(self, key: str, file: Path) -> None:
        """Stores the bytes of the local `file` durably as the blob `key`. An existing blob is replaced atomically.

        If `file` is on the same file system, the blob is a hard link to it, and nothing is copied. So `file` must not
        be written to afterwards.
        """
        target, temporary = self._path(key), self.folder / SCRATCH / secrets.token_hex(8)
        for needed in (target, temporary):
            make_lasting_folder(needed.parent)
        try:
            try:
                os.link(file, temporary)
            except OSError:  # `file` is on another file system, or hard links are not supported
                shutil.copyfile(file, temporary)
            os.utime(temporary)  # `modified_at` must be the time of this call
            flush(temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)  # it still exists if it was another link to the same file as `target`
        flush(target.parent)

    def open(self, key: str, start: int = 0, stop: int | None = None) -> Generator[bytes, None, None]:
        return _pieces(self._path(key).open("rb"), start, stop)

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        path = self._path(key)
        path.stat()
        yield path

    def size(self, key: str) -> int | None:
        try:
            return self._path(key).stat().st_size
        except FileNotFoundError:
            return None

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def list(self) -> Iterator[Blob]:
        for path in chain.from_iterable(map(self.folder.glob, ("*", "*/*"))):
            key = path.relative_to(self.folder).as_posix()
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue  # it was deleted in the meantime
            if KEY.fullmatch(key) and S_ISREG(facts.st_mode):
                yield Blob(key, facts.st_size, facts.st_mtime)

    def _path(self, key: str) -> Path:
        if not KEY.fullmatch(key):
            raise ValueError(f"{key!r} is not the key of a blob.")
        return self.folder / key


def _pieces(file: BinaryIO, start: int, stop: int | None) -> Generator[bytes, None, None]:
    with file:
        file.seek(start)
        while piece := file.read(PIECE_BYTES if stop is None else min(PIECE_BYTES, stop - file.tell())):
            yield piece
