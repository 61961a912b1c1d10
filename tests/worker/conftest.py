"""Fixtures of the worker's tests: servers in this process, and the folder of their scripted workers' effects."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from longtake.settings import settings
from longtake.worker import slot
from tests.worker.server import QUICK, WORKER, Server
from tests.worker.site import Site


@pytest.fixture(autouse=True)
def _watchful_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets idle slots look into the queue more often, so that the tests wait less."""
    monkeypatch.setattr(slot, "POLL_S", 0.05)


@pytest.fixture
def serve(engine: sa.Engine, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers in this process."""
    started: list[Server] = []

    def start(command: tuple[str, ...] = WORKER, **overrides: Any) -> Server:
        started.append(Server(engine, settings(**QUICK | {"data_dir": tmp_path} | overrides), command).start())
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def effects(tmp_path: Path) -> Path:
    return tmp_path / "effects"


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.release()
    made.server.shutdown()
    made.server.server_close()
