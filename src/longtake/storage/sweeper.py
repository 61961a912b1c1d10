"""The thread that deletes what has expired."""

import logging
import threading
import time

from longtake.storage import uploads
from longtake.storage.files import FileStore

SWEEP_S = 5.0
"""Between two rounds: so long an expired file may lie about, though nobody is given it."""
STRAYS_S = 3600.0
"""Between two looks for what crashes left behind."""

log = logging.getLogger(__name__)


class Sweeper:
    """Sweeps a store, in rounds, until it is stopped. Every server has one; several may sweep one store."""

    def __init__(self, store: FileStore, *, every_s: float = SWEEP_S) -> None:
        self._store = store
        self._every_s = every_s
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        strays_at = time.monotonic()
        while not self._ending.wait(self._every_s):
            try:
                self._store.sweep()
                uploads.sweep(self._store)
                if time.monotonic() >= strays_at:
                    self._store.sweep_strays()
                    strays_at = time.monotonic() + STRAYS_S
            except Exception as error:
                log.warning("What has expired could not be deleted: %s", str(error).partition("\n")[0])
