"""Makes what the server's pages show of stored files, such as a strip of a video's frames. Child programs do the work.

What was made is stored with its file (see `storage.derived`), so each is made once. Clients who ask for the same at the
same time wait for the same program. It is killed when all of them have gone.
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
from longtake.service.responses import NotFound
from longtake.service.streams import OpenAnswers, result_for
from longtake.service.turns import Turns
from longtake.settings import Settings
from longtake.storage import derived
from longtake.storage.derived import Derivation, DerivedFile
from longtake.storage.files import FileStore, StoredFile

PLACES, COPY_PLACES = 4, 2
"""How many programs may run at the same time: COPY_PLACES that make copies of videos, and PLACES others."""
MOST_OPEN = 64
"""Maximum number of answers of one key that wait for a program at the same time."""
PROGRAM_S, COPY_S = 120.0, 1800.0
"""Seconds that a program may take: one that makes a copy has more than all others."""
UNASKED_S = 20.0
"""Seconds after which a copy is given up if no client has asked for it."""
FAILED_S = 60.0
"""Seconds for which a failure is remembered, so that clients who ask again start no program."""
COPY = "copy"
"""The kind of derived files that are copies of videos."""


@dataclass(frozen=True)
class Wanted:
    """A client's wish for something that is made from a stored file.

    derivation: what is made, and from which file.
    file: the facts about this file.
    key_id: the key whose turn it uses.
    arguments: those of its maker (see `derived.program`).
    """

    derivation: Derivation
    file: StoredFile
    key_id: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class _Job:
    """The work on one derived file.

    task: does the work.
    share: how much of it is done, 0..1.
    waiting: the number of clients that wait for its end.
    giving_up: ends the work on a copy for which no client asks any more; None for all other work.
    on_end: is closed when the work has ended.
    """

    task: "asyncio.Task[DerivedFile]"
    share: float = 0.0
    waiting: int = 0
    giving_up: asyncio.TimerHandle | None = None
    on_end: ExitStack = field(default_factory=ExitStack)


class Derivations:
    """Makes derived files, each once. Its methods may be called only in the thread of the event loop.

    store: the stored files.
    settings: limit the videos that are read.
    call: runs a function that reads a little in a thread, and returns its result.
    call_long: the same for a function that may take long.
    program_s, copy_s, unasked_s: see PROGRAM_S, COPY_S and UNASKED_S.
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
        self._turns, self._copy_turns = Turns(PLACES), Turns(COPY_PLACES)
        self._open = OpenAnswers("answers that are made from files")
        self._jobs: dict[Derivation, _Job] = {}
        self._failures: TTLCache[Derivation, LongtakeError] = TTLCache(1000, FAILED_S)

    async def made(self, request: Request, wanted: Wanted) -> DerivedFile:
        """Returns the derived file that the client asks for. It is made if it is not stored yet.

        Raises these errors:
        - NotFound if the file from which it is made was deleted meanwhile.
        - RequestFailed with status 429 if 64 (MOST_OPEN) answers of the key wait.
        - LongtakeError if it cannot be made; the same for one minute (FAILED_S).
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
                    self._give_up(wanted.derivation, job)

    async def copied(self, wanted: Wanted) -> DerivedFile | float:
        """Returns the copy of a video, or the share (0..1) of it that is made.

        The copy is begun if necessary. It is given up if this method is not called for it again within 20 s
        (UNASKED_S). Raises the errors of `made`, except ClientDisconnect.
        """
        found: DerivedFile | None = await self._call(derived.find, self._store, wanted.derivation)
        if found is not None:
            return found
        job = self._jobs.get(wanted.derivation)
        if job is None:
            with ExitStack() as stack:
                stack.enter_context(self._open.opened(wanted.key_id, MOST_OPEN))
                job = self._begun(wanted)
                job.on_end.push(stack.pop_all())
        if job.giving_up is not None:
            job.giving_up.cancel()
        job.giving_up = asyncio.get_running_loop().call_later(self._unasked_s, self._give_up, wanted.derivation, job)
        return job.share

    def _begun(self, wanted: Wanted) -> _Job:
        """Returns the work on a derived file. Begins it unless it is going on. Raises a failure of the last minute."""
        key = wanted.derivation
        if key in self._jobs:
            return self._jobs[key]
        if (failure := self._failures.get(key)) is not None:
            raise copy(failure)
        job = self._jobs[key] = _Job(asyncio.create_task(self._make(wanted)))

        def ended(task: "asyncio.Task[DerivedFile]") -> None:
            self._give_up(key, job)
            job.on_end.close()
            error = None if task.cancelled() else task.exception()
            if isinstance(error, LongtakeError):
                self._failures[key] = copy(error)

        job.task.add_done_callback(ended)
        return job

    def _give_up(self, key: Derivation, job: _Job) -> None:
        """Ends the work on a derived file, if it has not ended. The next client begins it anew."""
        if self._jobs.get(key) is job:
            del self._jobs[key]
        if job.giving_up is not None:
            job.giving_up.cancel()
        job.task.cancel()

    async def _make(self, wanted: Wanted) -> DerivedFile:
        """Makes a derived file when it is the key's turn, and stores it."""
        is_copy, execution = wanted.derivation.kind == COPY, Execution()
        loop = asyncio.get_running_loop()

        def report(share: float) -> None:
            loop.call_soon_threadsafe(self._report, wanted.derivation, share)

        turns, most_s = (self._copy_turns, self._copy_s) if is_copy else (self._turns, self._program_s)
        async with turns.turn(wanted.key_id):
            try:
                async with asyncio.timeout(most_s):
                    made: DerivedFile = await self._call_long(self._carry_out, wanted, execution, report)
                    return made
            except TimeoutError:
                raise UnsupportedVideo(f"Reading the file took longer than {most_s:g} s and was stopped.") from None
            finally:
                execution.kill()

    def _report(self, key: Derivation, share: float) -> None:
        if key in self._jobs:
            self._jobs[key].share = share

    def _carry_out(self, wanted: Wanted, execution: Execution, report: Callable[[float], None]) -> DerivedFile:
        """Runs the program, and stores what it has made. Call it in a thread."""
        out = self._store.scratch_path()
        try:
            with self._store.blobs.local(wanted.file.blob) as path:
                order = Order(wanted.derivation.kind, str(path), str(out), self._limits, wanted.arguments)
                facts = execution.run(order, report)
            stored = derived.add(self._store, wanted.derivation, facts, out if out.exists() else None)
        except FileNotFoundError:
            raise NotFound from None
        finally:
            out.unlink(missing_ok=True)
        if stored is None:
            raise NotFound
        return stored
