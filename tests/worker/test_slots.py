"""The slots with a real worker process, that does what its request says; on both databases."""

import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from longtake.queue import engine as queue
from longtake.queue.requests import RequestRow
from longtake.settings import settings
from longtake.worker.slots import Slots
from tests.database.fixtures import on_sqlite
from tests.worker.help import asked, current, end_of, eventually, lines_of, submit
from tests.worker.server import CHILD, QUICK, Server, Shelf

Serve = Callable[..., Server]


@pytest.fixture
def serve(engine: sa.Engine, tmp_path: Path) -> Iterator[Serve]:
    """Starts servers in this process."""
    started: list[Server] = []

    def start(command: tuple[str, ...] = CHILD, **overrides: Any) -> Server:
        started.append(Server(engine, settings(**QUICK | {"data_dir": tmp_path} | overrides), command).start())
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def effects(tmp_path: Path) -> Path:
    return tmp_path / "effects"


def pids(effects: Path) -> list[int]:
    return [int(pid) for _, _, pid in lines_of(effects, "began")]


def output_of(row: RequestRow) -> Any:
    assert row.output is not None
    return json.loads(row.output)


def test_a_request_is_carried_out(engine: sa.Engine, serve: Serve, tmp_path: Path, effects: Path) -> None:
    server = serve()
    row = submit(engine, windows=2, effects=str(effects))
    server.slots.wake("default")
    ended = end_of(engine, row)
    assert (ended.status_code, ended.price_usd, ended.timings) == (200, "0.02", {"inference_time": 0.1})
    assert ended.headers == {"x-fal-billable-units": "1", "x-longtake-price-usd": "0.02"}
    assert ended.plan is not None
    assert output_of(ended) == {
        "video": {"file_name": "result.mp4", "url": f"http://127.0.0.1:8000/cdn/files/{row.id}-result.mp4"},
        "seed": ended.plan["seed"],
    }
    assert (tmp_path / "files" / f"{row.id}-result.mp4").read_text() == f"{ended.plan['seed']} {ended.plan['seed']}"
    told = queue.log_lines(engine, row.id)
    assert [line.message for line in told] == ["Sampling new frames"] * 2
    assert [line.labels["window"] for line in told] == ["1", "2"]
    eventually(lambda: not (tmp_path / "work" / row.id).exists())
    assert row.id in server.changes


@pytest.mark.parametrize("how", ["sync", "not stored"])
@on_sqlite
def test_a_result_that_is_not_to_be_kept_is_a_data_uri(
    engine: sa.Engine, serve: Serve, tmp_path: Path, how: str
) -> None:
    serve()
    row, _ = queue.submit(engine, replace(asked(sync=how == "sync"), store_io=how == "sync"))
    assert output_of(end_of(engine, row))["video"]["url"].startswith("data:video/mp4;base64,")
    assert not (tmp_path / "files").exists()


@on_sqlite
def test_an_error_is_the_outcome(engine: sa.Engine, serve: Serve) -> None:
    serve()
    ended = end_of(engine, submit(engine, at="start", do="fail"))
    assert (ended.status_code, ended.error_type) == (422, "file_download_error")
    assert ended.headers == {"x-fal-billable-units": "0", "x-fal-error-type": "file_download_error"}


def test_each_pool_has_its_slot_and_its_order(engine: sa.Engine, serve: Serve, effects: Path) -> None:
    rows = [submit(engine, pool, effects=str(effects)) for pool in ("default", "ltx", "default", "ltx")]
    low, _ = queue.submit(engine, replace(asked(effects=str(effects)), priority="low"))
    rows += [low, submit(engine, effects=str(effects))]
    server = serve(slots=("cpu@ltx", "cpu"))
    for row in rows:
        end_of(engine, row)
    began = [name for _, name, _ in lines_of(effects, "began")]
    default, ltx = ([row.id for row in rows if row.pool == pool] for pool in ("default", "ltx"))
    assert [name for name in began if name in ltx] == ltx
    assert [name for name in began if name in default] == [default[0], default[1], default[3], default[2]]
    assert len(set(pids(effects))) == 2
    assert [pool for _, pool, *_ in server.slots.states()] == ["ltx", "default"]


@pytest.mark.parametrize("at", ["start", "planned", 1, "end"])
def test_a_request_survives_its_worker_at_every_state(
    engine: sa.Engine, serve: Serve, effects: Path, at: str | int
) -> None:
    serve()
    row = submit(engine, windows=3, at=at, do="crash", once=True, effects=str(effects))
    ended = end_of(engine, row)
    assert (ended.status_code, ended.attempt) == (200, 2)
    assert [window for *_, window in lines_of(effects, "window")] == ["0", "1", "2"]  # none made twice
    assert len(lines_of(effects, "made")) == 1
    assert output_of(ended)["seed"] == (ended.plan or {})["seed"]
    assert len(set(pids(effects))) == 2


