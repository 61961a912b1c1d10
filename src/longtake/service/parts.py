"""What the routes work with."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import ParamSpec, TypeVar

import sqlalchemy as sa

from longtake.access.keys import Keys
from longtake.database.connection import is_temporary
from longtake.endpoints import by_id
from longtake.queue.status_cache import StatusCache
from longtake.settings import Settings
from longtake.storage.files import FileStore
from longtake.worker.metrics import Metrics

P = ParamSpec("P")
T = TypeVar("T")

PAUSES_S = (0.05, 0.2, 0.5, 1.0, 2.0, 2.0)
"""Between the tries while the database does not answer: as long as one takes to start again."""


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(16, "work")


@dataclass(frozen=True)
class Parts:
    """The parts of one server. `cancel(request_id)`: a running request of this process shall stop; `wake(pool)`: a
    request came into this pool's queue; `draining` is set once the server is to end."""

    settings: Settings
    engine: sa.Engine
    board: StatusCache
    store: FileStore
    keys: Keys
    cancel: Callable[[str], None]
    wake: Callable[[str], None]
    metrics: Metrics = field(default_factory=Metrics)
    draining: threading.Event = field(default_factory=threading.Event)
    threads: ThreadPoolExecutor = field(default_factory=_threads)

    @cached_property
    def pools(self) -> Mapping[str, str]:
        """Endpoint id -> the pool of its requests, by the settings. Raises InvalidRequest for a name of no endpoint."""
        return by_id(self.settings.pools)

    async def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Does what may wait for the database or a disk, beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, lambda: work(*args, **kwargs))

    async def ask(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`call` for what may be done twice: tried again while the database does not answer, since fal's clients give
        up at the first error."""
        for pause in PAUSES_S:
            try:
                return await self.call(work, *args, **kwargs)
            except Exception as error:
                if not is_temporary(error):
                    raise
                await asyncio.sleep(pause)
        return await self.call(work, *args, **kwargs)
