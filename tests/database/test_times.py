"""The newest and oldest times that a database knows."""

from pathlib import Path

import sqlalchemy as sa

from longtake.database import times
from longtake.database.tables import requests, servers
from tests.worker.requests import submit


def test_the_times_of_a_database(engine: sa.Engine, tmp_path: Path) -> None:
    assert (times.newest(engine), times.oldest(engine)) == (None, None)
    for created_at in (50.0, 70.0):
        row = submit(engine)
        with engine.begin() as connection:
            connection.execute(sa.update(requests).where(requests.c.id == row.id).values(created_at=created_at))
    assert (times.newest(engine), times.oldest(engine)) == (70.0, 50.0)
    with engine.begin() as connection:
        facts = {"host": "h", "pid": 1, "boot": "", "born": 0, "beats": 0, "beat_at": 90.0}
        connection.execute(sa.insert(servers).values(id="s", **facts))
    assert (times.newest(engine), times.oldest(engine)) == (90.0, 50.0)
