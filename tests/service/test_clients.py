"""fal's own Python client, unmodified, against a real server."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fal_client
import pytest
import sqlalchemy as sa

from longtake.database.tables import requests as table
from longtake.queue import requests
from longtake.queue.requests import RequestRow
from tests.service.serving import INPUT, LTXV, RESULT, Served, serving, wait_for, working


def steps(served: Served, row: RequestRow) -> None:
    for step in range(1, 4):
        served.log(row, f"step {step}", step=str(step))
        time.sleep(0.12)  # fal's client polls every 0.1 s.
    served.finish(row)


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server that fal's client uses instead of fal."""
    with serving(tmp_path) as served:
        monkeypatch.setenv("FAL_KEY", "any:thing")
        monkeypatch.setattr(fal_client.client, "RUN_URL_FORMAT", f"{served.run}/")
        monkeypatch.setattr(fal_client.client, "QUEUE_URL_FORMAT", f"{served.queue}/")
        monkeypatch.setattr(fal_client.client, "REST_URL", f"{served.url}/rest")
        monkeypatch.setattr(fal_client.client, "CDN_URL", f"{served.url}/cdn")
        yield served


def fal() -> fal_client.SyncClient:
    return fal_client.SyncClient(key="any:thing")


def test_subscribe_with_logs_as_the_published_snippet(at: Served) -> None:
    seen: list[Any] = []

    def on_queue_update(update: Any) -> None:
        seen.append(update)
        if isinstance(update, fal_client.InProgress):
            for log in update.logs or []:
                assert log["message"]

    with working(at, steps):
        result = fal().subscribe(LTXV, INPUT, with_logs=True, on_queue_update=on_queue_update)
    assert result == RESULT
    running = [update for update in seen if isinstance(update, fal_client.InProgress)]
    assert [len(update.logs or []) for update in running] == sorted(len(update.logs or []) for update in running)
    assert isinstance(seen[-1], fal_client.Completed)
    assert seen[-1].metrics == {"inference_time": 0.25}
    assert [log["message"] for log in seen[-1].logs or []] == ["step 1", "step 2", "step 3"]


def test_submit_status_result_cancel_by_handle_and_by_id(at: Served) -> None:
    client = fal()
    handle = client.submit(LTXV, INPUT, priority="low", start_timeout=30, hint="x", headers={"X-Fal-Store-IO": "0"})
    assert isinstance(handle.status(), fal_client.Queued)
    assert isinstance(client.status(LTXV, handle.request_id, with_logs=True), fal_client.Queued)
    row = at.claim()
    assert (row.priority, row.store_io) == (1, False)
    assert isinstance(handle.status(with_logs=False), fal_client.InProgress)
    at.finish(row)
    assert handle.get() == RESULT
    assert client.result(LTXV, handle.request_id) == RESULT
    assert client.result(LTXV, handle.request_id) == RESULT
    with pytest.raises(fal_client.FalClientHTTPError) as raised:
        handle.cancel()
    assert raised.value.status_code == 400


@pytest.mark.parametrize("claimed", [False, True])
def test_a_cancelled_request_raises_an_error(at: Served, claimed: bool) -> None:
    handle = fal().submit(LTXV, INPUT)
    row = at.claim() if claimed else None
    handle.cancel()
    if row is not None:
        at.finish(row, requests.CANCELLED)
    with pytest.raises(fal_client.FalClientHTTPError) as raised:
        handle.get()
    assert (raised.value.status_code, raised.value.error_type) == (499, "client_cancelled")


def test_run_and_its_errors(at: Served) -> None:
    with working(at, steps):
        assert fal().run(LTXV, INPUT) == RESULT
    with pytest.raises(fal_client.FalClientHTTPError) as raised:
        fal().run(LTXV, {"prompt": 1})
    assert raised.value.status_code == 422
    details: Any = raised.value.message
    assert {one["type"] for one in details} == {"string_type", "missing"}
    with pytest.raises(fal_client.FalClientHTTPError) as raised:
        fal().run(LTXV, {}, method="GET")
    assert raised.value.status_code == 422


def test_subscribing_with_an_invalid_input_raises_its_list_of_errors(at: Served) -> None:
    with pytest.raises(fal_client.FalClientHTTPError) as raised:
        fal().subscribe(LTXV, {"prompt": ""})
    assert (raised.value.status_code, len(raised.value.message)) == (422, 2)


def test_stream(at: Served) -> None:
    with working(at, steps):
        events = list(fal().stream(LTXV, INPUT))
    assert [one.get("message") for one in events[:-1]] == ["step 1", "step 2", "step 3"]
    assert events[-1] == RESULT


def test_the_clients_timeout_cancels_the_request(at: Served) -> None:
    with pytest.raises(fal_client.FalClientTimeoutError):
        fal().subscribe(LTXV, INPUT, client_timeout=1.2)
    with at.engine.connect() as connection:
        wait_for(lambda: connection.execute(sa.select(table)).one().state == "CANCELLED")
        row = connection.execute(sa.select(table)).one()
    assert 0 < row.start_by - row.created_at < 1.3


def test_the_asynchronous_client(at: Served) -> None:
    async def all_of_it() -> None:
        client = fal_client.AsyncClient(key="any:thing")
        seen: list[Any] = []
        handle = await client.submit(LTXV, INPUT)
        async for one in handle.iter_events(with_logs=True):
            seen.append(one)
        assert isinstance(seen[-1], fal_client.Completed)
        assert await handle.get() == RESULT
        assert await client.run(LTXV, INPUT) == RESULT
        assert [one async for one in client.stream(LTXV, INPUT)][-1] == RESULT

    with working(at, steps):
        asyncio.run(all_of_it())


def test_keys(at: Served) -> None:
    key = at.state.keys.create("one", "run")
    with pytest.raises(fal_client.FalClientHTTPError) as raised:
        fal().submit(LTXV, INPUT)
    assert raised.value.status_code == 401
    with working(at, steps):
        assert fal_client.SyncClient(key=f" {key}").subscribe(LTXV, INPUT) == RESULT
