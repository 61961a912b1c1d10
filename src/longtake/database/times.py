"""The newest and the oldest time that a database knows: clocks and files are judged by them."""

from collections.abc import Sequence

import sqlalchemy as sa

from longtake.database.connection import reading
from longtake.database.tables import files, requests, servers


def newest(engine: sa.Engine) -> float | None:
    """Returns the newest Unix time at which a server lived, or a request or file was stored; None if there is none."""
    columns = (servers.c.beat_at, requests.c.created_at, files.c.created_at)
    return max(_known(engine, [sa.func.max(column) for column in columns]), default=None)


def oldest(engine: sa.Engine) -> float | None:
    """Returns the oldest Unix time at which a request or file was stored that is still there; None if there is none."""
    columns = (requests.c.created_at, files.c.created_at)
    return min(_known(engine, [sa.func.min(column) for column in columns]), default=None)


def _known(engine: sa.Engine, times: Sequence[sa.ColumnElement[float]]) -> list[float]:
    with reading(engine) as connection:
        found = [connection.scalar(sa.select(time)) for time in times]
    return [time for time in found if time is not None]
