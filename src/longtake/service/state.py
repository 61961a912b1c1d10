"""What the routes of one server share: its settings, database, caches, file store and links to its slots."""

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
"""Seconds before each retry of a failed database call; together as long as a database takes to restart."""


def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(16, "work")


@dataclass(frozen=True)
class ServerState:
    """The shared objects of one server.

    `cancel_running(request_id)` tells this server's slots to stop a request. `wake_slots(pool)` tells them that a
    request was submitted to a pool. `draining` is set when the server begins to shut down.
    """

    settings: Settings
    engine: sa.Engine
    statuses: StatusCache
    store: FileStore
    keys: Keys
    cancel_running: Callable[[str], None]
    wake_slots: Callable[[str], None]
    metrics: Metrics = field(default_factory=Metrics)
    draining: threading.Event = field(default_factory=threading.Event)
    executor: ThreadPoolExecutor = field(default_factory=_executor)

    @cached_property
    def pools(self) -> Mapping[str, str]:
        """The configured pool of each endpoint id. Raises InvalidRequest if the settings name an unknown endpoint."""
        return by_id(self.settings.pools)

    async def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns `work(*args, **kwargs)`, run in a thread because it may wait for the database or the disk."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, lambda: work(*args, **kwargs))

    async def call_with_retries(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `call`, and repeats the call while it fails with a temporary error, for about six seconds.

        fal's clients give up at the first error, so a restart of the database must not become one. `work` must be safe
        to repeat.
        """
        for pause_s in PAUSES_S:
            try:
                return await self.call(work, *args, **kwargs)
            except Exception as error:
                if not is_temporary(error):
                    raise
                await asyncio.sleep(pause_s)
        return await self.call(work, *args, **kwargs)
