"""Prints the figures of DBOS for `bench.queue`, without importing longtake.

python -P bench/queue_dbos.py <seconds between polls> <requests> <seconds of work> <idle seconds>
"""

import importlib
import os
import sqlite3
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any


def main(poll_s: float, number: int, work_s: float, idle_s: float) -> None:
    begun = time.perf_counter()
    sa: Any = importlib.import_module("sqlalchemy")
    dbos: Any = importlib.import_module("dbos")
    imported = time.perf_counter()
    path = Path(tempfile.mkdtemp()) / "queue.db"
    sqlite3.connect(path).execute("PRAGMA journal_mode=WAL")
    config = {"name": "bench", "system_database_url": f"sqlite:///{path}", "executor_id": "one"}
    dbos.DBOS(config=config | {"application_version": "1", "log_level": "WARNING"})
    begins: list[float] = []
    ends: list[float] = []

    @dbos.DBOS.step()  # type: ignore[untyped-decorator]
    def work() -> None:
        begins.append(time.perf_counter())
        time.sleep(work_s)
        ends.append(time.perf_counter())

    @dbos.DBOS.workflow()  # type: ignore[untyped-decorator]
    def request() -> None:
        work()

    dbos.DBOS.launch()
    dbos.DBOS.register_queue("queue", worker_concurrency=1, polling_interval_sec=poll_s)
    ready = time.perf_counter()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1024**2
    print(f"  import {imported - begun:.2f} s, start {ready - imported:.2f} s, {resident:.0f} MB")
    time.sleep(1)
    used = time.process_time()
    time.sleep(idle_s)
    print(f"  idle CPU {(time.process_time() - used) / idle_s:.1%}")
    client = dbos.DBOSClient(system_database_url=f"sqlite:///{path}")
    engine = client._sys_db.engine
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE own (id TEXT PRIMARY KEY, body TEXT)"))
    timings = []
    for _ in range(number):
        started = time.perf_counter()
        with engine.begin() as connection:
            one = str(uuid.uuid4())
            connection.execute(sa.text("INSERT INTO own VALUES (:id, :body)"), {"id": one, "body": "x" * 500})
            order = {"workflow_name": request.__qualname__, "queue_name": "queue", "workflow_id": one}
            client.enqueue_in_transaction(connection, order)
        timings.append(time.perf_counter() - started)
    ordered = sorted(timings)
    middle, late = ordered[number // 2], ordered[int(number * 0.99)]
    print(f"  submit p50 {middle * 1e3:.2f} ms, p99 {late * 1e3:.2f} ms, {number / sum(timings):.0f} per second")
    while len(ends) < number:
        time.sleep(0.2)
    gaps = sorted(begin - end for begin, end in zip(begins[1:], ends[:-1], strict=True))
    print(f"  gap p50 {gaps[len(gaps) // 2] * 1e3:.1f} ms, p95 {gaps[int(len(gaps) * 0.95)] * 1e3:.1f} ms", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), *map(float, sys.argv[3:]))
