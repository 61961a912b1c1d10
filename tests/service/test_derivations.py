"""Programs that make derived files: each runs once, for all clients, and ends when nobody wants its result any more."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.requests import ClientDisconnect, Request

from longtake import system
from longtake.database.tables import derived_files
from longtake.derived import process
from longtake.derived.process import Execution
from longtake.errors import UnsupportedVideo
from longtake.service import derivations
from longtake.service.derivations import COPY, Derivations, Wanted
from longtake.service.responses import NotFound, RequestFailed
from longtake.settings import Settings
from longtake.storage.derived import Derivation, DerivedFile
from longtake.storage.files import FileStore
from longtake.storage.local import LocalBlobs
from tests.database.fixtures import on_sqlite
from tests.storage.test_files import found, stored

pytestmark = on_sqlite

MADE = DerivedFile({"made": True}, None, 0)


class Client:
    """A client that asks for derived files, and can go away."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.request = Request({"type": "http"}, self._receive)

    async def _receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}


@pytest.fixture
def store(engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileStore:
    monkeypatch.setattr(process, "PROGRAM", "tests.derived.slow_program")
    return FileStore(engine, LocalBlobs(tmp_path / "files"), tmp_path / "scratch")


def wanted(store: FileStore, log: Path, seconds: float = 0.0, kind: str = "facts", key: str = "") -> Wanted:
    key = key or stored(store)
    arguments = {"log": str(log), "seconds": seconds}
    return Wanted(Derivation(key, kind), found(store, key), "me", arguments)


def maker(store: FileStore, **times: float) -> Derivations:
    return Derivations(store, Settings(), asyncio.to_thread, asyncio.to_thread, **times)


def pids(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().splitlines()] if log.exists() else []


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def ends(pid: int) -> None:
    await until(lambda: system.start_ticks(pid) is None)


def test_clients_who_want_the_same_share_a_program_whose_result_is_kept(store: FileStore, tmp_path: Path) -> None:
    log = tmp_path / "log"
    what = wanted(store, log, 0.1)

    async def ask() -> None:
        making = maker(store)
        clients = Client(), Client(), Client()
        asked = [asyncio.create_task(making.made(client.request, what)) for client in clients]
        await until(lambda: pids(log))
        clients[0].gone.set()
        with pytest.raises(ClientDisconnect):
            await asked[0]
        assert await asyncio.gather(*asked[1:]) == [MADE, MADE]
        assert await making.made(Client().request, what) == MADE

    asyncio.run(ask())
    assert len(pids(log)) == 1


def test_a_program_ends_when_the_last_client_has_gone(store: FileStore, tmp_path: Path) -> None:
    log = tmp_path / "log"
    what = wanted(store, log, 60)

    async def ask() -> None:
        making, client = maker(store), Client()
        asked = asyncio.create_task(making.made(client.request, what))
        await until(lambda: pids(log))
        client.gone.set()
        with pytest.raises(ClientDisconnect):
            await asked
        await ends(pids(log)[0])
        again = asyncio.create_task(making.made(client.request, what))  # A new program runs, and this client is gone.
        with pytest.raises(ClientDisconnect):
            await again

    asyncio.run(ask())


def test_a_copy_tells_its_share_and_is_given_up_when_nobody_asks(store: FileStore, tmp_path: Path) -> None:
    log = tmp_path / "log"
    what = wanted(store, log, 60, COPY)

    async def ask() -> None:
        making = maker(store, unasked_s=0.4)
        assert await making.copied(what) == 0
        share: DerivedFile | float = 0.0
        while share != 0.5:
            share = await making.copied(what)
            await asyncio.sleep(0.02)
        await ends(pids(log)[0])
        assert await making.copied(what) == 0

    asyncio.run(ask())


def test_programs_have_limited_time_and_a_failure_is_remembered(store: FileStore, tmp_path: Path) -> None:
    log = tmp_path / "log"
    what, copy = wanted(store, log, 60), wanted(store, log, 60, COPY)

    async def ask() -> None:
        making = maker(store, program_s=0.3, copy_s=0.3)
        for _ in range(2):
            with pytest.raises(UnsupportedVideo, match=r"longer than 0\.3 s"):
                await making.made(Client().request, what)
        await making.copied(copy)
        await until(lambda: copy.derivation in making._failures)
        with pytest.raises(UnsupportedVideo, match=r"longer than 0\.3 s"):
            await making.copied(copy)

    asyncio.run(ask())
    assert len(pids(log)) <= 2


def test_a_key_has_so_many_open_answers(store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(derivations, "MOST_OPEN", 2)
    log = tmp_path / "log"

    async def ask() -> None:
        making, client = maker(store), Client()
        waiting = asyncio.create_task(making.made(client.request, wanted(store, log, 60)))
        await making.copied(wanted(store, log, 60, COPY))
        await until(lambda: pids(log))
        for attempt in (making.made(client.request, wanted(store, log)), making.copied(wanted(store, log, 0, COPY))):
            await refused(attempt, 429)
        client.gone.set()
        with pytest.raises(ClientDisconnect):
            await waiting
        assert await making.made(Client().request, wanted(store, log)) == MADE

    asyncio.run(ask())


async def refused(attempt: Awaitable[object], status: int) -> None:
    with pytest.raises(RequestFailed) as caught:
        await attempt
    assert caught.value.status == status


@pytest.mark.parametrize("error", [None, "The file cannot be opened."])
def test_nothing_is_made_from_a_file_that_is_deleted_meanwhile(
    store: FileStore, tmp_path: Path, error: str | None
) -> None:
    log = tmp_path / "log"
    what = wanted(store, log, 0.2)
    what = replace(what, arguments={**what.arguments, "error": error})

    async def ask() -> None:
        making = maker(store)
        asked = asyncio.create_task(making.made(Client().request, what))
        await until(lambda: pids(log))
        store.delete(what.derivation.file_key)
        with pytest.raises(NotFound):
            await asked
        with pytest.raises(NotFound):
            await making.made(Client().request, what)

    asyncio.run(ask())


def test_the_programs_end_with_the_server(store: FileStore, tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def ask() -> None:
        making = maker(store)
        await making.copied(wanted(store, log, 60, COPY))
        await until(lambda: pids(log))

    asyncio.run(ask())
    asyncio.run(ends(pids(log)[0]))


def test_one_key_does_not_wait_for_the_turns_of_another(store: FileStore, tmp_path: Path) -> None:
    log, shared = tmp_path / "log", stored(store)

    async def ask() -> None:
        making = maker(store)
        others = [wanted(store, log, 60) for _ in range(2)]  # as many as one key has programs
        late = replace(wanted(store, log, key=shared), key_id="me")
        clients = [Client() for _ in others]
        turns = [
            asyncio.create_task(making.made(client.request, what)) for client, what in zip(clients, others, strict=True)
        ]
        await until(lambda: len(pids(log)) == 2)
        waiting = asyncio.create_task(making.made(Client().request, late))
        await until(lambda: late.job in making._jobs)
        assert await making.made(Client().request, replace(late, key_id="another")) == MADE
        for client in clients:
            client.gone.set()
        assert await waiting == MADE
        await asyncio.gather(*turns, return_exceptions=True)

    asyncio.run(ask())
    assert len(pids(log)) == 3  # it was made once, for the other key


def test_a_failure_for_one_key_holds_for_another_that_waits(store: FileStore, tmp_path: Path) -> None:
    log = tmp_path / "log"
    what = wanted(store, log, 60)

    async def ask() -> None:
        making = maker(store, program_s=0.3)
        async with making._semaphore.permit("me"), making._semaphore.permit("me"):
            waiting = asyncio.create_task(making.made(Client().request, what))
            with pytest.raises(UnsupportedVideo):
                await making.made(Client().request, replace(what, key_id="another"))
        with pytest.raises(UnsupportedVideo):
            await waiting

    asyncio.run(ask())
    assert len(pids(log)) == 1


def test_what_another_key_has_stored_meanwhile_is_not_replaced(store: FileStore, tmp_path: Path) -> None:
    making, what = maker(store), wanted(store, tmp_path / "log")

    def when_made() -> list[float]:
        assert making._carry_out(what, Execution(), lambda share: None) == MADE
        with store.engine.connect() as connection:
            return list(connection.scalars(sa.select(derived_files.c.made_at)))

    first = when_made()
    assert len(first) == 1
    assert when_made() == first