def test_a_worker_that_is_killed_while_nothing_runs_costs_nothing(
    engine: sa.Engine, serve: Serve, effects: Path
) -> None:
    server = serve()
    end_of(engine, submit(engine, effects=str(effects)))
    os.kill(pids(effects)[0], signal.SIGKILL)
    ended = end_of(engine, submit(engine, effects=str(effects)))
    assert (ended.status_code, len(set(pids(effects)))) == (200, 2)
    assert server.slots.states()[0][2] in ("idle", "busy")


def test_a_request_that_crashes_its_worker_each_time_ends(engine: sa.Engine, serve: Serve, effects: Path) -> None:
    serve(max_attempts=3)
    row = submit(engine, at="planned", do="crash", effects=str(effects))
    other = submit(engine)
    ended = end_of(engine, row)
    assert (ended.status_code, ended.error_type, ended.attempt) == (500, "runner_server_error", 3)
    assert len(pids(effects)) == 3
    assert end_of(engine, other).status_code == 200


@on_sqlite
def test_a_client_may_ask_for_one_attempt(engine: sa.Engine, serve: Serve) -> None:
    serve()
    row, _ = queue.submit(engine, replace(asked(at="start", do="crash"), may_retry=False))
    assert (end_of(engine, row).status_code, current(engine, row).attempt) == (500, 1)


@on_sqlite
def test_a_worker_that_stalls_is_killed(engine: sa.Engine, serve: Serve, effects: Path) -> None:
    serve(stall_s=0.5)
    started = time.monotonic()
    ended = end_of(engine, submit(engine, windows=2, at=1, do="hang", once=True, effects=str(effects)))
    assert (ended.status_code, ended.attempt) == (200, 2)
    assert 0.5 <= time.monotonic() - started < 3


