"""Temporary folders, all in the data folder. `sweep` deletes those that killed processes left.

The name of a temporary folder begins with the identity of its process, so `sweep` can find out whether that process has
ended. That is impossible if the process ran on another machine that shares the data folder. So `sweep` also deletes
each such folder in which nothing has changed for one day (OLD_S), unless the system's clock has just jumped.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from longtake import clock
from longtake.errors import InvalidRequest
from longtake.processes import mark, state_of
from longtake.settings import Settings, make_folder

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
    with tempfile.TemporaryDirectory(prefix=mark(), dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def sweep(settings: Settings, *, old_s: float = OLD_S) -> None:
    """Deletes the temporary folders in the data folder that killed processes left (see `sweep_folders`).

    `old_s`: seconds without a change after which a folder is deleted although it is unknown whether its process lives.
    """
    sweep_folders(settings.data_dir / PLACE, old_s)


def sweep_folders(place: Path, old_s: float) -> None:
    """Deletes the folders in `place` that killed processes left:

    - Those of processes that are known to have ended.
    - Those in which nothing has changed for `old_s` seconds, if it is not known whether their process has ended. They
      stay while the system's clock cannot be trusted (see `clock.is_steady`).

    Whether a process has ended is not known if it ran on another machine, before the last boot, or on a system other
    than Linux.
    """
    for folder in place.glob("*"):
        match state_of(folder.name):
            case False:
                shutil.rmtree(folder, ignore_errors=True)
            case None if clock.is_steady():
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
