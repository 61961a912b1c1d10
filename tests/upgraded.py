"""`longtake serve` on the data folder of an earlier version."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from longtake.database.connection import connect, file_url
from longtake.queue.requests import RequestRow
from tests.commands import terminated
from tests.worker.requests import whole_row

FOLDERS = Path(__file__).parent / "data" / "upgrade"
"""The data folders of earlier versions, as archives."""

PUBLIC = "http://old.example:8000"
"""The address under which the earlier servers were reached. URLs in their answers begin with it."""

PATIENCE_S = 240


@dataclass(frozen=True)
class Server:
    """This version's server on an old folder. `key` is a key of that folder, and `pid` the server's process."""

    http: str
    data_dir: Path
    log: Path
    key: str
    pid: int

    def ask(self, method: str, url: str, **more: object) -> httpx.Response:
        """Sends a request with the key. `url` is a path, or a URL in an answer of the earlier server."""
        headers = {"Authorization": f"Key {self.key}"}
        return httpx.request(
            method,
            f"{self.http}{url.removeprefix(PUBLIC)}",
            headers=headers,
            timeout=30,
            **more,  # type: ignore[arg-type]
        )

    def get(self, url: str) -> httpx.Response:
        return self.ask("GET", url)

    def row(self, request_id: str) -> RequestRow:
        return row_of(self.data_dir, request_id)

    def ended(self, request_id: str) -> RequestRow:
        self.wait_until(lambda: self.row(request_id).has_ended)
        return self.row(request_id)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < until, self.log.read_text()[-3000:]
            time.sleep(0.2)


def row_of(data_dir: Path, request_id: str) -> RequestRow:
    engine = connect(file_url(data_dir / "longtake.db"))
    try:
        row = whole_row(engine, request_id)
    finally:
        engine.dispose()
    assert row is not None
    return row


@contextmanager
def serving(data_dir: Path, key: str, settings: Mapping[str, str]) -> Iterator[Server]:
    """Runs a server on an old data folder. `settings` are environment variables."""
    command = [str(Path(sys.executable).with_name("longtake")), "serve", "--port", "0", "--data-dir", str(data_dir)]
    environment = {**os.environ, "LONGTAKE_LEASE_S": "1", "LONGTAKE_SLOTS": "cpu", **settings}
    log = data_dir.parent / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([*command, "--host", "127.0.0.1"], stdout=out, stderr=out, env=environment)
    with terminated(process):
        yield Server(_address(process, log), data_dir, log, key, process.pid)


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        if found := re.search(r"longtake serves (http://\S+)", log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise AssertionError(log.read_text()[-3000:])
