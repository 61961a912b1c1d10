"""A semaphore for something limited, such as threads, that API keys share fairly."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairSemaphore:
    """A semaphore whose permits API keys share fairly. A permit allows the use of something limited, such as a thread.

    - A key gets a further permit only if it holds fewer permits than are free. So one key has at most half of several
      permits, and a second key finds free ones.
    - Of the keys that wait, the one that holds the fewest permits is the next. Of several such keys, it is the one that
      has waited longest since it began to wait or, if later, since it last got a permit.
    - The requests of one key get their permits in the order in which they came.

    Its methods may be called only in the thread of the event loop.

    permits: how many permits there are.
    """

    def __init__(self, permits: int) -> None:
        self._free = permits
        self._used: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # the key that has waited longest is first

    @asynccontextmanager
    async def permit(self, key_id: str) -> AsyncIterator[None]:
        """Context manager that waits until this API key gets one of the permits, and holds it until the block ends."""
        await self._wait_for_permit(key_id)
        try:
            yield
        finally:
            self._give_back(key_id)

    async def _wait_for_permit(self, key_id: str) -> None:
        if self._used[key_id] < self._free:
            self._use(key_id)
            return
        permit = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key_id, deque()).append(permit)
        try:
            await permit
        except asyncio.CancelledError:
            if permit.cancelled():
                if permit in self._waiting.get(key_id, ()):  # `_give_back` may have removed it in the same moment.
                    self._remove(key_id, permit)
            else:  # It got the permit in the same moment.
                self._give_back(key_id)
            raise

    def _use(self, key_id: str) -> None:
        self._free -= 1
        self._used[key_id] += 1

    def _give_back(self, key_id: str) -> None:
        self._free += 1
        self._used[key_id] -= 1
        self._used += Counter()  # removes the keys that hold no permit
        while self._waiting:
            following = min(self._waiting, key=lambda waiting: self._used[waiting])
            if self._used[following] >= self._free:
                return
            permit = self._waiting[following][0]
            self._remove(following, permit)
            if permit.cancelled():  # Its task has not run since then.
                continue
            if following in self._waiting:
                self._waiting[following] = self._waiting.pop(following)  # It is now the last of equal ones.
            self._use(following)
            permit.set_result(None)

    def _remove(self, key_id: str, permit: "asyncio.Future[None]") -> None:
        self._waiting[key_id].remove(permit)
        if not self._waiting[key_id]:
            del self._waiting[key_id]
