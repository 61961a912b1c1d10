"""What the queue's tests share: requests to submit, and waiting for what must come."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from longtake.queue import engine as queue
from longtake.queue.requests import RequestRow, Submission
from tests.worker.server import QUICK


def asked(pool: str = "default", *, key_id: str = "local", **body: Any) -> Submission:
    """A request whose body is for the scripted worker process."""
    return Submission(
        "fal-ai/some/endpoint", pool, key_id, json.dumps(body).encode(), "http://127.0.0.1:8000/queue", may_retry=True
    )


def submit(engine: sa.Engine, pool: str = "default", **body: Any) -> RequestRow:
    return queue.submit(engine, asked(pool, **body))[0]


def eventually(true: Callable[[], Any], within_s: float = 10.0) -> Any:
    """What is true at last; fails where it is not within the time."""
    until = time.monotonic() + within_s
    while True:
        found = true()
        if found:
            return found
        assert time.monotonic() < until, f"not within {within_s} s"
        time.sleep(0.01)


def current(engine: sa.Engine, row: RequestRow) -> RequestRow:
    found = queue.get(engine, row.id)
    assert found is not None
    return found


def end_of(engine: sa.Engine, row: RequestRow, within_s: float = 10.0) -> RequestRow:
    """The request once it has ended."""
    eventually(lambda: current(engine, row).has_ended, within_s)
    return current(engine, row)


def lines_of(effects: Path, kind: str, request_id: str | None = None) -> list[list[str]]:
    """What the worker processes have done: the effects of this kind."""
    if not effects.exists():
        return []
    words = [line.split() for line in effects.read_text().splitlines()]
    return [line for line in words if line[0] == kind and request_id in (None, line[1])]


@contextmanager
def another_server(url: str, folder: Path, **overrides: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """A server in a process of its own, which works by now."""
    words = [sys.executable, "-m", "tests.worker.server", url, str(folder), json.dumps(QUICK | overrides)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"up\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
