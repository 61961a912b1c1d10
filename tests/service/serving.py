"""A real server for the tests: uvicorn in a thread, a SQLite database, and a thread in place of workers."""

import ipaddress
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from longtake.access.keys import Keys
from longtake.database import connection as database
from longtake.database.tables import metadata
from longtake.queue import engine as queue
from longtake.queue.requests import LogLine, Outcome, RequestRow
from longtake.queue.status_cache import StatusCache
from longtake.service.app import Application
from longtake.service.connections import Bounds, Connections
from longtake.service.ports import Ports
from longtake.service.state import ServerState
from longtake.settings import Settings, settings
from longtake.storage.blobs import Blobs
from longtake.storage.files import open_store
from tests.waiting import pause

LTXV = "fal-ai/ltxv-13b-098-distilled/extend"
LTX2 = "fal-ai/ltx-2.3-22b/extend-video"
OLD = "fal-ai/ltx-video-v097/extend"
SECONDS = "fal-ai/ltx-2.3/extend-video"
INPUT: dict[str, Any] = {"prompt": "a cat", "video": {"video_url": "data:video/mp4;base64,AAAA"}}
FLAT: dict[str, Any] = {"prompt": "a cat", "video_url": "data:video/mp4;base64,AAAA"}
INPUTS: Mapping[str, dict[str, Any]] = {
    LTXV: INPUT,
    OLD: INPUT,
    LTX2: FLAT,
    "fal-ai/ltx-video-13b-dev/extend": INPUT,
    "fal-ai/ltx-video-13b-distilled/extend": INPUT,
    "fal-ai/ltx-2.3-22b/extend-video/lora": {**FLAT, "loras": []},
    "fal-ai/ltx-2.3-quality/extend-video": FLAT,
    SECONDS: FLAT,
}
"""A valid input of every endpoint."""
NO_HURRY = Bounds()
"""The bounds of a server's connections, unless the test has others."""
PATIENCE_S = 60.0
"""Seconds after which a test gives up waiting, even on a busy machine."""
RESULT: dict[str, Any] = {
    "video": {"url": "http://localhost/cdn/files/x.mp4", "content_type": "video/mp4", "file_name": "x.mp4"},
    "prompt": "a cat",
    "seed": 7,
}
DONE = Outcome(
    200,
    RESULT,
    headers={"x-fal-billable-units": "1", "x-longtake-price-usd": "0.02"},
    price_usd=Decimal("0.02"),
    timings={"inference_time": 0.25},
)


@dataclass
class Served:
    """A running server and its shared state."""

    url: str
    state: ServerState
    stopped: list[str] = field(default_factory=list)
    """The ids of the requests that the server's slots were told to stop."""

    @property
    def queue(self) -> str:
        return f"{self.url}/queue"

    @property
    def run(self) -> str:
        return f"{self.url}/run"

    @property
    def engine(self) -> sa.Engine:
        return self.state.engine

    def client(self, **more: Any) -> httpx.Client:
        """Returns a client of the server. It has no certificates: reading them would take longer than most tests."""
        return httpx.Client(base_url=self.url, timeout=PATIENCE_S, verify=False, **more)

    def claim(self) -> RequestRow:
        """Claims the next request, as a worker does."""
        row = queue.claim(self.engine, "default", "worker")
        assert row is not None
        self.state.statuses.mark_changed(row.id)
        return row

    def log(self, row: RequestRow, message: str, **labels: str) -> None:
        queue.add_log_lines(self.engine, row, [LogLine(time.time(), "INFO", message, labels)])
        self.state.statuses.mark_changed(row.id)

    def report(self, row: RequestRow, message: str, step: int, steps: int, window: int = 1, windows: int = 1) -> None:
        """Stores progress, as a worker's server does."""
        progress = {"message": message, "stage": "sampling", "step": step, "steps": steps}
        queue.add_log_lines(
            self.engine, row, [], progress | {"window": window, "windows": windows, "pass": 1, "passes": 1}
        )
        self.state.statuses.mark_changed(row.id)

    def finish(self, row: RequestRow, outcome: Outcome = DONE) -> None:
        assert queue.finish(self.engine, row, outcome)
        self.state.statuses.mark_changed(row.id)


@contextmanager
def serving(folder: Path, blobs: Blobs | None = None, bounds: Bounds = NO_HURRY, **overrides: Any) -> Iterator[Served]:
    """Runs a server on a free port with these settings, its data in `folder`, and its files there or in `blobs`.

    `bounds` are those of its connections.
    """
    with serving_with(settings(**{"data_dir": folder, "slots": (), **overrides}), blobs, bounds) as served:
        yield served


@contextmanager
def serving_with(chosen: Settings, blobs: Blobs | None = None, bounds: Bounds = NO_HURRY) -> Iterator[Served]:
    chosen.data_dir.mkdir(parents=True, exist_ok=True)
    path = chosen.data_dir / "longtake.db"
    if not chosen.database_url and not path.exists():
        path.write_bytes(empty_database())
    engine = database.connect(chosen.database_url or database.file_url(path))
    status_cache, stopped = StatusCache(engine), list[str]()
    status_cache.start()
    store = open_store(engine, chosen)
    if blobs is not None:
        store = replace(store, blobs=blobs)
    state = ServerState(chosen, engine, status_cache, store, Keys(engine, cache_s=0.2), stopped.append, lambda _: None)
    bound = socket.create_server(("127.0.0.1", 0))
    local = (ipaddress.ip_network("127.0.0.1"),)
    server = Ports(Application(state), Connections(bounds), local, grace_s=1).http()

    def serve() -> None:
        server.run(sockets=[bound])
        status_cache.stop()
        for executor in (state.short_executor, state.executor, state.read_executor):
            executor.shutdown(wait=False, cancel_futures=True)
        engine.dispose()

    threading.Thread(target=serve, daemon=True).start()
    wait_for(lambda: server.started)
    try:
        yield Served(f"http://127.0.0.1:{bound.getsockname()[1]}", state, stopped)
    finally:
        server.should_exit = True  # The thread ends while the next test runs.


@cache
def empty_database() -> bytes:
    """Returns the file of a SQLite database with all tables, because copying it is quicker than creating them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        engine = database.connect(database.file_url(path))
        metadata.create_all(engine)
        engine.dispose()
        return path.read_bytes()


@contextmanager
def working(served: Served, work: Callable[[Served, RequestRow], None]) -> Iterator[None]:
    """Runs a thread that claims requests and calls `work` with each."""
    ends = threading.Event()

    def run() -> None:
        while not ends.wait(0.005):
            row = queue.claim(served.engine, "default", "worker")
            if row is not None:
                served.state.statuses.mark_changed(row.id)
                work(served, row)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join(PATIENCE_S)


def wait_for(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Waits until the condition is true. Fails if that takes longer than `timeout_s` seconds."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() < begun + timeout_s, f"not within {timeout_s} s"
        pause(begun)


def submit(client: httpx.Client, body: Any = INPUT, *, endpoint: str = LTXV, **more: Any) -> dict[str, Any]:
    """Submits a request to the queue, and returns the JSON of the answer."""
    answer = client.post(f"/queue/{endpoint}", json=body, **more)
    assert answer.status_code == 200, answer.text
    submitted = answer.json()
    assert isinstance(submitted, dict)
    assert answer.headers["x-fal-request-id"] == submitted["request_id"]
    return submitted
