"""A server without HTTP: the real slots and the real lease watch, with the scripted worker process."""

import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from longtake.database.connection import connect
from longtake.database.migrate import migrate
from longtake.settings import Settings, settings
from longtake.storage.blobs import Blobs
from longtake.storage.files import FileStore, NewFile
from longtake.storage.local import LocalBlobs
from longtake.worker.leases import LeaseWatch
from longtake.worker.slots import Slots

WORKER = (sys.executable, "-S", "-E", str(Path(__file__).with_name("scripted_worker.py")))

QUICK: dict[str, Any] = {"slots": ("cpu",), "lease_s": 60.0, "stall_s": 60.0, "cancel_grace_s": 0.3, "drain_s": 2.0}
"""Settings under which no test waits for long, and no server is declared dead because the machine is busy."""


class SlowStore(FileStore):
    """A file store that does not report a stored result while there is a file `slow` beside its scratch folder."""

    def add_result(self, request_id: str, file: NewFile, path: Path) -> str:
        key = super().add_result(request_id, file, path)
        while (self.scratch.parent / "slow").exists():
            time.sleep(0.01)
        return key


def slow_store(engine: sa.Engine, folder: Path, blobs: Blobs | None = None) -> SlowStore:
    """Returns a store with its scratch folder in the data folder, and its files there or in `blobs`."""
    return SlowStore(engine, blobs or LocalBlobs(folder / "files"), folder / "scratch")


class Server:
    """The slots and the lease watch of a server. `changes` collects the ids of changed requests."""

    def __init__(
        self, engine: sa.Engine, chosen: Settings, command: tuple[str, ...] = WORKER, store: FileStore | None = None
    ) -> None:
        self.changes: list[str] = []
        self.settings = chosen
        store = store or slow_store(engine, chosen.data_dir)
        self.slots = Slots(chosen, store, self.changes.append, command=command)
        self.watch = LeaseWatch(engine, chosen, self.changes.append, self.slots.wake)

    def start(self) -> "Server":
        self.slots.start()
        self.watch.start()
        return self

    def stop(self) -> None:
        self.watch.stop()
        self.slots.stop()


def serve_until_terminated(
    url: str, folder: Path, blobs: Blobs | None, overrides: dict[str, Any], up: Connection
) -> None:
    """Runs a server in this process, which drains after SIGTERM. Tells `up` as soon as the server claims requests."""
    engine = connect(url)
    migrate(engine)
    chosen = settings(**QUICK | {"data_dir": folder} | overrides)
    server = Server(engine, chosen, store=slow_store(engine, chosen.data_dir, blobs)).start()
    terminated: list[int] = []  # a threading.Event could deadlock if the signal came while this thread enters its wait
    signal.signal(signal.SIGTERM, lambda number, _: terminated.append(number))
    up.send(None)
    while not terminated:
        time.sleep(0.02)
    server.watch.stop()
    server.slots.drain(chosen.drain_s)
