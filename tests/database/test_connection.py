import errno
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake.database.connection import RetriesStopped, connect, file_url, is_temporary, reading, retry_until_stopped
from longtake.errors import DiskFull, InvalidRequest


def test_sqlite_is_durable_and_lets_readers_read(tmp_path: Path) -> None:
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
        with reading(engine) as reader:  # waits for no writer, and sees nothing half done
            assert reader.execute(sa.text("SELECT count(*) FROM t")).scalar() == 0
    with reading(engine) as reader:
        assert reader.execute(sa.text("SELECT count(*) FROM t")).scalar() == 1


def test_other_databases_are_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="of the kind mysql"):
        connect("mysql://somewhere/longtake")


def test_postgresql_is_reached_through_psycopg_3() -> None:
    assert connect("postgresql://somewhere/longtake").dialect.driver == "psycopg"


def test_what_passes_by_itself() -> None:
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


def test_insisting_tries_again_until_it_is_done() -> None:
    tries: list[int] = []

    def do() -> str:
        tries.append(1)
        if len(tries) < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return "done"

    assert retry_until_stopped(do, threading.Event()) == "done"
    assert len(tries) == 4


def test_insisting_ends_with_what_does_not_pass_and_with_the_server() -> None:
    def fail(error: Exception) -> None:
        raise error

    with pytest.raises(ValueError, match="wrong"):
        retry_until_stopped(lambda: fail(ValueError("wrong")), threading.Event())
    ending = threading.Event()
    threading.Timer(0.1, ending.set).start()
    with pytest.raises(RetriesStopped):
        retry_until_stopped(lambda: fail(OSError(errno.ENOSPC, "full")), ending)


def test_writers_take_turns(tmp_path: Path) -> None:
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
    # Left to SQLite, the unluckiest waits longer for one turn than a thread takes on average for all its twenty.
    assert max(waits) < sum(waits) / len(threads)
    engine.dispose()


def test_a_transaction_that_fails_ends_its_turn(tmp_path: Path) -> None:
    engine = connect(file_url(tmp_path / "turns.db"))
    for _ in range(3):
        with pytest.raises(sa.exc.OperationalError), engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO nothing VALUES (1)"))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (x INTEGER)"))
    engine.dispose()
