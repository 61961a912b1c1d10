"""Makes a SQLite file shorter after rows were deleted, so that other files can use the disk space.

PostgreSQL needs no such help: its autovacuum makes the space of deleted rows available for new ones.
"""

import logging
import sqlite3

import sqlalchemy as sa

from longtake.database.connection import SqliteConnection, reading

log = logging.getLogger(__name__)

PAGES = 64
"""Number of pages that are freed at once. A page has 4 KiB."""
RESERVE = 1024
"""Number of unused pages that stay in the file for new rows, in addition to a tenth of its pages."""


def give_back_space(engine: sa.Engine, *, pages: int = PAGES, reserve: int = RESERVE) -> bool:
    """Makes a SQLite file shorter, if it has more unused pages than `reserve` allows. Returns True if it did.

    `pages`: the maximum number of pages by which the file becomes shorter.
    `reserve`: the number of unused pages that stay in the file, in addition to a tenth of all its pages.

    Does nothing, and returns False, on PostgreSQL and for a SQLite file that cannot shrink (see `let_shrink`).
    """
    if engine.dialect.name != "sqlite":
        return False
    with reading(engine) as connection:
        unused, total, mode = (_pragma(connection, name) for name in ("freelist_count", "page_count", "auto_vacuum"))
    surplus = unused - reserve - total // 10
    if surplus <= 0 or mode != 2:  # 2 means incremental
        return False
    pooled = engine.raw_connection()
    try:
        _sqlite(pooled).free_pages(min(pages, surplus))
    finally:
        pooled.close()
    return True


def let_shrink(engine: sa.Engine) -> None:
    """Rewrites a SQLite file, if necessary, so that it can be made shorter after rows are deleted.

    Only files that earlier versions of longtake created need this. Does nothing for other files and on PostgreSQL.

    The file keeps its content. It needs free disk space of twice its size meanwhile. A failure is only logged: then
    the file does not shrink, but its unused pages are still used for new rows.
    """
    if engine.dialect.name != "sqlite":
        return
    with reading(engine) as connection:
        if _pragma(connection, "auto_vacuum") != 0:
            return
    pooled = engine.raw_connection()
    try:
        _sqlite(pooled).execute("PRAGMA auto_vacuum=INCREMENTAL")
        _sqlite(pooled).execute("VACUUM")
    except sqlite3.Error as error:
        log.warning("The database file will not shrink when rows are deleted: %s.", error)
    finally:
        pooled.close()


def _pragma(connection: sa.Connection, name: str) -> int:
    return int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())


def _sqlite(pooled: sa.PoolProxiedConnection) -> SqliteConnection:
    connection = pooled.dbapi_connection
    assert isinstance(connection, SqliteConnection)
    return connection
