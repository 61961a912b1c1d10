"""fal_client's asynchronous client, which follows no redirects and has its own code for uploads."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import fal_client
import pytest
from fal_client import client as module

from tests.contract.conftest import Running
from tests.contract.test_python import aim, digest, with_prompt
from tests.service.serving import LTX2, LTXV


@pytest.fixture(params=["http", "tunnel"])
def client(request: pytest.FixtureRequest, server: Running, monkeypatch: pytest.MonkeyPatch) -> fal_client.AsyncClient:
    aim(monkeypatch, server, request.param)
    monkeypatch.setattr(module, "MAX_ATTEMPTS", 2)
    return fal_client.AsyncClient(key="any:thing")


async def error_of(call: Callable[[], Awaitable[object]]) -> fal_client.FalClientHTTPError:
    with pytest.raises(fal_client.FalClientHTTPError) as failed:
        await call()
    return failed.value


def test_every_call_of_a_request(client: fal_client.AsyncClient) -> None:
    async def run() -> None:
        assert (await client.run(LTXV, with_prompt("quick")))["seed"] == 7
        handle = await client.submit(LTXV, with_prompt("steps"), priority="normal")
        events = [event async for event in handle.iter_events(with_logs=True)]
        assert isinstance(events[-1], fal_client.Completed)
        assert [log["message"] for log in events[-1].logs or ()] == [f"step {number}" for number in range(1, 6)]
        assert await handle.get() == await client.result(LTXV, handle.request_id)
        seen: list[fal_client.Status] = []
        result = await client.subscribe(LTXV, with_prompt("steps"), with_logs=True, on_queue_update=seen.append)
        assert result["prompt"] == "steps"
        assert isinstance(seen[-1], fal_client.Completed)
        streamed = [event async for event in client.stream(LTXV, with_prompt("steps"))]
        assert streamed[-1]["seed"] == 7

    asyncio.run(run())


def test_many_requests_at_the_same_time(client: fal_client.AsyncClient) -> None:
    async def run() -> None:
        results = await asyncio.gather(
            *(client.subscribe(LTXV, with_prompt(f"quick {number}")) for number in range(12))
        )
        assert [result["prompt"] for result in results] == [f"quick {number}" for number in range(12)]

    asyncio.run(run())


def test_cancellation_errors_and_timeouts(client: fal_client.AsyncClient) -> None:
    async def run() -> None:
        handle = await client.submit(LTXV, with_prompt("slow"))
        await handle.cancel()
        assert (await error_of(handle.get)).status_code == 499
        assert (await error_of(lambda: client.subscribe(LTXV, {}))).status_code == 422
        assert (await error_of(lambda: client.result(LTXV, "nothing"))).status_code == 404
        with pytest.raises(fal_client.FalClientTimeoutError):
            await client.subscribe(LTXV, with_prompt("slow"), client_timeout=1.2)

    asyncio.run(run())


def test_uploads(client: fal_client.AsyncClient, server: Running, large: Path) -> None:
    async def run() -> None:
        small = await client.upload(b"frames", "video/mp4", "a.mp4")
        assert server.file(small).read_bytes() == b"frames"
        result = await client.subscribe(LTX2, {"prompt": "quick", "video_url": small})
        assert server.file(result["video"]["url"]).read_bytes() == b"frames"
        stored = server.file(await client.upload_file(large))
        assert digest(stored) == digest(large)
        stored.unlink()

    asyncio.run(run())
