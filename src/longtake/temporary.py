"""Temporary folders, all in the data folder. `sweep` deletes those that killed processes left.

The name of a temporary folder begins with the identity of its process, so `sweep` can find out whether that process has
ended. That is impossible if the process ran on another machine that shares the data folder. So `sweep` also deletes
each folder in which nothing has changed for one day (OLD_S).
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from longtake import clock
from longtake.errors import InvalidRequest
from longtake.settings import Settings, make_folder
from longtake.system import boot_id, start_ticks

PLACE = "tmp"
"""The name of the folder of temporary folders, inside the data folder."""

OLD_S = 24 * 3600.0
"""Seconds without a change after which a folder is deleted although it is not known whether its process has ended."""


@contextmanager
def temporary_folder(settings: Settings) -> Iterator[Path]:
    """Context manager that gives a new folder, which only this user can read. It is deleted when the block ends.

    The folder is in the data folder or, if that cannot be created, in the system's folder for temporary files. Before
    it is created, the temporary folders of processes that were killed are deleted.
    """
    place = _place(settings)
    if place is not None:
        sweep(settings)
    prefix = f"{_machine()}.{os.getpid()}.{start_ticks(os.getpid())}."
    with tempfile.TemporaryDirectory(prefix=prefix, dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def sweep(settings: Settings, *, old_s: float = OLD_S) -> None:
    """Deletes the temporary folders that are no longer needed:

    - Those of processes that are known to have ended.
    - All others in which nothing has changed for `old_s` seconds.

    Whether a process has ended is not known if it ran on another machine, before the last boot, or on a system other
    than Linux.
    """
    for folder in (settings.data_dir / PLACE).glob("*"):
        if _has_ended(folder.name):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            delete_unchanged(folder, clock.now() - old_s)


def delete_unchanged(path: Path, since: float) -> None:
    """Deletes a file, or a folder with its content, if nothing in it has changed since the Unix time `since`.

    Does nothing if a part of it is moved or deleted meanwhile, and ignores other errors of the operating system, too.
    """
    with suppress(OSError):
        if max(item.lstat().st_mtime for item in (path, *path.rglob("*"))) >= since:
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _place(settings: Settings) -> Path | None:
    """Returns the folder of temporary folders, which is created if necessary. None if that is not possible."""
    try:
        make_folder(settings.data_dir, "data_dir", mode=0o700)
        place = settings.data_dir / PLACE
        place.mkdir(mode=0o700, exist_ok=True)
    except (InvalidRequest, OSError):
        return None
    return place if os.access(place, os.W_OK) else None


def _machine() -> str:
    """Returns a short id of the machine's current boot; empty on systems other than Linux."""
    boot = boot_id()
    return boot and hashlib.sha256(boot.encode()).hexdigest()[:16]


def _has_ended(name: str) -> bool:
    """Returns True if the process that made the temporary folder `name` is known to have ended.

    This is never known if the process ran on another machine, before the last boot, or on a system other than Linux.
    """
    machine, pid, born, *_ = (*name.split("."), "", "", "")
    return machine != "" and machine == _machine() and pid.isdigit() and str(start_ticks(int(pid))) != born
