"""Background threads that delete files and uploads once they have expired, and what crashes left behind."""

from longtake.database.connection import is_temporary
from longtake.periodic import Repeating
from longtake.storage import uploads
from longtake.storage.files import FileStore

SWEEP_S = 5.0
"""Seconds between two sweeps. An expired file cannot be read, but takes up space for so long at most."""
STRAYS_S = 3600.0
"""Seconds between two searches for what crashes left behind."""


def sweepers(store: FileStore, *, sweep_s: float = SWEEP_S, strays_s: float = STRAYS_S) -> list[Repeating]:
    """Returns the threads that sweep a store, not yet started. Every server has them; several may sweep one store."""

    def sweep() -> float:
        store.sweep()
        uploads.sweep(store)
        return sweep_s

    def sweep_strays() -> float:
        store.sweep_strays()
        return strays_s

    return [
        Repeating(
            "sweeper", sweep, failure="Expired files could not be deleted", is_temporary=is_temporary, retry_s=sweep_s
        ),
        Repeating(
            "stray sweeper",
            sweep_strays,
            failure="What crashes left behind could not be deleted",
            is_temporary=is_temporary,
            retry_s=60,
        ),
    ]
