"""The threads of a server: keys share those that work on bodies, and other calls find free ones."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from starlette.requests import Request

from longtake.access.keys import LOCAL
from longtake.queue import payloads
from longtake.service import state
from longtake.service.auth import CHECKS, Authenticator
from longtake.service.fair_semaphore import FairSemaphore
from longtake.service.reports import report
from longtake.service.state import BODY_THREADS, READ_THREADS, REPORT_THREADS, SHORT_THREADS
from tests.service.serving import PATIENCE_S, Served, submit


def test_a_key_that_keeps_its_threads_busy_delays_no_other(served: Served) -> None:
    end = threading.Event()

    async def run() -> None:
        waiting = [
            asyncio.create_task(served.state.call_for("a", end.wait, PATIENCE_S)) for _ in range(BODY_THREADS * 2)
        ]
        await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_S / 2):
            assert await served.state.call_for("b", len, "xy") == 2
            assert await served.state.call_for_with_retries("c", len, "xyz") == 3
            assert await served.state.call(len, "x") == 1
        end.set()
        assert all(await asyncio.gather(*waiting))

    asyncio.run(run())


def test_many_keys_leave_threads_for_other_calls(served: Served) -> None:
    end = threading.Event()

    async def run() -> None:
        waiting = [
            asyncio.create_task(served.state.call_for(str(key), end.wait, PATIENCE_S))
            for key in range(BODY_THREADS * 2)
        ]
        await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_S / 2):
            assert await served.state.call(len, "x") == 1
        end.set()
        await asyncio.gather(*waiting)

    asyncio.run(run())


class CountingExecutor(ThreadPoolExecutor):
    """Counts the calls that wait or run. `most`: the largest number of them at the same time."""

    def __init__(self) -> None:
        super().__init__(8)
        self.now = self.most = 0

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        self.now += 1
        self.most = max(self.most, self.now)
        future = super().submit(*args, **kwargs)
        future.add_done_callback(lambda _: self._ended())
        return future

    def _ended(self) -> None:
        self.now -= 1


def test_no_short_work_and_no_read_waits_in_the_queue_of_a_thread(served: Served) -> None:
    short, read = CountingExecutor(), CountingExecutor()
    counted = replace(served.state, short_executor=short, read_executor=read)

    async def all_pieces() -> list[bytes]:
        return [piece async for piece in counted.read_in_threads(iter([b"a", b"b", b"c"]))]

    async def run() -> None:
        calls = asyncio.gather(*(counted.call(len, "x" * length) for length in range(50)))
        reads = asyncio.gather(*(all_pieces() for _ in range(50)))
        assert await calls == list(range(50))
        assert await reads == [[b"a", b"b", b"c"]] * 50

    asyncio.run(run())
    assert 1 <= short.most <= SHORT_THREADS
    assert 1 <= read.most <= READ_THREADS


def test_results_that_open_slowly_delay_no_other_call(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large result is read from end to end, and a missing one is looked for again, before it is sent."""
    end, opened = threading.Event(), threading.Semaphore(0)

    def open_slowly(*_: object) -> None:
        opened.release()
        end.wait(PATIENCE_S)

    monkeypatch.setattr(payloads, "open_result", open_slowly)
    with served.client() as client, ThreadPoolExecutor() as threads:
        submitted = submit(client)
        served.finish(served.claim())
        results = [threads.submit(client.get, submitted["response_url"]) for _ in range(SHORT_THREADS)]
        try:
            assert all(opened.acquire(timeout=PATIENCE_S) for _ in results)
            assert asyncio.run(asyncio.wait_for(served.state.call(len, "x"), PATIENCE_S / 2)) == 1
        finally:
            end.set()
        assert {result.result().status_code for result in results} == {404}


def test_the_wait_for_a_permit_does_not_count_as_a_database_that_hangs(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_s = 0.5
    monkeypatch.setattr(state, "ANSWER_S", limit_s)

    async def connected() -> dict[str, str]:
        await asyncio.Event().wait()
        return {}

    async def late(semaphore: FairSemaphore, permits: int, ask: Callable[[], Awaitable[object]]) -> object:
        """Returns the result of `ask()`, which gets its permit after the limit."""
        async with AsyncExitStack() as held:
            for number in range(permits):
                await held.enter_async_context(semaphore.permit(f"other {number}"))
            asked = asyncio.ensure_future(ask())
            await asyncio.sleep(2 * limit_s)
            assert not asked.done()
        return await asked

    async def run() -> None:
        authenticator, request = Authenticator(served.state), Request({"type": "http", "headers": []}, connected)
        number, answer, caller = await asyncio.gather(
            late(served.state.body_threads, BODY_THREADS, lambda: served.state.call_for_with_retries("a", len, "xyz")),
            late(served.state.report_threads, REPORT_THREADS, lambda: report(served.state, request, "a", lambda: b"1")),
            late(authenticator._semaphore, CHECKS, lambda: authenticator.caller("", {"client": ("10.0.0.1", 1)})),
        )
        assert (number, answer.status_code, caller) == (3, 200, LOCAL)  # type: ignore[attr-defined]

    asyncio.run(run())
