"""The objects that all routes of one server use, such as its settings, its database and its stored files."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import ParamSpec, TypeVar

import sqlalchemy as sa

from longtake.access.keys import Keys
from longtake.database.connection import is_damaged, is_temporary
from longtake.endpoints import by_id
from longtake.queue.status_cache import StatusCache
from longtake.service.budgets import Budgets
from longtake.service.derivations import COPY_PLACES, PLACES, Derivations
from longtake.service.fair_semaphore import FairSemaphore
from longtake.service.pulls import Pulls
from longtake.service.streams import OpenAnswers
from longtake.settings import Settings
from longtake.storage.files import FileStore
from longtake.worker.metrics import Metrics

P = ParamSpec("P")
T = TypeVar("T")

PAUSES_S = (0.05, 0.2, 0.5, 1.0, 2.0, 2.0)
"""Seconds before each repetition of a failed database call. Their sum, about 6, is enough for a database to restart."""

ANSWER_S = 30.0
"""Seconds after which a client gets the error that the database does not answer. A write may still succeed later.

The time for which a call waits for a thread does not count.
"""

SHORT_THREADS, BODY_THREADS, REPORT_THREADS, READ_THREADS = 4, 12, 4, 4
"""The numbers of threads for short work such as the check of a key, for bodies and uploads, for reports (answers that
need many reads of the database, such as pages of past requests), and for the reading of files that are being sent.

