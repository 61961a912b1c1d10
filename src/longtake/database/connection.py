"""Connects to the database (a SQLite file or PostgreSQL), and repeats work after its temporary failures."""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event

from longtake.errors import TEMPORARY, DiskFull, InvalidRequest
from longtake.periodic import Failures

log = logging.getLogger(__name__)

BUSY_MS = 30_000
"""Milliseconds for which a write transaction of SQLite waits for other writers before it fails."""
JOURNAL_BYTES = 16 * 1024**2
"""Size in bytes to which SQLite cuts its write-ahead log, after a large transaction has made it longer."""
IDLE_MS = 60_000
"""Milliseconds after which PostgreSQL closes a connection that is idle inside a transaction.

Such a transaction belongs to a client that hangs, and it may hold locks for which other clients wait.
"""

NOTICING_LOSS = {"connect_timeout": 10, "tcp_user_timeout": 15_000, "keepalives_idle": 10, "keepalives_interval": 5}
"""Settings of PostgreSQL connections (times in seconds, `tcp_user_timeout` in milliseconds), with which the loss of the
database's machine is noticed within about 25 seconds.

`tcp_user_timeout` limits how long sent bytes may stay unconfirmed. The keepalives send some while a statement waits for
its answer: without them, its thread would wait for two hours, because the system's default is so long.
"""


def connect(url: str, *, pool_size: int = 8) -> sa.Engine:
    """Returns the engine for a database URL: `sqlite:///path` or `postgresql://...` (with psycopg 3).

    `pool_size`: the maximum number of unused connections that the engine keeps open. At most three times as many are in
        use at the same time.

    Raises InvalidRequest for any other kind of URL.
    """
    address = sa.make_url(url)
    match address.get_backend_name():
        case "sqlite":
            write_lock = threading.Lock()
            engine = sa.create_engine(
                address,
                pool_size=pool_size,
                max_overflow=2 * pool_size,
                connect_args={"factory": lambda *args, **kwargs: SqliteConnection(write_lock, *args, **kwargs)},
            )
            event.listen(engine, "connect", _configure_sqlite)
            event.listen(engine, "begin", _begin_immediate)
            return engine
        case "postgresql":
            engine = sa.create_engine(
                address.set(drivername="postgresql+psycopg"),
                pool_size=pool_size,
                max_overflow=2 * pool_size,
                pool_pre_ping=True,
                connect_args=NOTICING_LOSS,
            )
            event.listen(engine, "connect", _configure_postgresql)
            return engine
        case other:
            raise InvalidRequest(f"LONGTAKE_DATABASE_URL is of the kind {other}; sqlite and postgresql will do.")


def file_url(path: Path) -> str:
    """Returns the database URL of a SQLite file."""
    return f"sqlite:///{path}"


def database_file(engine: sa.Engine) -> Path | None:
    """Returns the path of a SQLite database's file.

    Returns None for PostgreSQL, for a SQLite database in memory, and if the database's URL names the file by a `file:`
    URI.
    """
    name = engine.url.database
    if engine.dialect.name != "sqlite" or not name or name == ":memory:" or name.startswith("file:"):
        return None
    return Path(name)


