"""The slots with a scripted worker process, on both kinds of database."""

import base64
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from longtake.queue import engine as queue
from longtake.queue import payloads
from longtake.queue.requests import RequestRow
from longtake.settings import settings
from longtake.storage.local import LocalBlobs
from longtake.worker import attempt, slot, supervisor
from tests.database.fixtures import on_sqlite
from tests.worker.requests import (
    PATIENCE_S,
    current,
    effects_of,
    end_of,
    eventually,
    pids,
    stored_files,
    submission,
    submit,
    windows,
)
from tests.worker.server import WORKER, Server

Serve = Callable[..., Server]


def output_of(row: RequestRow) -> Any:
    assert row.output is not None
    return json.loads(row.output)


def state(server: Server) -> str:
    return server.slots.states()[0].state


def test_a_request_is_carried_out(engine: sa.Engine, serve: Serve, tmp_path: Path, effects: Path) -> None:
    server = serve()
    row = submit(engine, windows=2, effects=str(effects))
    server.slots.wake("default")
    ended = end_of(engine, row)
    assert (ended.status_code, ended.price_usd, ended.timings) == (200, "0.02", {"inference_time": 0.1})
    assert ended.headers == {
        "x-fal-billable-units": "1",
        "x-longtake-model": "ltxv-tiny",
        "x-longtake-stand-in": "ltxv-tiny stands in.",
    }
    assert ended.plan is not None
    (file,) = stored_files(engine, row)
    assert output_of(ended) == {
        "video": {"file_name": "result.mp4", "url": f"http://127.0.0.1:8000/cdn/files/{file.key}"},
        "seed": ended.plan["seed"],
    }
    assert (tmp_path / "files" / file.blob).read_text() == f"{ended.plan['seed']} {ended.plan['seed']}"
    lines = queue.log_lines(engine, row.id)
    assert [line.message for line in lines] == ["Sampling new frames"], "one line for a stage, and not for each step"
    eventually(lambda: not (tmp_path / "work" / row.id).exists())
    assert row.id in server.changes


@on_sqlite
def test_without_stored_payloads_the_result_keeps_its_file(engine: sa.Engine, serve: Serve) -> None:
    serve()
    row, _ = queue.submit(engine, replace(submission(), store_io=False))
    url = output_of(end_of(engine, row))["video"]["url"]
    (file,) = stored_files(engine, row)
    assert url == f"http://127.0.0.1:8000/cdn/files/{file.key}"


@on_sqlite
def test_a_result_in_sync_mode_is_a_data_uri(engine: sa.Engine, serve: Serve, tmp_path: Path) -> None:
    serve()
    row, _ = queue.submit(engine, submission(sync=True))
    ended = end_of(engine, row)
    result = json.loads(payloads.result(engine, LocalBlobs(tmp_path / "files"), row.id) or b"")
    head, _, content = result["video"]["url"].partition(",")
    assert ended.plan is not None
    assert (head, base64.b64decode(content).decode()) == ("data:video/mp4;base64", str(ended.plan["seed"]))
    assert result["seed"] == ended.plan["seed"]
    assert ended.headers is not None
    assert ended.headers["x-longtake-model"] == "ltxv-tiny"
    assert not stored_files(engine, row)


@on_sqlite
def test_a_video_that_is_too_large_for_a_data_uri_is_a_file(
    engine: sa.Engine, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "MAX_VIDEO_INSIDE", 3)
    serve()
    row, _ = queue.submit(engine, submission(sync=True))
    url = output_of(end_of(engine, row))["video"]["url"]
    (file,) = stored_files(engine, row)
    assert url == f"http://127.0.0.1:8000/cdn/files/{file.key}"
    notes = [line.message for line in queue.log_lines(engine, row.id)]
    assert any("too much for a data URI inside the response (at most 3)" in note for note in notes)


