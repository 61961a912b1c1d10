"""A semaphore that API keys share: how many permits a key may hold, and who gets the next one."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from longtake.service.fair_semaphore import FairSemaphore


async def settle() -> None:
    """Lets all tasks run until each of them waits."""
    for _ in range(5):
        await asyncio.sleep(0)


class Clients:
    """Requests of several keys that wait for a permit, and the order in which they got one."""

    def __init__(self, permits: int) -> None:
        self.semaphore = FairSemaphore(permits)
        self.served: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, *names: str) -> None:
        """Lets requests come in this order. The first letter of a name is the request's key."""
        for name in names:
            self._ends[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._request(name))
            await settle()

    async def _request(self, name: str) -> None:
        async with self.semaphore.permit(name[0]):
            self.served.append(name)
            await self._ends[name].wait()

    async def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
            await settle()


def test_with_one_permit_keys_take_turns() -> None:
    async def run() -> list[str]:
        clients = Clients(1)
        await clients.come("a1", "a2", "a3", "a4", "b1", "b2", "c1")
        for _ in range(7):
            await clients.end(clients.served[-1])
        return clients.served

    assert asyncio.run(run()) == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


def test_one_key_has_half_of_the_permits_and_others_find_free_ones() -> None:
    async def run() -> None:
        clients = Clients(8)
        await clients.come(*(f"a{number}" for number in range(20)))
        assert clients.served == ["a0", "a1", "a2", "a3"]
        await clients.come("b0", "b1", "b2", "c0", "d0", "e0")
        assert clients.served[4:] == ["b0", "b1", "c0", "d0"]
        await clients.end("d0")
        assert clients.served[8:] == ["e0"]
        await clients.end("b0")
        assert clients.served[9:] == []
        await clients.end("c0", "e0")
        assert clients.served[9:] == ["b2"]
        for number in range(20):
            await clients.end(f"a{number}")
        assert clients.served[10:] == [f"a{number}" for number in range(4, 20)]

    asyncio.run(run())


def test_a_request_that_goes_away_gives_its_permit_to_the_next() -> None:
    async def run() -> None:
        clients = Clients(1)
        await clients.come("a1", "a2", "b1", "c1")
        clients.tasks["a2"].cancel()
        await settle()
        await clients.end("a1")
        assert clients.served == ["a1", "b1"]
        clients.tasks["b1"].cancel()
        await settle()
        assert clients.served == ["a1", "b1", "c1"]
        await clients.end("c1")
        await clients.come("d1")
        assert clients.served[3:] == ["d1"]

    asyncio.run(run())


@pytest.mark.parametrize("before", [True, False], ids=["before it gets its permit", "as it gets its permit"])
def test_a_request_that_goes_away_does_not_keep_its_permit(before: bool) -> None:
    """Its task does not run between the cancellation and the release of the permit before it, whichever comes first."""

    async def run() -> None:
        semaphore = FairSemaphore(1)
        async with AsyncExitStack() as first:
            await first.enter_async_context(semaphore.permit("a"))
            waiting = asyncio.create_task(semaphore.permit("b").__aenter__())
            await settle()
            if before:
                waiting.cancel()
            await first.aclose()
            if not before:
                waiting.cancel()
        await settle()
        assert waiting.cancelled()
        async with asyncio.timeout(1), semaphore.permit("c"):
            pass

    asyncio.run(run())