@on_sqlite
def test_a_worker_that_does_not_start_is_tried_again(engine: sa.Engine, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    server = serve((*CHILD, str(tmp_path)))
    row = submit(engine)
    eventually(lambda: server.slots.states()[0][2] == "failing")
    assert current(engine, row).state == "IN_QUEUE"
    (tmp_path / "broken").unlink()
    assert (end_of(engine, row).status_code, current(engine, row).attempt) == (200, 1)


@on_sqlite
def test_a_command_that_is_not_there_does_not_end_the_server(engine: sa.Engine, serve: Serve) -> None:
    server = serve(("/nowhere/python",))
    eventually(lambda: server.slots.states()[0][2] == "failing")


@pytest.mark.parametrize(
    ("at", "told"),
    [("start", True), ("planned", True), (1, True), (1, False)],
    ids=["start", "planned", "in the middle", "in the middle, by another server"],
)
def test_a_running_request_is_cancelled(
    engine: sa.Engine, serve: Serve, effects: Path, at: str | int, told: bool
) -> None:
    """The worker process hangs there, so it is killed after a while; the client need not wait for that."""
    server = serve()
    row = submit(engine, windows=2, at=at, do="hang", effects=str(effects))
    eventually(lambda: pids(effects) and len(lines_of(effects, "window")) == (at if isinstance(at, int) else 0))
    assert queue.cancel(engine, row.id) == "requested"
    if told:
        server.slots.cancel(row.id)
    ended = end_of(engine, row, within_s=1.0)
    assert (ended.state, ended.status_code, ended.error_type) == ("CANCELLED", 499, "client_cancelled")
    assert end_of(engine, submit(engine)).status_code == 200  # the slot goes on


def test_a_worker_that_heeds_a_cancel_lives_on(engine: sa.Engine, serve: Serve, tmp_path: Path, effects: Path) -> None:
    server = serve()
    row = submit(engine, windows=100, window_s=0.05, effects=str(effects))
    eventually(lambda: lines_of(effects, "window"))
    queue.cancel(engine, row.id)
    server.slots.cancel(row.id)
    assert end_of(engine, row).state == "CANCELLED"
    assert end_of(engine, submit(engine, effects=str(effects))).status_code == 200
    assert len(set(pids(effects))) == 1
    assert not (tmp_path / "work" / row.id).exists()


@on_sqlite
def test_a_worker_that_does_not_heed_a_cancel_is_killed(engine: sa.Engine, serve: Serve, effects: Path) -> None:
    server = serve()
    row = submit(engine, windows=100, window_s=0.05, do="ignore", effects=str(effects))
    eventually(lambda: lines_of(effects, "window"))
    queue.cancel(engine, row.id)
    server.slots.cancel(row.id)
    assert end_of(engine, row).state == "CANCELLED"
    assert end_of(engine, submit(engine, effects=str(effects))).status_code == 200
    assert len(set(pids(effects))) == 2


def test_a_waiting_request_that_is_cancelled_is_never_begun(engine: sa.Engine, serve: Serve, effects: Path) -> None:
    row = submit(engine, effects=str(effects))
    assert queue.cancel(engine, row.id) == "cancelled"
    server = serve()
    end_of(engine, submit(engine))
    server.slots.cancel(row.id)
    assert not effects.exists()


@on_sqlite
def test_a_cancel_of_another_request_changes_nothing(engine: sa.Engine, serve: Serve, effects: Path) -> None:
    server = serve()
    row = submit(engine, windows=3, window_s=0.1, effects=str(effects))
    eventually(lambda: pids(effects))
    server.slots.cancel("another")
    assert end_of(engine, row).status_code == 200


def test_draining_finishes_what_runs_and_leaves_what_waits(engine: sa.Engine, serve: Serve, effects: Path) -> None:
    server = serve()
    runs, waits = (submit(engine, windows=3, window_s=0.1, effects=str(effects)) for _ in range(2))
    eventually(lambda: pids(effects))
    server.slots.drain(5)
    assert (current(engine, runs).status_code, current(engine, waits).state) == (200, "IN_QUEUE")
    assert [state for *_, state, _ in server.slots.states()] == ["stopped"]


def test_what_is_not_finished_in_time_goes_back_and_is_taken_up_again(
    engine: sa.Engine, serve: Serve, effects: Path
) -> None:
    server = serve()
    row = submit(engine, windows=3, at=1, do="hang", once=True, effects=str(effects))
    eventually(lambda: lines_of(effects, "window"))
    server.slots.drain(0.2)
    back = current(engine, row)
    assert (back.state, back.attempt, back.worker) == ("IN_QUEUE", 0, None)
    serve()
    ended = end_of(engine, row)
    assert (ended.status_code, ended.attempt) == (200, 1)
    assert [window for *_, window in lines_of(effects, "window")] == ["0", "1", "2"]


@on_sqlite
def test_progress_is_told_at_once_and_then_in_batches(engine: sa.Engine, serve: Serve) -> None:
    serve()
    row = submit(engine, windows=60, window_s=0.005)
    first = eventually(lambda: queue.log_lines(engine, row.id))[0]
    assert time.time() - first.at < 0.1
    ended = end_of(engine, row)
    assert len(queue.log_lines(engine, row.id)) == 60
    assert ended.started_at is not None
    assert ended.completed_at is not None
    assert ended.version < (ended.completed_at - ended.started_at) / 0.05 + 6


def test_little_time_passes_between_two_requests(engine: sa.Engine, serve: Serve) -> None:
    rows = [submit(engine) for _ in range(15)]
    serve()
    ended = [end_of(engine, row) for row in rows]
    gaps = [(b.started_at or 0) - (a.completed_at or 0) for a, b in pairwise(ended)]
    assert statistics.median(gaps) < 0.05


@on_sqlite
def test_a_submit_is_taken_up_at_once(engine: sa.Engine, serve: Serve) -> None:
    server = serve()
    end_of(engine, submit(engine))
    waits = []
    for _ in range(5):
        time.sleep(0.05)
        row = submit(engine)
        server.slots.wake("default")
        waits.append((end_of(engine, row).started_at or 0) - row.created_at)
    assert statistics.median(waits) < 0.05


@on_sqlite
def test_what_is_said_of_a_result_is_told_to_who_counts(engine: sa.Engine, tmp_path: Path) -> None:
    heard: list[Any] = []
    made = settings(**QUICK | {"data_dir": tmp_path})
    slots = Slots(engine, made, Shelf(tmp_path), lambda _: None, on_done=heard.append, command=CHILD)
    slots.start()
    end_of(engine, submit(engine))
    slots.stop()
    assert heard[0]["timings"] == {"inference_time": 0.1}


@on_sqlite
def test_a_worker_process_knows_its_device(engine: sa.Engine, serve: Serve, tmp_path: Path) -> None:
    code = f"import os; open({str(tmp_path / 'device')!r}, 'w').write(os.environ['LONGTAKE_DEVICE'])"
    serve((sys.executable, "-c", code), slots=("cuda:3@ltx",))
    eventually(lambda: (tmp_path / "device").exists() and (tmp_path / "device").read_text() == "cuda:3")


def test_work_folders_of_what_has_ended_are_swept(engine: sa.Engine, serve: Serve, tmp_path: Path) -> None:
    waits = submit(engine, "nobody's")
    for name in ("unknown", waits.id):
        (tmp_path / "work" / name).mkdir(parents=True)
    serve()
    eventually(lambda: not (tmp_path / "work" / "unknown").exists())
    assert (tmp_path / "work" / waits.id).exists()