@on_sqlite
def test_a_large_result_is_a_blob(engine: sa.Engine, serve: Serve, tmp_path: Path) -> None:
    serve()
    row = end_of(engine, submit(engine, more={"prompt": "x" * 100_000}, sync=True))
    assert (row.output, row.status_code) == (None, 200)
    result = payloads.result(engine, LocalBlobs(tmp_path / "files"), row.id)
    assert json.loads(result or b"")["prompt"] == "x" * 100_000


@on_sqlite
def test_an_error_is_the_outcome(engine: sa.Engine, serve: Serve) -> None:
    serve()
    ended = end_of(engine, submit(engine, at="start", do="fail"))
    assert (ended.status_code, ended.error_type) == (422, "file_download_error")
    assert ended.headers == {"x-fal-retryable": "false", "x-fal-needs-retry": "false"}


@pytest.mark.parametrize(
    ("body", "overrides"),
    [
        ({"at": "start", "do": "fail"}, {}),
        ({"at": 0, "do": "crash"}, {"max_attempts": 1}),
        ({"at": 0, "do": "hang"}, {"max_attempts": 1, "stall_s": 1.0}),
        ({"more": {"ratio": float("nan")}}, {}),
        ({"more": {"video": "no object"}}, {}),
    ],
    ids=["an error", "a crash", "a stall", "an outcome that is no JSON", "an answer without a video"],
)
@on_sqlite
def test_the_slot_goes_on_after(
    engine: sa.Engine, serve: Serve, body: dict[str, Any], overrides: dict[str, Any]
) -> None:
    server = serve(**overrides)
    failing, after = submit(engine, **body), submit(engine)
    assert (end_of(engine, failing).status_code or 0) >= 400
    assert end_of(engine, after).status_code == 200
    eventually(lambda: state(server) == "idle")


@on_sqlite
def test_the_slot_goes_on_after_an_error_of_its_own(
    engine: sa.Engine, serve: Serve, monkeypatch: pytest.MonkeyPatch, effects: Path
) -> None:
    def fail(*args: object) -> None:
        monkeypatch.undo()
        raise RuntimeError("a bug")

    monkeypatch.setattr(queue, "store_plan", fail)
    serve()
    failing, after = submit(engine, effects=str(effects)), submit(engine, effects=str(effects))
    ended = end_of(engine, failing)
    assert (ended.status_code, ended.error_type) == (500, "internal_error")
    assert end_of(engine, after).status_code == 200
    assert len(set(pids(effects))) == 2, "the worker process was in the middle of a request, so it is replaced"


def test_each_pool_has_its_slot_and_its_order(engine: sa.Engine, serve: Serve, effects: Path) -> None:
    rows = [submit(engine, pool, effects=str(effects)) for pool in ("default", "ltx", "default", "ltx")]
    low, _ = queue.submit(engine, replace(submission(effects=str(effects)), priority="low"))
    rows += [low, submit(engine, effects=str(effects))]
    server = serve(slots=("cpu@ltx", "cpu"))
    for row in rows:
        end_of(engine, row)
    began = [name for _, name, _ in effects_of(effects, "began")]
    default, ltx = ([row.id for row in rows if row.pool == pool] for pool in ("default", "ltx"))
    assert [name for name in began if name in ltx] == ltx
    assert [name for name in began if name in default] == [default[0], default[1], default[3], default[2]]
    assert len(set(pids(effects))) == 2
    assert [slot.pool for slot in server.slots.states()] == ["ltx", "default"]


@pytest.mark.parametrize("at", ["start", "planned", 1, "end"])
@on_sqlite
def test_a_killed_worker_is_replaced_and_the_next_one_resumes(
    engine: sa.Engine, serve: Serve, effects: Path, at: str | int
) -> None:
    serve()
    row = submit(engine, windows=3, at=at, do="crash", once=True, effects=str(effects))
    ended = end_of(engine, row)
    assert (ended.status_code, ended.attempt) == (200, 2)
    assert windows(effects, row) == ["0", "1", "2"], "each window is made once"
    assert len(effects_of(effects, "made")) == 1
    assert output_of(ended)["seed"] == (ended.plan or {})["seed"]
    assert len(set(pids(effects))) == 2


