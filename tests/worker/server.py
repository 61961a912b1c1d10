"""A server without HTTP: the real slots and the real lease watch, with the scripted worker process.

    python -m tests.worker.server DATABASE_URL DATA_FOLDER [SETTINGS_AS_JSON]

It prints `up` once it claims requests, and drains after SIGTERM.
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
from longtake.worker.context import Files
from longtake.worker.leases import LeaseWatch
from longtake.worker.slots import Slots

WORKER = (sys.executable, "-S", "-E", str(Path(__file__).with_name("scripted_worker.py")))

QUICK: dict[str, Any] = {"slots": ("cpu",), "lease_s": 1.0, "stall_s": 60.0, "cancel_grace_s": 0.3, "drain_s": 2.0}
"""Settings under which no test waits for long."""


class Folder:
    """Stored files in a plain folder. While a file `slow` is beside the folder, a stored result is not reported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def own_file(self, url: str, key_id: str | None) -> Path | None:
        return None

    def add_result(self, request_id: str, file: NewFile, path: Path) -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        key = f"{request_id}-{file.name}"
        if not (self.folder / key).exists():
            path.replace(self.folder / key)
        while (self.folder.parent / "slow").exists():
            time.sleep(0.01)
        return key


class Server:
    """The slots and the lease watch of a server. `changes` collects the ids of changed requests."""

    def __init__(
        self, engine: sa.Engine, chosen: Settings, command: tuple[str, ...] = WORKER, files: Files | None = None
    ) -> None:
        self.changes: list[str] = []
        files = files or Folder(chosen.data_dir / "files")
        self.slots = Slots(engine, chosen, files, self.changes.append, command=command)
        self.watch = LeaseWatch(engine, chosen, self.changes.append, self.slots.wake)

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
    chosen = settings(**QUICK | {"data_dir": Path(folder)} | json.loads(overrides))
    server = Server(engine, chosen).start()
    terminated: list[int] = []  # a threading.Event could deadlock if the signal came while this thread enters its wait
    signal.signal(signal.SIGTERM, lambda number, _: terminated.append(number))
    os.write(1, b"up\n")
    while not terminated:
        time.sleep(0.02)
    server.watch.stop()
    server.slots.drain(chosen.drain_s)


if __name__ == "__main__":
    main(*sys.argv[1:])
