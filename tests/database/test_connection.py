"""Connections: SQLite's settings and write lock, and which errors are worth another try."""

import errno
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake.database.connection import (
    JOURNAL_BYTES,
    RetriesStopped,
    connect,
    file_url,
    is_temporary,
    reading,
    retry_until_stopped,
)
from longtake.errors import DiskFull, InvalidRequest
from tests.database.fixtures import Postgres


def test_sqlite_is_durable_and_readers_do_not_wait_for_writers(tmp_path: Path) -> None:
    engine = connect(file_url(tmp_path / "a.db"))
    with engine.begin() as connection:
        facts = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
        assert facts == ["wal", 2, 1]
        connection.execute(sa.text("CREATE TABLE t (x INTEGER)"))
    with engine.begin() as writer:
        writer.execute(sa.text("INSERT INTO t VALUES (1)"))
        with reading(engine) as reader:  # sees nothing of the open transaction
            assert reader.execute(sa.text("SELECT count(*) FROM t")).scalar() == 0
    with reading(engine) as reader:
        assert reader.execute(sa.text("SELECT count(*) FROM t")).scalar() == 1


def test_the_log_of_a_large_transaction_is_cut(tmp_path: Path) -> None:
    engine, log = connect(file_url(tmp_path / "a.db")), tmp_path / "a.db-wal"
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (x BLOB)"))
        connection.execute(sa.text("INSERT INTO t VALUES (zeroblob(:size))"), {"size": JOURNAL_BYTES + 4 * 1024**2})
    assert log.stat().st_size > JOURNAL_BYTES
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO t VALUES (1)"))
    assert log.stat().st_size == JOURNAL_BYTES
    engine.dispose()


def test_another_kind_of_database_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="of the kind mysql"):
        connect("mysql://somewhere/longtake")


def test_postgresql_is_connected_to_with_psycopg_3() -> None:
    assert connect("postgresql://somewhere/longtake").dialect.driver == "psycopg"


def test_the_loss_of_postgresql_s_machine_is_noticed_while_a_statement_runs(postgres: Postgres) -> None:
    """By default the system looks only after two hours whether the other end of a silent connection is still there."""
    made = connect(postgres.url("emptied"))
    with made.connect() as connection:
        used = connection.connection.driver_connection.info.get_parameters()  # type: ignore[union-attr]
    made.dispose()
    assert int(used["keepalives_idle"]) + int(used["keepalives_interval"]) + int(used["tcp_user_timeout"]) / 1000 <= 30


def test_temporary_errors_are_told_from_others() -> None:
    def database(kind: type[sa.exc.DBAPIError], *, broken: bool = False) -> Exception:
        return kind("INSERT", {}, Exception("no"), connection_invalidated=broken)

    assert is_temporary(database(sa.exc.OperationalError))
    assert is_temporary(database(sa.exc.InterfaceError, broken=True))
    assert is_temporary(OSError(errno.ENOSPC, "No space left on device"))
    assert is_temporary(DiskFull("The disk is full."))
    assert not is_temporary(database(sa.exc.IntegrityError))
    assert not is_temporary(database(sa.exc.DataError))
    assert not is_temporary(FileNotFoundError(errno.ENOENT, "gone"))
    assert not is_temporary(ValueError("out of range"))


def test_temporary_errors_are_retried() -> None:
    tries: list[int] = []

    def do() -> str:
        tries.append(1)
        if len(tries) < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return "done"

    assert retry_until_stopped(do, threading.Event()) == "done"
    assert len(tries) == 4


def test_retries_end_with_another_error_or_when_stopped() -> None:
    def fail(error: Exception) -> None:
        raise error

    with pytest.raises(ValueError, match="wrong"):
        retry_until_stopped(lambda: fail(ValueError("wrong")), threading.Event())
    stopping = threading.Event()
    threading.Timer(0.1, stopping.set).start()
    with pytest.raises(RetriesStopped):
        retry_until_stopped(lambda: fail(OSError(errno.ENOSPC, "full")), stopping)


def test_writers_wait_in_turn(tmp_path: Path) -> None:
    engine = connect(file_url(tmp_path / "turns.db"))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (x INTEGER)"))
    waits: list[float] = []

    def write() -> None:
        for number in range(20):
            began = time.monotonic()
            with engine.begin() as connection:
                connection.execute(sa.text("INSERT INTO t VALUES (:x)"), {"x": number})
            waits.append(time.monotonic() - began)

    threads = [threading.Thread(target=write) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(waits) == 240
    # With SQLite's own waiting, the longest single wait exceeds the average time of all twenty writes of a thread.
    assert max(waits) < sum(waits) / len(threads)
    engine.dispose()


def test_a_failed_transaction_releases_the_write_lock(tmp_path: Path) -> None:
    engine = connect(file_url(tmp_path / "turns.db"))
    for _ in range(3):
        with pytest.raises(sa.exc.OperationalError), engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO nothing VALUES (1)"))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (x INTEGER)"))
    engine.dispose()