Only one thread of Python runs at a time. With more threads for short work or for reading, the event loop would wait too
long while many new clients connect or fetch files. For the same reason no such work waits in a thread's queue: the
event loop starts the next when one has ended.
"""


def _short_executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(SHORT_THREADS, "short")


def _executor() -> ThreadPoolExecutor:
    others = 2 + PLACES + COPY_PLACES  # for `large_bodies`, `parsing` and the programs of `derivations`
    return ThreadPoolExecutor(BODY_THREADS + REPORT_THREADS + others, "work")


def _read_executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(READ_THREADS, "read")


@dataclass(frozen=True)
class ServerState:
    """The objects that all routes of one server use.

    settings: the server's settings.
    engine: the database.
    statuses: the cached statuses of requests.
    store: the stored files.
    keys: the API keys.
    cancel_running: called with the id of a cancelled request, so that this server stops working on it.
    wake_slots: called with the pool (a named group of devices) to which a request was submitted, so that an idle device
        of that pool starts it at once.
    wake_fetches: called after a request with files on other hosts was submitted, so that their download begins at once.
    metrics: the figures that `/metrics` shows, and the state of each device.
    large_bodies: lets one large body after the other be checked, because each needs much memory. The API keys take
        turns.
    parsing: lets one body after the other be parsed in a thread, because the parser stops all other threads. The API
        keys take turns.
    body_threads: the threads that may work on bodies and uploads at the same time. The API keys share them.
    report_threads: the threads that may make reports at the same time (see `service.reports`). The API keys share them.
    streams: the open event streams of each key.
    reports: the open reports of each key.
    draining: set when the server begins to shut down.
    stopping: set when its running requests have ended or went back to the queue, so that nobody follows a request here
        any longer.
    short_executor: the threads in which the method `call` runs blocking functions.
    executor: the threads in which the method `call_long` runs blocking functions that may take long.
    read_executor: the threads in which stored files are read while they are sent.
    free_short_threads, free_read_threads: their values are the numbers of free threads in `short_executor` and
        `read_executor`.
    """

    settings: Settings
    engine: sa.Engine
    statuses: StatusCache
    store: FileStore
    keys: Keys
    cancel_running: Callable[[str], None]
    wake_slots: Callable[[str], None]
    wake_fetches: Callable[[], None] = lambda: None
    metrics: Metrics = field(default_factory=Metrics)
    large_bodies: FairSemaphore = field(default_factory=lambda: FairSemaphore(1))
    parsing: FairSemaphore = field(default_factory=lambda: FairSemaphore(1))
    body_threads: FairSemaphore = field(default_factory=lambda: FairSemaphore(BODY_THREADS))
    report_threads: FairSemaphore = field(default_factory=lambda: FairSemaphore(REPORT_THREADS))
    streams: OpenAnswers = field(default_factory=lambda: OpenAnswers("event streams"))
    reports: OpenAnswers = field(default_factory=lambda: OpenAnswers("reports"))
    draining: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)
    short_executor: ThreadPoolExecutor = field(default_factory=_short_executor)
    executor: ThreadPoolExecutor = field(default_factory=_executor)
    read_executor: ThreadPoolExecutor = field(default_factory=_read_executor)
    free_short_threads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SHORT_THREADS))
    free_read_threads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READ_THREADS))

    @cached_property
    def budgets(self) -> Budgets:
        """Counts the requests and bytes of each API key, and refuses those above its limits."""
        return Budgets(self.settings)

    @cached_property
    def pulls(self) -> Pulls:
        """The downloads of models that this server runs."""
        return Pulls(self.settings)

    @cached_property
    def derivations(self) -> Derivations:
        """The object that makes derived files: files made from stored videos for the server's pages, such as strips of
        frames."""
        return Derivations(self.store, self.settings, self.call, self.call_long)

    @cached_property
    def pools(self) -> Mapping[str, str]:
        """Endpoint id -> the pool (a named group of devices) that carries out the endpoint's requests.

        Contains only the endpoints that the setting `pools` lists. All others use DEFAULT_POOL. Raises InvalidRequest
        if the setting lists an unknown endpoint.
        """
        return by_id(self.settings.pools)

    def shares_results(self) -> bool:
        """Returns True if everybody who knows the address of a result's file may see the prompt and seed of its
        request.

        The setting `share_links` decides. If it is not set, only a server without keys shares its results.
        Call it in a thread, because it may read the database.
        """
        chosen = self.settings.share_links
        return not self.keys.any_exist() if chosen is None else chosen

    async def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns the result of `work(*args, **kwargs)`, called in a thread, so that the event loop stays free.

        Use it for functions that read a little from the database or the disk. At most four (SHORT_THREADS) run at the
        same time.
        """
        async with self.free_short_threads:
            return await asyncio.get_running_loop().run_in_executor(self.short_executor, lambda: work(*args, **kwargs))

    async def call_long(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns the result of `work(*args, **kwargs)`, called in a thread. Use it for functions that may take long.

        The caller must hold a permit of one of this object's fair semaphores, which limit the number of such calls.
        """
        return await asyncio.get_running_loop().run_in_executor(self.executor, lambda: work(*args, **kwargs))

    async def read_in_threads(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        """Yields the pieces of a stored file. Each is read in a thread when the one before it was sent.

        At most four (READ_THREADS) are read at the same time.
        """
        loop = asyncio.get_running_loop()
        while True:
            async with self.free_read_threads:
                piece = await loop.run_in_executor(self.read_executor, next, pieces, b"")
            if not piece:
                return
            yield piece

    async def call_with_retries(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns the result of `work(*args, **kwargs)`, called in a thread. Repeats the call after a temporary error.

        `work` must be safe to repeat. An error is temporary if `is_temporary` is true for it. The call is repeated for
        about six seconds; then the error is raised. Any other error, and damage of the database, is raised at once.

        fal's clients give up at the first error. Without repetitions a restart of the database would make them fail.
        """
        return await self.repeated(lambda: self.call(work, *args, **kwargs))

    async def call_for(self, key_id: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns the result of `work(*args, **kwargs)`, called in a thread.

        Use it for work on the body of a request or on an upload, and for writes to the database. API keys share the
        threads for such work fairly, so that a key with much work does not delay the others.

        key_id: the id of the API key for whose request the work is done.
        """
        async with self.body_threads.permit(key_id):
            return await self.call_long(work, *args, **kwargs)

    async def call_for_with_retries(self, key_id: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns the result of `work(*args, **kwargs)`, called in one of the threads that API keys share fairly.
        Repeats the call after temporary errors, such as those of a database that restarts.

        The key occupies one of the threads during all repetitions. The wait for a free thread has no time limit.
        """
        async with self.body_threads.permit(key_id):
            return await self.repeated(lambda: self.call_long(work, *args, **kwargs))

    def shut_down_executors(self) -> None:
        """Ends the threads in which functions are called, and waits until they have ended."""
        for executor in (self.short_executor, self.executor, self.read_executor):
            executor.shutdown(cancel_futures=True)

    @staticmethod
    async def repeated(attempt: Callable[[], Awaitable[T]]) -> T:
        """Returns the result of `attempt()`. Repeats it for about six seconds after temporary errors, such as those of
        a database that restarts. Other errors are raised at once.

        If there is no result after 30 seconds (ANSWER_S), raises SQLAlchemy's TimeoutError, a temporary error, because
        a database that hangs raises none itself. The thread of the attempt is not stopped.
        """
        try:
            async with asyncio.timeout(ANSWER_S) as limit:
                for pause_s in PAUSES_S:
                    try:
                        return await attempt()
                    except Exception as error:
                        if not is_temporary(error) or is_damaged(error):
                            raise
                        await asyncio.sleep(pause_s)
                return await attempt()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise sa.exc.TimeoutError("The database does not answer.") from error
