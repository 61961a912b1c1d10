"""Background threads that delete expired files and uploads, and files that crashed processes left."""

from longtake import clock
from longtake.database.batches import PAUSE_S
from longtake.database.connection import is_temporary
from longtake.periodic import Repeating
from longtake.storage import uploads
from longtake.storage.files import FileStore
from longtake.storage.shared import warn_of_differences

SWEEP_S = 5.0
"""Seconds between two searches for expired files. An expired file cannot be read, but uses disk space until then."""
STRAYS_S = 3600.0
"""Seconds between two searches for files that crashed processes left."""


def sweepers(store: FileStore, *, sweep_s: float = SWEEP_S, strays_s: float = STRAYS_S) -> list[Repeating]:
    """Returns the threads that delete old files of a store. The caller must start them.

    `sweep_s`: the seconds between two deletions of expired files and uploads. Many are deleted in batches, with a short
        pause after each.
    `strays_s`: the seconds between two deletions of files that crashed processes left. Each time it is also checked
        whether files are missing (see `shared`).

    Several servers may run such threads for the same store. After a jump of the system's clock the threads delete
    nothing until the clock can be trusted again (see `clock.is_steady`).
    """

    def sweep() -> float:
        if not clock.is_steady():
            return sweep_s
        deleted = len(store.sweep()) + uploads.sweep(store)
        return PAUSE_S if deleted else sweep_s  # each call deletes a small batch, and there may be more

    def sweep_strays() -> float:
        if not clock.is_steady():
            return sweep_s
        store.sweep_strays()
        warn_of_differences(store)
        return strays_s

    return [
        Repeating(
            "sweeper", sweep, failure="Expired files could not be deleted", is_temporary=is_temporary, retry_s=sweep_s
        ),
        Repeating(
            "stray sweeper",
            sweep_strays,
            failure="Files left by crashed processes could not be deleted",
            is_temporary=is_temporary,
            retry_s=60,
        ),
    ]