class SqliteConnection(sqlite3.Connection):
    """A SQLite connection whose write transactions wait for a lock that all connections of the engine share.

    Without this lock, a writer that finds the database locked sleeps and tries again. With sixteen busy writers, it can
    then wait for a second.
    """

    def __init__(self, write_lock: threading.Lock, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._write_lock = write_lock
        self._holds_lock = False

    def lock(self) -> None:
        """Takes the lock that all connections of the engine share. `commit`, `rollback` and `close` release it.

        Raises sqlite3.OperationalError if the lock is not free within 30 seconds (BUSY_MS).
        """
        if not self._write_lock.acquire(timeout=BUSY_MS / 1000):
            raise sqlite3.OperationalError("database is locked")
        self._holds_lock = True

    def commit(self) -> None:
        super().commit()
        self._unlock()

    def rollback(self) -> None:
        try:
            super().rollback()
        finally:
            self._unlock()

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._unlock()

    def free_pages(self, number: int) -> None:
        """Shortens the file by up to `number` of its unused pages. The shared lock is held meanwhile (see `lock`).

        SQLite moves the used pages at the end of the file into unused pages, and then cuts off the end.
        """
        self.lock()
        try:
            # `execute` would stop after the first page. `executescript` runs a statement to its end.
            self.executescript(f"PRAGMA incremental_vacuum({number:d})")
        finally:
            self._unlock()

    def _unlock(self) -> None:
        if self._holds_lock:
            self._holds_lock = False
            self._write_lock.release()


def _configure_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # so that Python begins no transactions; `_begin_immediate` does
    connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    if connection.execute("PRAGMA page_count").fetchone() == (0,):  # a new file; later only VACUUM can change this
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA journal_size_limit={JOURNAL_BYTES}")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _configure_postgresql(connection: Any, _: Any) -> None:
    connection.autocommit = True
    connection.execute(f"SET idle_in_transaction_session_timeout = {IDLE_MS}")
    connection.autocommit = False


def _begin_immediate(connection: sa.Connection) -> None:
    if connection.get_execution_options().get("reads_only", False):
        connection.exec_driver_sql("BEGIN")
        return
    # The lock is taken at the beginning. A transaction that takes it only at its first write fails if another one has
    # written since its beginning.
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, SqliteConnection)
    raw.lock()
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A context manager: yields a connection for reading only. Its queries do not wait for transactions that write."""
    with engine.connect().execution_options(reads_only=True) as connection:
        yield connection


def lock(connection: sa.Connection, name: str) -> None:
    """Waits for the database lock `name`, and holds it until the transaction of `connection` ends.

    Does nothing on SQLite, where only one transaction writes at a time.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(name, 0))))


DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, "XX001", "XX002"}
"""Error codes of SQLite and PostgreSQL that mean that the database's files are damaged or no database."""


FULL = {sqlite3.SQLITE_FULL, "53100"}
"""Error codes of SQLite and PostgreSQL that mean that the database's disk is full."""


def error_code(error: BaseException) -> int | str:
    """Returns the code that PostgreSQL (a text) or SQLite (a number) gave to a failure; 0 if there is none."""
    original = getattr(error, "orig", error)
    primary: int = (getattr(original, "sqlite_errorcode", None) or 0) & 0xFF  # the higher bits hold details
    code: int | str = getattr(original, "sqlstate", None) or primary
    return code


def is_damaged(error: BaseException) -> bool:
    """Returns True if work failed with `error` because a file of the database is damaged or is not a database."""
    return error_code(error) in DAMAGED


def is_temporary(error: Exception) -> bool:
    """Returns True if work that failed with `error` may succeed when it is repeated later.

    These errors are temporary:
    - The database is unreachable, restarting or busy.
    - The database is damaged. Its operator may restore it.
    - A disk is full, read-only or fails.
    - Too many files are open, or this machine has no thread, memory or port left.
    """
    if isinstance(error, sa.exc.DBAPIError):
        kinds = (sa.exc.OperationalError, sa.exc.InternalError)
        return isinstance(error, kinds) or error.connection_invalidated or is_damaged(error)
    if isinstance(error, OSError):
        return error.errno in TEMPORARY
    return isinstance(error, (DiskFull, sa.exc.TimeoutError))


class RetriesStopped(Exception):
    """Raised by `retry_until_stopped` when it gives up, because its argument `stopping` was set after a failed call."""


Result = TypeVar("Result")


def retry_until_stopped(work: Callable[[], Result], stopping: threading.Event, *, max_wait_s: float = 1.0) -> Result:
    """Calls `work`, and repeats the call after each temporary error (see `is_temporary`). Returns its result.

    `work`: must be safe to repeat, because a call may fail after its change was stored.
    `stopping`: setting this event ends the repetition: RetriesStopped is raised after the next temporary error.
    `max_wait_s`: the longest pause between two calls in seconds. The first pause is 0.02 seconds; each further one is
        twice as long.

    Errors that are not temporary are raised at once.
    """
    wait_s, failures = 0.02, Failures()
    while True:
        try:
            return work()
        except Exception as error:
            if not is_temporary(error):
                raise
            reason = failures.news(error)
            if reason is not None:
                log.warning("The database or a disk failed; trying again: %s", reason)
            if stopping.wait(wait_s):
                raise RetriesStopped from error
            wait_s = min(2 * wait_s, max_wait_s)
