"""Makes derived files: files made from stored videos for the server's pages, such as a strip of frames.

A child process makes each derived file, which is then stored with its video (see `storage.derived`) and not made again.
Clients with the same API key who ask for the same derived file at the same time wait for the same process.
The process is killed when all of them have gone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from cachetools import TTLCache
from starlette.requests import Request

from longtake.derived.order import Order
from longtake.derived.process import Execution
from longtake.errors import LongtakeError, UnsupportedVideo
from longtake.media.limits import Limits
from longtake.service.fair_semaphore import FairSemaphore
from longtake.service.responses import NotFound
from longtake.service.streams import OpenAnswers, result_for
from longtake.settings import Settings
from longtake.storage import derived
from longtake.storage.derived import Derivation, DerivedFile
from longtake.storage.files import FileStore, StoredFile

PLACES, COPY_PLACES = 4, 2
"""Maximum number of child processes that run at the same time: COPY_PLACES that copy whole videos for browsers, which
can take minutes, and PLACES that make other derived files, such as strips of frames."""
MOST_OPEN = 64
"""Maximum number of requests of one API key that wait at the same time for derived files (files made from stored
videos, such as strips of frames).

A copy of a video for browsers that is being made counts like a waiting request until it is finished, also if nobody
waits for it.
"""
PROGRAM_S, COPY_S = 120.0, 1800.0
"""Seconds that a child process may take: COPY_S if it copies a video, PROGRAM_S if it makes another derived file."""
UNASKED_S = 20.0
"""If for so many seconds no client asks for the copy of a video (a file that browsers can play), the server stops
making it."""
FAILED_S = 60.0
"""Seconds for which it is remembered that a file could not be made. Clients who ask for it again within this time get
the same error at once."""
COPY = "copy"
"""The kind of those derived files (files made from stored videos) that are copies of videos for browsers."""


@dataclass(frozen=True)
class Wanted:
    """A client's request for a derived file, which is made from a stored file.

    derivation: the kind of the derived file, and the key of the stored file.
    file: the facts about the stored file.
    key_id: the id of the API key for which the work counts; `auth.EVERYBODY` for a client without a key.
    arguments: the arguments of the function that makes this kind (see `derived.program`), such as a number of frames.
    """

    derivation: Derivation
    file: StoredFile
    key_id: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def job(self) -> "_JobName":
        """The name of the work. Each API key has work of its own, so that none waits for the turns of another one."""
        return self.derivation, self.key_id


_JobName = tuple[Derivation, str]
"""The derived file that is made, and the id of the API key for which the work counts."""


@dataclass
class _Job:
    """The work on one derived file, such as a strip of a video's frames.

    task: does the work.
    share: the finished share of the work, 0..1.
    waiting: the number of clients that wait for its end.
    giving_up: if the file is the copy of a video, a timer that ends the work. It starts anew whenever a client asks for
        the copy. None for all other files.
    on_end: a stack of context managers that are exited when the work has ended.
    """

    task: "asyncio.Task[DerivedFile]"
    share: float = 0.0
    waiting: int = 0
    giving_up: asyncio.TimerHandle | None = None
    on_end: ExitStack = field(default_factory=ExitStack)


class Derivations:
    """Makes derived files from stored videos, such as a strip of frames. Each derived file is made only once.

    Its methods may be called only in the thread of the event loop.

    store: the stored files.
    settings: the maximum size and duration of the videos that are read.
    call: calls a short function in a thread, and returns its result.
    call_long: calls a function that may take long in a thread, and returns its result.
    copy_s, program_s: seconds that a child process may take: copy_s to copy a video, program_s for all else.
    unasked_s: seconds after which the copying of a video stops if no client asks for the copy.
    """

    def __init__(
        self,
        store: FileStore,
        settings: Settings,
        call: Callable[..., Awaitable[Any]],
        call_long: Callable[..., Awaitable[Any]],
        *,
        program_s: float = PROGRAM_S,
        copy_s: float = COPY_S,
        unasked_s: float = UNASKED_S,
    ) -> None:
        self._store = store
        self._program_s, self._copy_s, self._unasked_s = program_s, copy_s, unasked_s
        self._limits = Limits(max_pixels=settings.max_source_pixels, max_duration_s=settings.max_source_duration_s)
        self._call, self._call_long = call, call_long
        self._semaphore, self._copy_semaphore = FairSemaphore(PLACES), FairSemaphore(COPY_PLACES)
        self._open = OpenAnswers("answers that are made from files")
        self._jobs: dict[_JobName, _Job] = {}
        self._failures: TTLCache[Derivation, LongtakeError] = TTLCache(1000, FAILED_S)

    async def made(self, request: Request, wanted: Wanted) -> DerivedFile:
        """Returns the derived file (such as a strip of a video's frames) that the client asks for. It is made if it is
        not stored yet.

        wanted: the stored file, and what is made of it.

        Raises these errors:
        - NotFound if the stored file was deleted meanwhile.
        - RequestFailed with status 429 if 64 requests (MOST_OPEN) of the API key wait for derived files already.
        - LongtakeError if it cannot be made. Calls within the next minute (FAILED_S) raise the same error at once.
        - ClientDisconnect if the client has gone.
        """
        found: DerivedFile | None = await self._call(derived.find, self._store, wanted.derivation)
        if found is not None:
            return found
        with self._open.opened(wanted.key_id, MOST_OPEN):
            job = self._begun(wanted)
            job.waiting += 1
            try:
                return await result_for(request, job.task)
            finally:
                job.waiting -= 1
                if not job.waiting:
                    self._give_up(wanted.job, job)

    async def copied(self, wanted: Wanted) -> DerivedFile | float:
        """Returns the copy of a stored video that browsers can play if it is finished, otherwise the share (0..1) that
        is finished. `wanted` says which video.

        Begins the copy if necessary. The work on it ends if this method is not called for it again within 20 seconds
        (UNASKED_S).

        Raises RequestFailed with status 429 if 64 requests (MOST_OPEN) of the API key wait already. If the copy has
        failed within the last minute, raises the LongtakeError or NotFound with which it failed.
        """
        found: DerivedFile | None = await self._call(derived.find, self._store, wanted.derivation)
        if found is not None:
            return found
        job = self._jobs.get(wanted.job)
        if job is None:
            with ExitStack() as stack:
                stack.enter_context(self._open.opened(wanted.key_id, MOST_OPEN))
                job = self._begun(wanted)
                job.on_end.push(stack.pop_all())
        if job.giving_up is not None:
            job.giving_up.cancel()
        job.giving_up = asyncio.get_running_loop().call_later(self._unasked_s, self._give_up, wanted.job, job)
        return job.share

    def _begun(self, wanted: Wanted) -> _Job:
        """Returns the work on a derived file (such as a strip of a video's frames), and begins it if it is not going on
        already.

        If the work failed within the last minute (FAILED_S), raises the same error again.
        """
        name = wanted.job
        if name in self._jobs:
            return self._jobs[name]
        self._raise_failure(wanted.derivation)
        job = self._jobs[name] = _Job(asyncio.create_task(self._make(wanted)))

        def ended(task: "asyncio.Task[DerivedFile]") -> None:
            self._give_up(name, job)
            job.on_end.close()
            error = None if task.cancelled() else task.exception()
            if isinstance(error, LongtakeError):
                self._failures[wanted.derivation] = copy(error)

        job.task.add_done_callback(ended)
        return job

    def _raise_failure(self, derivation: Derivation) -> None:
        """Raises the error with which the work on a derived file (such as a strip of a video's frames) has failed, if
        it has failed within the last minute (FAILED_S)."""
        if (failure := self._failures.get(derivation)) is not None:
            raise copy(failure)

    def _give_up(self, name: _JobName, job: _Job) -> None:
        """Stops the work on a derived file (such as a strip of a video's frames), if it has not ended. It begins again
        when a client asks for the file again."""
        if self._jobs.get(name) is job:
            del self._jobs[name]
        if job.giving_up is not None:
            job.giving_up.cancel()
        job.task.cancel()

    async def _make(self, wanted: Wanted) -> DerivedFile:
        """Waits until the client's API key may start a child process, then makes the derived file (such as a strip of a
        video's frames) that `wanted` describes, and stores it. Nothing is made if the file has been made for another
        key meanwhile."""
        is_copy, execution = wanted.derivation.kind == COPY, Execution()
        loop = asyncio.get_running_loop()

        def report(share: float) -> None:
            loop.call_soon_threadsafe(self._report, wanted.job, share)

        semaphore, most_s = (self._copy_semaphore, self._copy_s) if is_copy else (self._semaphore, self._program_s)
        async with semaphore.permit(wanted.key_id):
            found: DerivedFile | None = await self._call(derived.find, self._store, wanted.derivation)
            if found is not None:
                return found
            self._raise_failure(wanted.derivation)
            try:
                async with asyncio.timeout(most_s):
                    made: DerivedFile = await self._call_long(self._carry_out, wanted, execution, report)
                    return made
            except TimeoutError:
                raise UnsupportedVideo(f"Reading the file took longer than {most_s:g} s and was stopped.") from None
            finally:
                execution.kill()

    def _report(self, name: _JobName, share: float) -> None:
        if name in self._jobs:
            self._jobs[name].share = share

    def _carry_out(self, wanted: Wanted, execution: Execution, report: Callable[[float], None]) -> DerivedFile:
        """Runs the child process that makes a derived file (such as a strip of a video's frames), and stores the file.
        Must be called in a thread.

        wanted: the stored file, and what is made of it.
        execution: runs the process. Another thread may call its method `kill`.
        report: called with the finished share of the work, 0..1.

        Raises NotFound if the stored file was deleted meanwhile.
        """
        out = self._store.scratch_path()
        try:
            with self._store.blobs.local(wanted.file.blob) as path:
                order = Order(wanted.derivation.kind, str(path), str(out), self._limits, wanted.arguments)
                facts = execution.run(order, report)
            # Another key's process may have stored the same meanwhile. Somebody may be about to read that, so it stays.
            stored = derived.find(self._store, wanted.derivation) or derived.add(
                self._store, wanted.derivation, facts, out if out.exists() else None
            )
        except FileNotFoundError:
            raise NotFound from None
        except LongtakeError:
            if self._store.facts(wanted.derivation.file_key) is None:
                raise NotFound from None
            raise
        finally:
            out.unlink(missing_ok=True)
        if stored is None:
            raise NotFound
        return stored
