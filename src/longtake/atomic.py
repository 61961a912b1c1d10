"""Atomic file writes: a file appears under its name only when it is complete and flushed to disk."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from longtake.system import flush


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Context manager that gives the path of a new, empty temporary file, to which the `with` block writes.

    - When the block ends, the temporary file is flushed to disk and renamed to `path`. It replaces an existing file.
    - When the block raises, the temporary file is deleted and `path` is unchanged.

    The temporary file is in the folder of `path`. Only its owner can read it, also under its new name.
    """
    temporary = _new_file(path)
    try:
        yield temporary
        flush(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush(path.parent)


def create(path: Path, content: bytes) -> bool:
    """Writes `content` to a new file that only its owner can read, and returns True.

    Returns False, and changes nothing, if `path` already exists.

    On a file system without hard links (exFAT, some network folders) another process may see the new file before all of
    `content` is in it.
    """
    temporary = _new_file(path)
    try:
        temporary.write_bytes(content)
        flush(temporary)
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # no hard links here
            with open(path, "xb", opener=_private) as file:
                file.write(content)
            flush(path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    flush(path.parent)
    return True


def make_lasting_folder(folder: Path) -> None:
    """Creates a folder and the folders above it, unless they exist, and flushes the new ones to disk.

    Without the flush, a power cut could lose a new folder, and with it the files inside.
    """
    if folder.is_dir():
        return
    make_lasting_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    flush(folder.parent)


def _new_file(path: Path) -> Path:
    """Creates an empty file with a random name in the folder of `path`, and returns the new file's path.

    Only its owner can read it.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    os.close(_private(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    return temporary


def _private(path: str | Path, flags: int) -> int:
    """Opens a file and returns its descriptor. Only its owner can read a new file. `flags` are those of `os.open`."""
    return os.open(path, flags, 0o600)