@on_sqlite
def test_an_idle_worker_that_is_killed_is_replaced(engine: sa.Engine, serve: Serve, effects: Path) -> None:
    server = serve()
    end_of(engine, submit(engine, effects=str(effects)))
    os.kill(pids(effects)[0], signal.SIGKILL)
    ended = end_of(engine, submit(engine, effects=str(effects)))
    assert (ended.status_code, len(set(pids(effects)))) == (200, 2)
    assert state(server) in ("idle", "busy")


@on_sqlite
def test_a_request_that_crashes_its_worker_each_time_ends(engine: sa.Engine, serve: Serve, effects: Path) -> None:
    serve(max_attempts=3)
    row = submit(engine, at="planned", do="crash", effects=str(effects))
    other = submit(engine)
    ended = end_of(engine, row)
    assert (ended.status_code, ended.error_type, ended.attempt) == (500, "runner_server_error", 3)
    assert len(pids(effects)) == 3
    assert end_of(engine, other).status_code == 200


@on_sqlite
def test_a_client_can_ask_for_a_single_attempt(engine: sa.Engine, serve: Serve) -> None:
    serve()
    row, _ = queue.submit(engine, replace(submission(at="start", do="crash"), may_retry=False))
    assert (end_of(engine, row).status_code, current(engine, row).attempt) == (500, 1)


@on_sqlite
def test_a_worker_that_stalls_is_killed_and_the_request_tried_again(
    engine: sa.Engine, serve: Serve, effects: Path
) -> None:
    serve(stall_s=1.0)
    row = submit(engine, windows=2, at=1, do="hang", once=True, effects=str(effects))
    ended = end_of(engine, row)
    assert (ended.status_code, ended.attempt, windows(effects, row)) == (200, 2, ["0", "1"])


