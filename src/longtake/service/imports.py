"""Imports: the server fetches a file from a URL of another host, and stores it as an upload of the caller.

So a file is fetched once: its preview, its plan and the request that extends it use the same stored file.
"""

import asyncio
import mimetypes
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from cachetools import TTLCache
from starlette.requests import Request

from longtake.access.files import find_own
from longtake.errors import Cancelled, LongtakeError
from longtake.media.fetch import fetch_file, pace_of
from longtake.outbound import PublicTransport, is_http
from longtake.service.budgets import Budgets
from longtake.service.fair_semaphore import FairSemaphore
from longtake.service.responses import NotFound, RequestFailed
from longtake.service.streams import OpenAnswers, result_for
from longtake.service.uploads import file_name
from longtake.settings import Settings
from longtake.storage import imports
from longtake.storage.files import FileStore, NewFile, StoredFile
from longtake.storage.keys import new_key
from longtake.temporary import temporary_folder

PLACES = 4
"""Maximum number of files that are fetched at the same time."""
MOST_OPEN = 16
"""Maximum number of answers for one API key that wait for an import at the same time."""
FAILED_S = 30.0
"""Seconds for which a failed import is remembered. Within this time the same URL fails at once and is not fetched."""

Imported = tuple[str, StoredFile]
"""The key of a stored file, and the facts about it."""


_JobName = tuple[str, str]
"""The name of an import: the id of the API key for which a file is fetched, and the hash of the URL."""


@dataclass
class _Import:
    """The import of one file.

    task: does the work.
    stopped: set when the work must end, because no client waits for it any more.
    waiting: the number of clients that wait.
    """

    task: "asyncio.Task[Imported]"
    stopped: threading.Event
    waiting: int = 0


@dataclass
class Imports:
    """Imports files. Its methods may be called only in the thread of the event loop.

    store: the stored files.
    settings: the maximum size of a file, and the minimum speed of its download.
    budgets: the requests and bytes that each API key may still send. An import counts as one request, and its bytes as
        bytes that the key has sent.
    call: runs a function in a thread and returns its result.
    draining: set when the server begins to shut down. Imports then end.
    """

    store: FileStore
    settings: Settings
    budgets: Budgets
    call: Callable[..., Awaitable[Any]]
    draining: threading.Event
    _semaphore: FairSemaphore = field(default_factory=lambda: FairSemaphore(PLACES))
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(PLACES, "import"))
    _open: OpenAnswers = field(default_factory=lambda: OpenAnswers("imports"))
    _jobs: dict[_JobName, _Import] = field(default_factory=dict)
    _failures: TTLCache[_JobName, LongtakeError] = field(default_factory=lambda: TTLCache(1000, FAILED_S))

    async def stored(self, request: Request, key_id: str, url: str) -> Imported:
        """Returns the stored file with the content of a URL or a data URI.

        Nothing is fetched if the URL is that of a file of this server that the caller may read, or if the caller has
        imported the URL within the last minutes.

        Raises these errors:
        - LongtakeError if the file cannot be fetched. Calls within the next half minute (FAILED_S) raise the same
          error.
        - RequestFailed with status 429 if the key may not submit a request or send bytes now, or if 16 (MOST_OPEN)
          answers for the key wait for imports already.
        - ClientDisconnect if the client has gone.
        """
        found: Imported | None = await self.call(self._find, key_id, url)
        if found is not None:
            return found
        with self._open.opened(key_id, MOST_OPEN):
            # In a thread, because a URL can be a data URI of megabytes.
            name: _JobName = (key_id, await self.call(imports.url_hash, url))
            job = self._begun(name, url)
            job.waiting += 1
            try:
                return await result_for(request, job.task)
            finally:
                job.waiting -= 1
                if not job.waiting:
                    job.stopped.set()

    def _find(self, key_id: str, url: str) -> Imported | None:
        own = find_own(self.store, url, key_id) if is_http(url) else None
        return own or imports.find(self.store, key_id, url)

    def _begun(self, name: _JobName, url: str) -> _Import:
        """Returns the import of a URL, which is begun if it is not going on already. `name` is the import's name.

        If it failed within the last half minute (FAILED_S), raises the same error again. Raises RequestFailed with
        status 429 if the key may not submit a request now.
        """
        key_id, _ = name
        going_on = self._jobs.get(name)
        if going_on is not None and not going_on.stopped.is_set():
            return going_on
        if (failure := self._failures.get(name)) is not None:
            raise copy(failure)
        self.budgets.begin_request(key_id)
        stopped = threading.Event()
        job = self._jobs[name] = _Import(asyncio.create_task(self._import(key_id, url, stopped)), stopped)

        def ended(task: "asyncio.Task[Imported]") -> None:
            if self._jobs.get(name) is job:
                del self._jobs[name]
            error = None if task.cancelled() else task.exception()
            if isinstance(error, LongtakeError) and not isinstance(error, Cancelled):
                self._failures[name] = copy(error)

        job.task.add_done_callback(ended)
        return job

    async def _import(self, key_id: str, url: str, stopped: threading.Event) -> Imported:
        async with self._semaphore.permit(key_id):
            loop = asyncio.get_running_loop()
            key, file = await loop.run_in_executor(self._threads, self._fetch, key_id, url, stopped)
        with suppress(RequestFailed):  # the file is there; the next one has to wait
            self.budgets.use_bytes(key_id, file.size)
        return key, file

    def _fetch(self, key_id: str, url: str, stopped: threading.Event) -> Imported:
        """Fetches a file and stores it as an upload of the key.

        Raises Cancelled if `stopped` is set or the server shuts down, and LongtakeError if the file cannot be fetched.
        """

        def check() -> None:
            if stopped.is_set() or self.draining.is_set():
                raise Cancelled

        check()
        name = name_of(url)
        content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        key = new_key(name, content_type)
        with temporary_folder(self.settings) as folder:
            path = fetch_file(
                url,
                folder,
                max_bytes=self.settings.max_source_bytes,
                pace=pace_of(self.settings),
                transport=PublicTransport(self.settings.trusted_hosts),
                check=check,
            )
            self.store.add(key, NewFile(key_id, name, content_type), path)
        imports.add(self.store, key_id, url, key)
        file = self.store.find(key)
        if file is None:
            raise NotFound
        return key, file


def name_of(url: str) -> str:
    """Returns the file name in a URL; `upload.bin` if there is none, as in a data URI."""
    if not is_http(url):
        return file_name("")
    try:
        return file_name(unquote(urlsplit(url.strip()).path))
    except ValueError:
        return file_name("")
