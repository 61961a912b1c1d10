"""The figures that a slot reports of finished requests. `service/test_health.py` tests how they are shown."""

from pathlib import Path

import sqlalchemy as sa

from longtake.settings import settings
from longtake.worker.messages import Done
from longtake.worker.slots import Slots
from tests.database.fixtures import on_sqlite
from tests.worker.requests import end_of, submit
from tests.worker.server import QUICK, WORKER, slow_store


@on_sqlite
def test_a_stored_result_is_reported_for_the_metrics(engine: sa.Engine, tmp_path: Path) -> None:
    reported: list[Done] = []
    chosen = settings(**QUICK | {"data_dir": tmp_path})
    slots = Slots(chosen, slow_store(engine, tmp_path), lambda _: None, on_done=reported.append, command=WORKER)
    slots.start()
    end_of(engine, submit(engine))
    slots.stop()
    assert [done.timings for done in reported] == [{"inference_time": 0.1}]
