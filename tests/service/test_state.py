"""The threads of a server: keys share those that work on bodies, and other calls find free ones."""

import asyncio
import threading

from longtake.service.state import BODY_THREADS
from tests.service.serving import PATIENCE_S, Served


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
