"""Atomic file writes: a file appears under its name complete and on disk, or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields the path of a new temporary file beside `path`, to be written in the block.

    When the block ends, the temporary file is flushed to disk and renamed to `path`, replacing what was there. When the
    block raises, the temporary file is deleted and `path` is unchanged. Only its owner can read the temporary file.
    """
    temporary = _new_file(path)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def create(path: Path, content: bytes) -> bool:
    """Writes a new file that only its owner can read. Returns False if there is one already, which is not changed."""
    temporary = _new_file(path)
    try:
        temporary.write_bytes(content)
        sync(temporary)
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    sync(path.parent)
    return True


def _new_file(path: Path) -> Path:
    """Creates an empty file beside `path`, with a random name, that only its owner can read."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    return temporary


def sync(path: Path) -> None:
    """Flushes a file or a folder to disk; on Windows, which cannot flush a folder, only a file."""
    if os.name == "nt" and path.is_dir():
        return
    opened = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
