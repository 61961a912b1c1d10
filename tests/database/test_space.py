"""A SQLite file becomes shorter after rows were deleted."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from longtake.database.connection import connect, file_url
from longtake.database.space import give_back_space, let_shrink

PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


def fill(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE t (x BLOB)")
        database.executemany("INSERT INTO t VALUES (?)", [(b"x" * 2 * PAGE,)] * 300)


def delete_most(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM t WHERE rowid > 10"))


def size(engine: sa.Engine, path: Path) -> int:
    """Returns the size of the file in bytes once all of the log is in it."""
    connection = engine.raw_connection()
    connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    return path.stat().st_size


def test_a_file_shrinks_in_steps(path: Path) -> None:
    engine = connect(file_url(path))
    with engine.connect():
        pass  # the first connection makes the file one that can shrink
    fill(path)
    assert not give_back_space(engine, reserve=0), "nothing was deleted"
    delete_most(engine)
    full = size(engine, path)
    assert give_back_space(engine, pages=100, reserve=0)
    assert size(engine, path) == full - 100 * PAGE
    while give_back_space(engine, reserve=0):
        pass
    assert size(engine, path) < full / 5
    assert not give_back_space(engine), "a reserve stays in the file"
    with engine.connect() as connection:
        assert connection.execute(sa.text("PRAGMA integrity_check")).scalar() == "ok"
        assert connection.execute(sa.text("SELECT count(*) FROM t WHERE length(x) = 8192")).scalar() == 10
    engine.dispose()


def test_an_old_file_is_rewritten_once(path: Path) -> None:
    fill(path)
    engine = connect(file_url(path))
    delete_most(engine)
    assert not give_back_space(engine, reserve=0), "this file cannot shrink"
    let_shrink(engine)
    engine.dispose()
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM t"))
    assert give_back_space(engine, reserve=0)
    engine.dispose()


def test_postgresql_needs_nothing(engine: sa.Engine) -> None:
    if engine.dialect.name == "postgresql":
        let_shrink(engine)
        assert not give_back_space(engine, reserve=0)
