"""Looks whether this server shares files and time with the other servers of its database, and warns if it does not."""

import logging

import sqlalchemy as sa

from longtake import clock
from longtake.database import times
from longtake.database.connection import reading
from longtake.database.tables import files
from longtake.storage.files import FileStore

log = logging.getLogger(__name__)

NEWEST_FILES = 20
"""Number of the newest stored files whose bytes are looked for."""
MISSING_FILES = 3
"""Least number of them that must be missing for a warning. Fewer may have been deleted in the same moment."""
MOST_AHEAD_S = 60.0
"""Largest difference in seconds between the clocks of this machine and of the database's machine without a warning."""


def warn_of_differences(store: FileStore) -> None:
    """Logs a warning if files are missing that the database knows, or if the database's machine has another time."""
    missing = missing_files(store)
    if missing >= MISSING_FILES:
        log.warning(
            "%d of the %d newest stored files are not in this server's data folder. Servers that share a database must "
            "share their data folder, too. If its files were lost, restore the folder `files` from a backup.",
            missing,
            NEWEST_FILES,
        )
    ahead_s = times.ahead_s(store.engine)
    if abs(ahead_s) > MOST_AHEAD_S:
        log.warning(
            "This machine's clock is %.0f s %s that of the database's machine. Set both by a time server (NTP): "
            "otherwise files expire and requests time out at the wrong time.",
            abs(ahead_s),
            "ahead of" if ahead_s > 0 else "behind",
        )


def missing_files(store: FileStore) -> int:
    """Returns how many of the newest stored files (at most 20, NEWEST_FILES) have no bytes in the store."""
    newest = sa.select(files.c.blob).order_by(files.c.created_at.desc()).limit(NEWEST_FILES)
    is_stored = sa.or_(files.c.expires_at.is_(None), files.c.expires_at > clock.now())
    with reading(store.engine) as connection:
        blobs = connection.scalars(newest.where(is_stored)).all()
    return sum(store.blobs.size(blob) is None for blob in blobs)
