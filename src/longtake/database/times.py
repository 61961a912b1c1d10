"""The newest and the oldest time stored in a database, and the clock of its machine.

The newest one shows whether the system's clock may be wrong. The oldest one shows whether a stored file is older than
the database, so that it may belong to another database.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from longtake import clock
from longtake.database.connection import reading
from longtake.database.tables import files, requests, servers


def newest(engine: sa.Engine) -> float | None:
    """Returns the newest Unix time in the database: of a server's heartbeat, or of the storage of a request or a file.

    Returns None if the database has none of these.
    """
    columns = (servers.c.beat_at, requests.c.created_at, files.c.created_at)
    return max(_known(engine, [sa.func.max(column) for column in columns]), default=None)


def oldest(engine: sa.Engine) -> float | None:
    """Returns the Unix time at which the oldest request or file in the database was stored; None if it has neither."""
    columns = (requests.c.created_at, files.c.created_at)
    return min(_known(engine, [sa.func.min(column) for column in columns]), default=None)


def ahead_s(engine: sa.Engine) -> float:
    """Returns by how many seconds this machine's clock is ahead of that of PostgreSQL's machine; 0 for SQLite."""
    if engine.dialect.name != "postgresql":
        return 0.0
    with reading(engine) as connection:
        before = clock.now()
        theirs = float(connection.execute(sa.select(sa.extract("epoch", sa.func.clock_timestamp()))).scalar_one())
        return (before + clock.now()) / 2 - theirs


def _known(engine: sa.Engine, times: Sequence[sa.ColumnElement[float]]) -> list[float]:
    with reading(engine) as connection:
        found = [connection.scalar(sa.select(time)) for time in times]
    return [time for time in found if time is not None]
