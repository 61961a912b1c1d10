"""A server whose power is cut: what it has not flushed to disk is lost.

    python -m tests.worker.power_cut DATA_FOLDER

The program runs a server and submits requests to it. It prints the id of each request once it is stored. `synced.c`
records what the program flushes, and `disk_after` builds from that the data folder as it is after the power cut.
"""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake.database.connection import connect, file_url, reading
from longtake.database.migrate import migrate
from longtake.database.tables import requests
from longtake.queue import engine as queue
from longtake.queue import payloads
from longtake.settings import settings
from tests.worker.requests import submission
from tests.worker.server import QUICK, Server, slow_store

PADDING = 2 * payloads.INLINE_BYTES
"""Characters of the large inputs, which are stored as blobs. No device carries out these requests."""


def recorder(folder: Path) -> Path:
    """Compiles `synced.c`, and returns the library. Skips the test if there is no C compiler for Linux."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("there is no C compiler for the library that records what is flushed")
    library = folder / "synced.so"
    source = Path(__file__).with_name("synced.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def served_until_power_cut(root: Path, copies: Path, library: Path, seconds: float) -> tuple[list[str], list[str]]:
    """Runs the program for some seconds, and until a request is completed. Then kills all its processes.

    Returns the ids of the requests that were stored, and of those that were completed, as clients saw them before.
    """
    recording = {"LD_PRELOAD": str(library), "SYNCED_ROOT": str(root), "SYNCED_COPIES": str(copies)}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.worker.power_cut", str(root)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | recording,
        start_new_session=True,
    )
    assert process.stdout is not None
    stored = [process.stdout.readline().strip()]
    assert stored[0], "the program has ended"
    engine = connect(file_url(root / "queue.db"))
    until = time.monotonic() + seconds
    while not (completed := completed_requests(engine)) or time.monotonic() < until:
        stored.append(process.stdout.readline().strip())
        assert stored[-1], "the program has ended"
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    engine.dispose()
    return stored, completed


def completed_requests(engine: sa.Engine) -> list[str]:
    with reading(engine) as connection:
        return list(connection.scalars(sa.select(requests.c.id).where(requests.c.state == "COMPLETED")))


def disk_after(copies: Path, target: Path) -> None:
    """Builds the data folder as it is on disk after a power cut, in the new folder `target`.

    A name is there if its folder was flushed with it, and a file has the bytes that it had when it was last flushed.
    """
    _build(copies, "root", target)


def _build(copies: Path, identity: str, target: Path) -> None:
    target.mkdir()
    entries = copies / identity
    for line in entries.read_text().splitlines() if entries.exists() else ():
        of_entry, kind, name = line.split(" ", 2)
        if kind == "d":
            _build(copies, of_entry, target / name)
        elif (copies / of_entry).exists():
            shutil.copyfile(copies / of_entry, target / name)
        else:
            (target / name).touch()


def main(folder: str) -> None:
    root = Path(folder)
    engine = connect(file_url(root / "queue.db"))
    migrate(engine)
    chosen = settings(**QUICK | {"data_dir": root, "slots": ("cpu", "cpu")})
    store = slow_store(engine, root)
    Server(engine, chosen, store=store).start()
    for number in itertools.count():
        large = submission("no device", number=number, padding="x" * PADDING)
        for one in (submission(number=number, windows=2, window_s=0.01), payloads.move_out(store, large)):
            queue.submit(engine, replace(one, store_io=True))
            print(one.id, flush=True)
        time.sleep(0.02)


if __name__ == "__main__":
    main(*sys.argv[1:])
