"""The plan says at its field that a LoRA of the request is not there."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from starlette.requests import ClientDisconnect

from longtake.errors import InvalidRequest
from longtake.plans import PlannedAdapter
from longtake.service import lora_checks
from longtake.service.budgets import Budgets
from longtake.service.lora_checks import LoraChecks
from longtake.service.responses import RequestFailed
from longtake.settings import Settings
from longtake.storage.files import FileStore
from longtake.storage.local import LocalBlobs
from tests.database.fixtures import on_sqlite
from tests.models.test_lora_files import LORA
from tests.service.serving import LTXV
from tests.service.test_derivations import Client
from tests.service.test_plans import DATA_URI, Elsewhere, planned, served_to
from tests.storage.test_files import stored


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    site = Elsewhere()
    yield site
    site.server.shutdown()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    folder = tmp_path / "loras"
    folder.mkdir()
    (folder / "dolly.safetensors").write_bytes(LORA)
    with served_to(tmp_path / "data", slots=("cpu",), loras_dir=folder) as (_, client):
        yield client


def problem(answer: httpx.Response) -> tuple[list[Any], str]:
    (found,) = answer.json()["detail"]
    return found["loc"], found["msg"]


def test_a_lora_that_is_not_there_is_told_at_its_field(client: httpx.Client, elsewhere: Elsewhere) -> None:
    there = {"path": "dolly.safetensors"}
    assert planned(client, LTXV, DATA_URI, loras=[there]).status_code == 200
    for path, text in {
        "zoom.safetensors": "There is no LoRA file 'zoom.safetensors' in the LoRA folder.",
        elsewhere.url("/missing.safetensors"): "answered 404 instead of the file.",
    }.items():
        answer = planned(client, LTXV, DATA_URI, loras=[there, {"path": path}])
        loc, message = problem(answer)
        assert loc == ["body", "loras", 1, "path"]
        assert text in message
        assert planned(client, LTXV, DATA_URI, loras=[{"path": path}]).json()["detail"][0]["loc"][2] == 0
    assert elsewhere.paths == ["/missing.safetensors"], "the host is asked once"


def test_a_server_without_devices_has_no_folder_of_loras(tmp_path: Path) -> None:
    with served_to(tmp_path, slots=()) as (_, client):
        assert planned(client, LTXV, DATA_URI, loras=[{"path": "zoom.safetensors"}]).status_code == 200
        assert planned(client, LTXV, DATA_URI, loras=[{"path": "data:,abc"}]).status_code == 200


@on_sqlite
def test_a_stored_file_counts_as_no_request(engine: sa.Engine, tmp_path: Path) -> None:
    store = FileStore(engine, LocalBlobs(tmp_path / "files"), tmp_path / "scratch")
    settings = Settings(slots=("cpu",), key_requests_per_minute=1)
    budgets = Budgets(settings)
    checks = LoraChecks(store, settings, budgets, threading.Event())
    url = f"http://127.0.0.1/cdn/files/{stored(store)}"
    adapter = PlannedAdapter(url, (1.0,), ("body", "loras", 0, "path"))
    asyncio.run(checks.check(Client().request, "me", [adapter]))
    budgets.begin_request("me")
    with pytest.raises(RequestFailed):
        asyncio.run(checks.check(Client().request, "me", [replace(adapter, source="http://127.0.0.1/elsewhere")]))


@on_sqlite
def test_no_host_is_asked_for_a_client_that_has_gone(engine: sa.Engine, tmp_path: Path) -> None:
    store = FileStore(engine, LocalBlobs(tmp_path / "files"), tmp_path / "scratch")
    settings = Settings(loras_dir=tmp_path, slots=("cpu",))
    checks = LoraChecks(store, settings, Budgets(settings), threading.Event())
    adapter = PlannedAdapter("zoom.safetensors", (1.0,), ("body", "loras", 0, "path"))

    async def ask(client: Client) -> None:
        await checks.check(client.request, "me", [adapter])

    gone = Client()
    gone.gone.set()
    with pytest.raises(ClientDisconnect):
        asyncio.run(ask(gone))
    assert not checks._known
    with pytest.raises(InvalidRequest):
        asyncio.run(ask(Client()))
    assert [error and error.__traceback__ for error in checks._known.values()] == [None]


@on_sqlite
def test_plans_at_the_same_time_ask_for_a_lora_once(
    engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(loras_dir=tmp_path, slots=("cpu",))
    store = FileStore(engine, LocalBlobs(tmp_path / "files"), tmp_path / "scratch")
    checks = LoraChecks(store, settings, Budgets(settings), threading.Event())
    adapter = PlannedAdapter("zoom.safetensors", (1.0,), ("body", "loras", 0, "path"))
    asked, end = threading.Semaphore(0), threading.Event()

    def check(*_: object) -> None:
        asked.release()
        assert end.wait(60)

    monkeypatch.setattr(lora_checks, "check_lora", check)

    async def ask() -> None:
        plans = [asyncio.create_task(checks.check(Client().request, "me", [adapter])) for _ in range(3)]
        async with asyncio.timeout(60):
            while not asked.acquire(blocking=False):
                await asyncio.sleep(0.01)
            end.set()
            await asyncio.gather(*plans)

    asyncio.run(ask())
    assert not asked.acquire(blocking=False)
    assert not checks._asking
