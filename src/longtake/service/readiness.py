"""Tests whether a server's database works, and whether its files can be written to the disk."""

import asyncio
import secrets
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event

from longtake.database.connection import FULL, database_file, error_code, is_damaged, reading
from longtake.database.tables import requests
from longtake.service.state import ServerState
from longtake.storage.files import FULL_DISK
from longtake.system import flush

CACHE_S = 1.0
"""Seconds for which a report is not renewed, because the tests write to the disk and everybody may ask for one."""
WRITTEN_BYTES = 256 * 1024
"""Number of bytes that must fit on a disk. An accepted request needs less, a result more."""
WORKS = "works"

READ_ONLY = {sqlite3.SQLITE_READONLY, "25006"}
"""The error codes of SQLite and PostgreSQL for writing to a database that can only be read."""


class Readiness:
    """Tests whether a server can do its work. Its methods may be called only in the thread of the event loop.

    state: has the server's database and file store.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._lock = asyncio.Lock()
        self._report: Mapping[str, str] = {}
        self._tested_at = float("-inf")
        self._was_damaged = False
        event.listen(state.engine, "handle_error", self._note_damage)

    async def report(self) -> Mapping[str, str]:
        """Returns for each part of the server whether it works. The value is "works" (WORKS) or says what is wrong.

        database: whether the database can be read and written, and is not damaged. After any use of the database has
            found damage, the value says so until the server is started again.
        files: whether the folder for incoming files, and the folder of a SQLite database, can be written and are not
            full.

        The texts contain no secrets and no paths.
        """
        async with self._lock:
            if time.monotonic() - self._tested_at > CACHE_S:
                self._report = await self._state.call(self._test)
                self._tested_at = time.monotonic()
            return self._report

    def _test(self) -> Mapping[str, str]:
        database = database_problem(self._state.engine)
        if self._was_damaged:
            database = "it is damaged"
        scratch = self._state.store.scratch
        file = database_file(self._state.engine)
        problems = [disk_problem(folder) for folder in (scratch, *([] if file is None else [file.parent]))]
        return {"database": database or WORKS, "files": next(filter(None, problems), WORKS)}

    def _note_damage(self, context: sa.engine.ExceptionContext) -> None:
        self._was_damaged = self._was_damaged or is_damaged(context.original_exception)


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
        return "the disk is full" if error.errno in FULL_DISK else f"the folder cannot be written: {error.strerror}"
    return None
