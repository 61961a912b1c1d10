"""Submits requests for the scripted worker and waits for what becomes of them."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from longtake.database.connection import reading
from longtake.database.tables import files
from longtake.database.tables import requests as table
from longtake.queue import engine as queue
from longtake.queue.requests import FileKind, RemoteFile, RequestRow, Submission
from longtake.queue.rows import row_with_payloads
from longtake.storage.blobs import Blobs
from tests.processes import forked
from tests.waiting import pause
from tests.worker.server import serve_until_terminated

PATIENCE_S = 60.0
"""Seconds after which a test gives up waiting, even on a busy machine."""


def whole_row(engine: sa.Engine, request_id: str) -> RequestRow | None:
    """Returns a request's row with its payloads as they are stored, or None if there is no such request."""
    with reading(engine) as connection:
        found = connection.execute(sa.select(table).where(table.c.id == request_id)).first()
    return None if found is None else row_with_payloads(found)


def submission(pool: str = "default", *, key_id: str = "local", **body: Any) -> Submission:
    """Returns a request whose body tells the scripted worker what to do."""
    return Submission(
        "fal-ai/some/endpoint", pool, key_id, json.dumps(body).encode(), "http://127.0.0.1:8000/queue", may_retry=True
    )


def submit(engine: sa.Engine, pool: str = "default", **body: Any) -> RequestRow:
    return queue.submit(engine, submission(pool, **body))[0]


def submit_with(
    engine: sa.Engine, *urls: str, key_id: str = "local", start_timeout_s: float | None = None, **body: Any
) -> RequestRow:
    """Submits a request whose source is at the first URL, its end image at the second and a LoRA at the third one."""
    kinds: tuple[FileKind, ...] = ("source", "end_image", "lora")
    files = tuple(RemoteFile(url, (f"{kind}_url",), kind) for url, kind in zip(urls, kinds, strict=False))
    plain = submission(key_id=key_id, **body)
    return queue.submit(engine, replace(plain, files=files, start_timeout_s=start_timeout_s))[0]


def eventually(condition: Callable[[], Any], within_s: float = PATIENCE_S) -> Any:
    """Waits until the condition is true and returns its value. Fails if that takes longer than `within_s` seconds."""
    begun = time.monotonic()
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < begun + within_s, f"not within {within_s} s"
        pause(begun)


def current(engine: sa.Engine, row: RequestRow) -> RequestRow:
    found = whole_row(engine, row.id)
    assert found is not None
    return found


def end_of(engine: sa.Engine, row: RequestRow, within_s: float = PATIENCE_S) -> RequestRow:
    """Waits until the request has ended and returns its row."""
    eventually(lambda: current(engine, row).has_ended, within_s)
    return current(engine, row)


def stored_files(engine: sa.Engine, row: RequestRow) -> Sequence[sa.Row[Any]]:
    """Returns the rows of a request's stored files."""
    with engine.connect().execution_options(reads_only=True) as connection:
        return connection.execute(sa.select(files).where(files.c.request_id == row.id)).all()


def effects_of(effects: Path, kind: str, request_id: str | None = None) -> list[list[str]]:
    """Returns the words of each effect of this kind that the scripted workers recorded."""
    if not effects.exists():
        return []
    words = [line.split() for line in effects.read_text().splitlines()]
    return [line for line in words if line[0] == kind and request_id in (None, line[1])]


@contextmanager
def another_server(url: str, folder: Path, blobs: Blobs | None = None, **overrides: Any) -> Iterator[ForkServerProcess]:
    """A server in a process of its own, already claiming requests, with its files in `blobs` or its data folder."""
    here, there = Pipe(duplex=False)
    with here, there, forked(serve_until_terminated, url, folder, blobs, overrides, there) as process:
        there.close()  # so that there is an end of the pipe if the process ends before its server is up
        here.recv()
        yield process


def pids(effects: Path) -> list[int]:
    """Returns the process id of the worker that began each attempt."""
    return [int(pid) for _, _, pid in effects_of(effects, "began")]


def windows(effects: Path, row: RequestRow) -> list[str]:
    return [window for *_, window in effects_of(effects, "window", row.id)]
