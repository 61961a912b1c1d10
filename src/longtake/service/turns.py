"""Shares something limited, such as threads, fairly between the API keys whose requests wait for it."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """A limited number of places, such as threads, that API keys share fairly.

    - A key gets a further place only if it uses fewer places than are free. So one key has at most half of several
      places, and a second key finds free ones.
    - Of the keys that wait, the one that uses the fewest places is the next. Of several such keys, it is the one that
      got its last place first.
    - The requests of one key get their places in the order in which they came.

    Its methods may be called only in the thread of the event loop.

    places: how many places there are.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._used: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # the key whose last place is the oldest is first

    @asynccontextmanager
    async def turn(self, key_id: str) -> AsyncIterator[None]:
        """Context manager that waits until this API key gets one of the places (such as a thread), and holds it until
        the block ends."""
        await self._wait_for_place(key_id)
        try:
            yield
        finally:
            self._give_back(key_id)

    async def _wait_for_place(self, key_id: str) -> None:
        if self._used[key_id] < self._free:
            self._use(key_id)
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key_id, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                if place in self._waiting.get(key_id, ()):  # `_give_back` may have removed it in the same moment.
                    self._remove(key_id, place)
            else:  # It got the place in the same moment.
                self._give_back(key_id)
            raise

    def _use(self, key_id: str) -> None:
        self._free -= 1
        self._used[key_id] += 1

    def _give_back(self, key_id: str) -> None:
        self._free += 1
        self._used[key_id] -= 1
        self._used += Counter()  # removes the keys that use no place
        while self._waiting:
            following = min(self._waiting, key=lambda waiting: self._used[waiting])
            if self._used[following] >= self._free:
                return
            place = self._waiting[following][0]
            self._remove(following, place)
            if place.cancelled():  # Its task has not run since then.
                continue
            if following in self._waiting:
                self._waiting[following] = self._waiting.pop(following)  # It is now the last of equal ones.
            self._use(following)
            place.set_result(None)

    def _remove(self, key_id: str, place: "asyncio.Future[None]") -> None:
        self._waiting[key_id].remove(place)
        if not self._waiting[key_id]:
            del self._waiting[key_id]
