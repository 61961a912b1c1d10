"""A server without HTTP: the slots and the watch of the real one, with the scripted worker process.

    python -m tests.worker.server <database URL> <data folder> [settings as JSON]

It says `up` once it claims, and drains upon SIGTERM.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from longtake.database.connection import connect
from longtake.database.migrate import migrate
from longtake.settings import Settings, settings
from longtake.storage.files import NewFile
from longtake.worker.claims import Store
from longtake.worker.leases import Watch
from longtake.worker.slots import Slots

CHILD = (sys.executable, "-S", "-E", str(Path(__file__).with_name("script_child.py")))

QUICK: dict[str, Any] = {"slots": ("cpu",), "lease_s": 1.0, "stall_s": 5.0, "cancel_grace_s": 0.3, "drain_s": 2.0}
"""Settings under which nothing takes long."""


class Shelf:
    """A store that renames into a folder; and waits after that while there is a file `slow` beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add_result(self, request_id: str, file: NewFile, path: Path) -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        key = f"{request_id}-{file.name}"
        if not (self.folder / key).exists():
            path.replace(self.folder / key)
        while (self.folder.parent / "slow").exists():
            time.sleep(0.01)
        return key


class Server:
    """What a server is made of."""

    def __init__(
        self, engine: sa.Engine, asked: Settings, command: tuple[str, ...] = CHILD, store: Store | None = None
    ) -> None:
        self.changes: list[str] = []
        store = store or Shelf(asked.data_dir / "files")
        self.slots = Slots(engine, asked, store, self.changes.append, command=command)
        self.watch = Watch(engine, asked, self.changes.append, self.slots.wake)

    def start(self) -> "Server":
        self.slots.start()
        self.watch.start()
        return self

    def stop(self) -> None:
        self.watch.stop()
        self.slots.stop()


def main(url: str, folder: str, overrides: str = "{}") -> None:
    engine = connect(url)
    migrate(engine)
    asked = settings(**QUICK | {"data_dir": Path(folder)} | json.loads(overrides))
    server = Server(engine, asked).start()
    terminated: list[int] = []  # an Event could not be set while this thread is about to wait for it
    signal.signal(signal.SIGTERM, lambda number, _: terminated.append(number))
    os.write(1, b"up\n")
    while not terminated:
        time.sleep(0.02)
    server.watch.stop()
    server.slots.drain(asked.drain_s)


if __name__ == "__main__":
    main(*sys.argv[1:])
