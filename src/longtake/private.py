"""Makes the data folder and the database file private: no other user of the machine can read or change them."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from longtake import system
from longtake.settings import Settings, make_folder

log = logging.getLogger(__name__)

FILE, FOLDER = 0o600, 0o700
"""The permissions of private files and of private folders."""
OTHERS = 0o077
"""The permissions that private files and folders do not have: all those of users other than the owner."""
COMPANIONS = ("-wal", "-shm", "-journal")
"""The endings of SQLite's own files beside a database. A new one gets the permissions of the database."""


def prepare_data_folder(settings: Settings) -> None:
    """Creates the data folder, for its owner alone. If it exists, other users lose their rights to it.

    If they had any, two more things happen:
    - They also lose their rights to the files and folders directly in it. A program of another user that opened the
      data folder before can still see these, but can open none of them, nor anything deeper.
    - A warning is logged, which says whether other users can still reach the data folder.

    Raises InvalidRequest if the folder cannot be created.
    """
    folder = settings.data_dir
    make_folder(folder, "data_dir", mode=FOLDER)
    if not system.is_open_to_others(folder):
        return
    still_open = [path for path in (folder, *sorted(folder.iterdir())) if not system.close_to_others(path)]
    if folder in still_open:
        _warn(folder)
    else:
        log.warning("Other users of this machine could reach the data folder %s. Now its owner alone can.", folder)


def prepare_database_file(path: Path) -> None:
    """Creates an empty file for a SQLite database, for its owner alone. If it exists, other users lose their rights.

    They also lose their rights to the files that SQLite keeps beside it. A warning names each of these files that other
    users can still reach. No error is raised if the file cannot be created: SQLite reports the reason later.

    path: path of the database file.
    """
    # An existing file is not opened: on closing it, this process would lose SQLite's locks on it.
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, FILE))
    for each in (path, *(path.with_name(path.name + suffix) for suffix in COMPANIONS)):
        if system.is_open_to_others(each) and not system.close_to_others(each):
            _warn(each)


@contextmanager
def new_files_private() -> Iterator[None]:
    """Context manager: files and folders that this process and its children create in the block are private.

    Files whose permissions are set explicitly keep those.
    """
    before = os.umask(OTHERS)
    try:
        yield
    finally:
        os.umask(before)


def _warn(path: Path) -> None:
    log.warning(
        "Other users of this machine can reach %s, and its permissions cannot be changed: it belongs to another user, "
        "is shared by all users, or its file system has no permissions. Use a data folder (LONGTAKE_DATA_DIR) that "
        "belongs to the server's user alone.",
        path,
    )
