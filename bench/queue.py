"""Measures this queue and DBOS: import, idle memory and CPU, submissions, and gaps between requests.

    python -m bench.queue [another Python with dbos installed, if this one lacks it]

Requests are submitted while a worker is busy. A gap is the time between two requests on that worker. Aims: a submission
takes 5 ms at most, 250 per second; gaps are below 50 ms.

Both use SQLite with a write-ahead log that syncs each commit. A request is 30 ms of sleep: in DBOS a step in the same
process, here in a worker process, with a plan, progress and a stored file like real requests.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

DBOS_PROGRAM = Path(__file__).with_name("queue_dbos.py")
REQUESTS = 300
WORK_S = 0.03
IDLE_S = 4.0
LONGEST_S = 60.0
"""The longest time that all requests may take. It is several times what they need."""

WORKER = """
import json, pathlib, sys, time
request_id = finished_at = None
def send(type, **fields): print(json.dumps({"type": type, "request_id": request_id, **fields}), flush=True)
send("ready")
for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "run":
        if finished_at: print(time.perf_counter() - finished_at, file=open(sys.argv[1], "a"))
        request_id, folder = message["request_id"], pathlib.Path(message["folder"])
        send("planned", plan={"seed": 1})
    elif message["type"] == "proceed":
        send("progress", sentence="Sampling", stage="sampling", step=0, steps=1, window=1, windows=1)
        time.sleep(float(sys.argv[2]))
        (folder / "result.mp4").write_bytes(b"video")
        finished_at = time.perf_counter()
        send("done", path=str(folder / "result.mp4"), content_type="video/mp4",
             response={"video": {"file_name": "result.mp4"}}, billable_units="1", price_usd="0.02",
             returns_data_uri=False, model="sleep")
"""
"""The program of a worker process. For each request it sleeps for the seconds in its second argument, and appends the
seconds since the previous request to the file in its first argument."""


def main(python: str = sys.executable) -> None:
    here = subprocess.run([sys.executable, "-m", "bench.queue", "here"], check=True, capture_output=True, text=True)
    print(f"longtake's queue\n{here.stdout.rstrip()}")
    has_dbos = subprocess.run([python, "-c", "import dbos"], capture_output=True)
    if has_dbos.returncode:
        print(
            "DBOS is not there: pip install 'dbos~=3.4' in an environment of its own, and name its Python to this bench"
        )
        return
    for poll_s in ("0.01", "0.25"):
        print(f"DBOS, which looks for work every {poll_s} s", flush=True)
        subprocess.run([python, "-P", str(DBOS_PROGRAM), poll_s, str(REQUESTS), str(WORK_S), str(IDLE_S)], check=True)


def here(count: int = REQUESTS, idle_s: float = IDLE_S) -> None:
    """Prints the figures of this queue. It runs in a process of its own.

    count: the number of requests.
    idle_s: the seconds for which it is idle before them.
    Raises TimeoutError if the requests take longer than `LONGEST_S`.
    """
    begun = time.perf_counter()
    from longtake.database.migrate import open_database
    from longtake.queue import engine as queue
    from longtake.queue import requests
    from longtake.settings import settings
    from longtake.storage.files import open_store
    from longtake.worker.leases import LeaseWatch
    from longtake.worker.slots import Slots

    imported = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        configured = settings(data_dir=Path(folder), slots=("cpu",))
        gaps = configured.data_dir / "gaps"
        engine = open_database(configured)
        store = open_store(engine, configured)
        command = (sys.executable, "-S", "-E", "-c", WORKER, str(gaps), str(WORK_S))
        slots = Slots(configured, store, lambda _: None, command=command)
        watch = LeaseWatch(engine, configured, lambda _: None, slots.wake)
        slots.start()
        watch.start()
        ready = time.perf_counter()
        print(f"  import {imported - begun:.2f} s, start {ready - imported:.2f} s, {resident_mb():.0f} MB")
        time.sleep(1)
        used = time.process_time()
        time.sleep(idle_s)
        print(f"  idle CPU {(time.process_time() - used) / idle_s:.1%}")
        timings = []
        for _ in range(count):
            one = requests.Submission(
                "fal-ai/x", "default", "local", b'{"prompt":"%s"}' % (b"x" * 500), "http://h/queue"
            )
            started = time.perf_counter()
            queue.submit(engine, one)
            slots.wake("default")
            timings.append(time.perf_counter() - started)
        print(f"  {submits(timings)}")
        deadline = time.monotonic() + LONGEST_S
        while left := queue.waiting(engine, "default"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(left)} of {count} requests are not finished after {LONGEST_S:.0f} s")
            time.sleep(0.2)
        slots.drain(10)
        watch.stop()
        print(f"  {gap([float(line) for line in gaps.read_text().split()])}")
        engine.dispose()


def resident_mb() -> float:
    """Returns this process's resident memory in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1024**2


def submits(timings: list[float]) -> str:
    timings = sorted(timings)
    middle, late = timings[len(timings) // 2], timings[int(len(timings) * 0.99)]
    return f"submit p50 {middle * 1e3:.2f} ms, p99 {late * 1e3:.2f} ms, {len(timings) / sum(timings):.0f} per second"


def gap(gaps: list[float]) -> str:
    gaps = sorted(gaps)
    return f"gap p50 {gaps[len(gaps) // 2] * 1e3:.1f} ms, p95 {gaps[int(len(gaps) * 0.95)] * 1e3:.1f} ms"


if __name__ == "__main__":
    if sys.argv[1:] == ["here"]:
        here()
    else:
        main(*sys.argv[1:])
