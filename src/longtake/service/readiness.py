"""Tests whether a server's database works, and whether its files can be written to the disk."""

import asyncio
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event

from longtake.database.connection import FULL, database_file, error_code, is_damaged, reading
from longtake.database.tables import requests
from longtake.errors import os_reason
from longtake.service.state import ServerState
from longtake.storage.files import FULL_DISK
from longtake.system import flush

CACHE_S = 1.0
"""Seconds for which the result of a readiness test is cached. Anybody may ask for it, and the test writes to the
disk."""
WAIT_S = 2.0
"""Seconds after which a test that still runs counts as failed. It is not stopped, and a later report has its result."""
WRITTEN_BYTES = 256 * 1024
"""Number of bytes that are written to test a disk: enough for a request that a client submits."""
WORKS = "works"

READ_ONLY = {sqlite3.SQLITE_READONLY, "25006"}
"""The error codes of SQLite and PostgreSQL for writing to a database that can only be read."""


class Readiness:
    """Tests whether a server can do its work. Its methods may be called only in the thread of the event loop.

    state: has the server's database and file store.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._tests = {"database": _Test(self._test_database), "files": _Test(self._test_files)}
        self._was_damaged = False
        event.listen(state.engine, "handle_error", self._note_damage)

    async def report(self) -> Mapping[str, str]:
        """Returns for each part of the server whether it works. The value is "works" (WORKS) or says what is wrong.

        database: whether the database can be read and written, and is not damaged. After any use of the database has
            found damage, the value says so until the server is started again.
        files: whether the folder for incoming files, and the folder of a SQLite database, can be written and are not
            full.

        A part that does not answer within some seconds (WAIT_S) does not work. The texts contain no secrets and no
        paths.
        """
        results = await asyncio.gather(*(test.result() for test in self._tests.values()))
        return dict(zip(self._tests, results, strict=True))

    def _test_database(self) -> str:
        database = database_problem(self._state.engine)
        return "it is damaged" if self._was_damaged else database or WORKS

    def _test_files(self) -> str:
        scratch = self._state.store.scratch
        file = database_file(self._state.engine)
        problems = (disk_problem(folder) for folder in (scratch, *([] if file is None else [file.parent])))
        return next(filter(None, problems), WORKS)

    def _note_damage(self, context: sa.engine.ExceptionContext) -> None:
        self._was_damaged = self._was_damaged or is_damaged(context.original_exception)


class _Test:
    """A test of a part of the server, which runs in a thread. Its result is cached for a second (CACHE_S).

    test: returns "works" (WORKS) or says what is wrong. It is never called again before the last call has returned.
    """

    def __init__(self, test: Callable[[], str]) -> None:
        self._test = test
        self._running: asyncio.Future[str] | None = None
        self._result = ""
        self._ended_at = float("-inf")

    async def result(self) -> str:
        """Returns "works" (WORKS) if the tested part of the server works, otherwise what is wrong.

        If the test takes more than two seconds (WAIT_S), the result is "it does not answer".
        """
        if self._running is None and time.monotonic() - self._ended_at <= CACHE_S:
            return self._result
        if self._running is None:
            self._running = asyncio.ensure_future(asyncio.to_thread(self._test))
            self._running.add_done_callback(self._end)
        done, _ = await asyncio.wait({self._running}, timeout=WAIT_S)
        return next((test.result() for test in done), "it does not answer")

    def _end(self, test: "asyncio.Future[str]") -> None:
        self._running = None
        if not test.cancelled() and test.exception() is None:
            self._result, self._ended_at = test.result(), time.monotonic()


def database_problem(engine: sa.Engine) -> str | None:
    """Returns what is wrong with a database, such as "it is damaged", or None if it can be read and written."""
    newest = sa.select(requests.c.seq, requests.c.state).order_by(requests.c.seq.desc()).limit(1)
    nothing = sa.update(requests).where(sa.false()).values(version=0)
    try:
        file = database_file(engine)
        if file is not None:
            _read_anew(file)
        with reading(engine) as connection:
            connection.execute(newest).first()
        with engine.begin() as connection:  # fails if the database is read-only, and writes nothing
            connection.execute(nothing)
    except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
        if is_damaged(error):
            return "it is damaged"
        if error_code(error) in READ_ONLY:
            return "it can be read only"
        return "its disk is full" if error_code(error) in FULL else "it does not answer"
    return None


def _read_anew(file: Path) -> None:
    """Reads the header and the list of tables of a SQLite file with a new connection, which has nothing cached.

    Raises sqlite3.Error if the file is missing, damaged or no database.
    """
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    finally:
        connection.close()


def disk_problem(folder: Path) -> str | None:
    """Returns what prevents writing to a folder, such as "the disk is full", or None if a file can be written there.

    To find out, writes a file of 256 KiB (WRITTEN_BYTES) and deletes it. The folder is created if it does not exist.
    """
    # Other servers may share the folder, with the same process id.
    path = folder / f".ready-{secrets.token_urlsafe(16)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            path.write_bytes(bytes(WRITTEN_BYTES))
            flush(path)
        finally:
            path.unlink(missing_ok=True)
    except OSError as error:
        return "the disk is full" if error.errno in FULL_DISK else f"the folder cannot be written: {os_reason(error)}"
    return None