@on_sqlite
def test_a_worker_that_does_not_start_is_started_again(engine: sa.Engine, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    server = serve((*WORKER, str(tmp_path)))
    row = submit(engine)
    eventually(lambda: state(server) == "failing")
    assert current(engine, row).state == "IN_QUEUE"
    (tmp_path / "broken").unlink()
    assert (end_of(engine, row).status_code, current(engine, row).attempt) == (200, 1)


@on_sqlite
def test_a_missing_command_is_tried_again(engine: sa.Engine, serve: Serve, tmp_path: Path) -> None:
    command = tmp_path / "python"
    server = serve((str(command), *WORKER[1:]))
    row = submit(engine)
    eventually(lambda: state(server) == "failing")
    command.symlink_to(sys.executable)
    assert end_of(engine, row).status_code == 200


def test_draining_finishes_running_requests_and_leaves_waiting_ones(
    engine: sa.Engine, serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "slow").touch()  # holds the first request until the drain has begun
    server = serve()
    running, waiting = submit(engine), submit(engine)
    eventually(lambda: stored_files(engine, running))
    threading.Timer(0.5, (tmp_path / "slow").unlink).start()
    server.slots.drain(PATIENCE_S)
    assert (current(engine, running).status_code, current(engine, waiting).state) == (200, "IN_QUEUE")
    assert state(server) == "stopped"


def test_a_request_that_is_not_finished_in_time_is_resumed_later(
    engine: sa.Engine, serve: Serve, effects: Path
) -> None:
    server = serve()
    row = submit(engine, windows=3, at=1, do="hang", once=True, effects=str(effects))
    eventually(lambda: effects_of(effects, "window"))
    server.slots.drain(0.2)
    returned = current(engine, row)
    assert (returned.state, returned.attempt, returned.server) == ("IN_QUEUE", 0, None)
    serve()
    ended = end_of(engine, row)
    assert (ended.status_code, ended.attempt) == (200, 1)
    assert windows(effects, row) == ["0", "1", "2"]


@on_sqlite
def test_progress_is_stored_while_the_request_runs(engine: sa.Engine, serve: Serve) -> None:
    serve()
    row = submit(engine, windows=2, at=1, do="hang")
    (line,) = eventually(lambda: queue.log_lines(engine, row.id))
    assert line.labels == {"stage": "sampling", "window": "1", "windows": "1"}
    progress = current(engine, row).progress
    numbers = {"step": 0, "steps": 1, "window": 1, "windows": 1, "pass": 1, "passes": 1}
    assert progress == {"message": line.message, "stage": "sampling", **numbers}


@on_sqlite
def test_progress_is_stored_in_batches(engine: sa.Engine, serve: Serve) -> None:
    serve()
    row = submit(engine, windows=60, window_s=0.005)
    ended = end_of(engine, row)
    assert ended.progress is not None
    assert ended.progress["window"] > 1
    assert ended.started_at is not None
    assert ended.completed_at is not None
    assert ended.version < (ended.completed_at - ended.started_at) / 0.05 + 6


def test_a_slot_claims_again_at_once_and_when_it_is_woken(
    engine: sa.Engine, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slot that waited for its next look into the queue would take an hour."""
    monkeypatch.setattr(slot, "POLL_S", 3600.0)
    server = serve()
    first = submit(engine)

    def wake_and_look() -> bool:  # the first one is woken again and again, for its lease may not have begun
        server.slots.wake("default")
        return current(engine, first).has_ended

    eventually(wake_and_look)
    for _ in range(3):
        rows = [submit(engine) for _ in range(3)]
        server.slots.wake("default")
        assert [end_of(engine, row).status_code for row in rows] == [200, 200, 200]


@on_sqlite
@pytest.mark.parametrize(
    ("slot", "device", "expected"),
    [("cuda:3@ltx", "cpu", "cuda:3"), ("auto", "cuda:0+cuda:1", "cuda:0+cuda:1"), ("auto@ltx", "auto", "auto")],
)
def test_a_worker_process_knows_its_device(
    slot: str, device: str, expected: str, engine: sa.Engine, serve: Serve, tmp_path: Path
) -> None:
    """The slot `auto` has the device of the setting `device`."""
    code = f"import os; open({str(tmp_path / 'device')!r}, 'w').write(os.environ['LONGTAKE_DEVICE'])"
    serve((sys.executable, "-c", code), slots=(slot,), device=device)
    eventually(lambda: (tmp_path / "device").exists() and (tmp_path / "device").read_text() == expected)


def test_what_dead_processes_left_is_deleted_again_and_again(
    engine: sa.Engine, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work folders of requests that have ended, and temporary folders; but nothing of a request that waits."""
    monkeypatch.setattr("longtake.worker.work_folders.SWEEP_S", 0.05)
    waiting = submit(engine, "a pool without slots")
    (tmp_path / "work" / waiting.id).mkdir(parents=True)
    for number in range(2):
        left = [tmp_path / "work" / "unknown", tmp_path / "tmp" / "of another machine"]
        for folder in left:
            folder.mkdir(parents=True)
            os.utime(folder, (1, 1))
        if number == 0:
            serve()
        eventually(lambda: not any(folder.exists() for folder in left))  # noqa: B023 - called in this round
    assert (tmp_path / "work" / waiting.id).exists()


def test_a_worker_process_knows_its_device_and_all_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of all slots share the host's memory, and those on one GPU its memory."""
    started: list[dict[str, str]] = []
    monkeypatch.setattr(
        supervisor, "WorkerProcess", lambda command, environment, on_message: started.append(environment)
    )
    of_server = settings(slots="auto,cuda:1@ltx", device="cuda:0")
    supervisor.Supervisor("slot", "cuda:1", (), of_server).start_if_needed()
    for name, value in started[0].items():
        monkeypatch.setenv(name, value)
    assert (settings().device, settings().slots) == ("cuda:1", ("cuda:0", "cuda:1"))


def test_a_worker_process_that_has_failed_for_a_day_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr(supervisor, "WorkerProcess", lambda *_: started.append(None))
    failing = supervisor.Supervisor("slot", "cpu", (), settings())
    failing._starts = 24 * 60 * 2
    failing.start_if_needed()
    failing._starts = 0
    failing._next_start_at = 0.0
    failing.start_if_needed()
    assert len(started) == 2
