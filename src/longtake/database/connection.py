"""The database that everything durable is in: SQLite in a file, or PostgreSQL. One code path for both."""

import errno
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event

from longtake.errors import DiskFull, InvalidRequest

log = logging.getLogger(__name__)

BUSY_MS = 30_000
"""So long a writer of SQLite waits for the one before it."""
IDLE_MS = 60_000
"""PostgreSQL ends a transaction in which nothing happens for so long: its client was stopped in the middle of it, and
would keep others from the rows that it has locked."""


def connect(url: str, *, pool_size: int = 8) -> sa.Engine:
    """The engine of a database: `sqlite:///path` or `postgresql://...` (through psycopg 3).

    SQLite keeps a write-ahead log and syncs every commit to the disk; its transactions take the write lock at once,
    so that none fails half way. Raises InvalidRequest for an address of another kind.
    """
    address = sa.make_url(url)
    match address.get_backend_name():
        case "sqlite":
            turns = threading.Lock()
            engine = sa.create_engine(
                address,
                pool_size=pool_size,
                max_overflow=pool_size,
                connect_args={"factory": lambda *args, **kwargs: _Sqlite(turns, *args, **kwargs)},
            )
            event.listen(engine, "connect", _settle_sqlite)
            event.listen(engine, "begin", _begin_immediate)
            return engine
        case "postgresql":
            engine = sa.create_engine(
                address.set(drivername="postgresql+psycopg"),
                pool_size=pool_size,
                pool_pre_ping=True,
                connect_args={"connect_timeout": 10, "tcp_user_timeout": 15_000},
            )
            event.listen(engine, "connect", _settle_postgresql)
            return engine
        case other:
            raise InvalidRequest(f"LONGTAKE_DATABASE_URL is of the kind {other}; sqlite and postgresql will do.")


def file_url(path: Path) -> str:
    """The address of a SQLite file."""
    return f"sqlite:///{path}"


class _Sqlite(sqlite3.Connection):
    """A connection whose write transactions wait for their turn. Left to itself, SQLite lets a writer sleep and look
    again: among sixteen that write without pause one then waits for a second."""

    def __init__(self, turns: threading.Lock, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._turns = turns
        self._has_turn = False

    def take_turn(self) -> None:
        """Waits until no other connection of this engine writes."""
        if not self._turns.acquire(timeout=BUSY_MS / 1000):
            raise sqlite3.OperationalError("database is locked")
        self._has_turn = True

    def commit(self) -> None:
        super().commit()
        self._end_turn()

    def rollback(self) -> None:
        try:
            super().rollback()
        finally:
            self._end_turn()

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._end_turn()

    def _end_turn(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self._turns.release()


def _settle_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where SQLAlchemy says so, by _begin_immediate
    connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _settle_postgresql(connection: Any, _: Any) -> None:
    connection.autocommit = True
    connection.execute(f"SET idle_in_transaction_session_timeout = {IDLE_MS}")
    connection.autocommit = False


def _begin_immediate(connection: sa.Connection) -> None:
    if connection.get_execution_options().get("reads_only", False):
        connection.exec_driver_sql("BEGIN")
        return
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, _Sqlite)
    raw.take_turn()
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection for reading, which waits for no writer."""
    with engine.connect().execution_options(reads_only=True) as connection:
        yield connection


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE)


def is_temporary(error: Exception) -> bool:
    """Whether it may be over later: the database is away, restarts or is busy, or a disk is full."""
    if isinstance(error, sa.exc.DBAPIError):
        kinds = (sa.exc.OperationalError, sa.exc.InternalError)
        return isinstance(error, kinds) or error.connection_invalidated
    return isinstance(error, (DiskFull, sa.exc.TimeoutError)) or (isinstance(error, OSError) and error.errno in FULL)


class RetriesStopped(Exception):
    """What was insisted on did not happen before the end."""


Result = TypeVar("Result")


def retry_until_stopped(do: Callable[[], Result], ending: threading.Event, *, most_s: float = 1.0) -> Result:
    """`do()`, again and again while what goes wrong may pass, ever slower up to every `most_s` seconds.

    `do` may have happened where it seemed not to, so it has to be a conditional update or a reading. Raises what does
    not pass, and RetriesStopped once `ending` is set.
    """
    wait_s = 0.02
    while True:
        try:
            return do()
        except Exception as error:
            if not is_temporary(error):
                raise
            log.warning("The database or the disk fails; trying again: %s", str(error).partition("\n")[0])
            if ending.wait(wait_s):
                raise RetriesStopped from error
            wait_s = min(2 * wait_s, most_s)
