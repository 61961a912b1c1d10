"""The real worker process on a device that it treats as a GPU, with an encoder that waits for the test."""

import base64
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic_core import to_json

from longtake.queue import engine as queue
from longtake.worker.messages import (
    Cancel,
    DeviceUse,
    Done,
    Failed,
    Planned,
    Proceed,
    ProgressReport,
    ToServer,
)
from tests.database.fixtures import on_sqlite
from tests.worker.requests import current, end_of, eventually, submission
from tests.worker.server import Server
from tests.worker.worker_process import BODY, CLIP, ENDPOINT, Worker, worker

GATED = """
import os, sys, time
from longtake.media import encode
from longtake.worker import main
from_rgb = encode.from_rgb
def gated(*arguments):
    while os.path.exists(os.environ["LONGTAKE_DATA_DIR"] + "/closed"):
        time.sleep(0.01)
    return from_rgb(*arguments)
encode.from_rgb = gated
main.shares_device = lambda settings: True
main.main()
"""
"""The program of a worker process whose encoder waits while there is a file `closed` in the data folder."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with worker(tmp_path_factory.mktemp("worker"), program=GATED) as started:
        yield started


@dataclass
class Watch:
    """The messages of a worker process, with the ends of its requests."""

    worker: Worker
    seen: list[ToServer] = field(default_factory=list)
    ends: dict[str | None, Done | Failed] = field(default_factory=dict)

    def until(self, kind: type[ToServer], request_id: str, **fields: Any) -> ToServer:
        """Answers plans until there is a message of this kind about a request, with these fields."""
        while True:
            message = self.worker.receive()
            self.seen.append(message)
            match message:
                case Planned():
                    self.worker.send(Proceed(message.request_id))
                case Done() | Failed():
                    self.ends[message.request_id] = message
            found = isinstance(message, kind) and getattr(message, "request_id", None) == request_id
            if found and all(getattr(message, name) == fields[name] for name in fields):
                return message
            assert request_id not in self.ends, message

    def end(self, request_id: str) -> Done | Failed:
        if request_id not in self.ends:
            end = Done | Failed
            self.until(end, request_id)  # type: ignore[arg-type]
        return self.ends[request_id]


def video(end: Done | Failed) -> bytes:
    assert isinstance(end, Done), end
    return end.path.read_bytes()


def test_the_next_request_is_sampled_before_the_first_is_finished_with_the_same_bytes(shared: Worker) -> None:
    alone = {}
    for seed in (3, 4):
        shared.run(ENDPOINT, BODY | {"seed": seed}, name=f"{seed}-alone")
        alone[seed] = video(Watch(shared).end(f"{seed}-alone"))
    watch, closed = Watch(shared), shared.folder / "data" / "closed"
    closed.touch()
    shared.run(ENDPOINT, BODY | {"seed": 3}, name="a")
    watch.until(DeviceUse, "a", state="soon free")
    shared.run(ENDPOINT, BODY | {"seed": 4}, name="b")
    watch.until(DeviceUse, "b", state="soon free")
    assert watch.ends == {}
    uses = [(one.request_id, one.state) for one in watch.seen if isinstance(one, DeviceUse)]
    assert [one for one in uses if one[1] == "uses"] == [("a", "uses"), ("b", "uses")]
    closed.unlink()
    assert (video(watch.end("a")), video(watch.end("b"))) == (alone[3], alone[4])


def test_a_cancelled_request_stops_waiting_for_the_device(shared: Worker) -> None:
    watch = Watch(shared)
    shared.run(ENDPOINT, BODY | {"seed": 4, "num_frames": 49, "first_pass_num_inference_steps": 12}, name="first")
    watch.until(DeviceUse, "first", state="uses")
    shared.run(ENDPOINT, BODY | {"seed": 5}, name="second")
    watch.until(ProgressReport, "second", stage="waiting")
    shared.send(Cancel("second"))
    cancelled = watch.end("second")
    assert isinstance(cancelled, Failed)
    assert cancelled.error_type == "client_cancelled"
    assert "first" not in watch.ends
    done = watch.end("first")
    assert isinstance(done, Done)


def test_waiting_for_the_device_is_no_time_of_inference(shared: Worker) -> None:
    watch = Watch(shared)
    shared.run(ENDPOINT, BODY | {"seed": 6, "num_frames": 49, "first_pass_num_inference_steps": 12}, name="one")
    watch.until(DeviceUse, "one", state="uses")
    shared.run(ENDPOINT, BODY | {"seed": 7}, name="two")
    done = watch.end("two")
    assert isinstance(done, Done)
    assert done.timings["waiting"] > 0
    reports = [one.stage for one in watch.seen if isinstance(one, ProgressReport) and one.request_id == "two"]
    assert reports[len(reports) - reports[::-1].index("waiting")] == "load"
    stages = sum(seconds for stage, seconds in done.timings.items() if stage not in ("inference_time", "waiting"))
    assert done.timings["inference_time"] == pytest.approx(stages, abs=0.2)
    watch.end("one")


@on_sqlite
def test_a_slot_samples_the_next_request_before_the_result_of_the_first_is_stored(
    engine: sa.Engine, serve: Callable[..., Server], tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.touch()
    serve((sys.executable, "-c", GATED))
    source = f"data:video/mp4;base64,{base64.b64encode(CLIP.read_bytes()).decode()}"
    body = BODY | {"video": {"video_url": source, "start_frame_num": 24}}
    rows = []
    for seed in (3, 4):
        submitted = replace(submission(), endpoint=ENDPOINT, body=to_json(body | {"seed": seed}))
        rows.append(queue.submit(engine, submitted)[0])
    second = rows[1]
    eventually(lambda: (current(engine, second).progress or {}).get("stage") in ("sampling", "frames", "writing"))
    assert current(engine, rows[0]).state == "IN_PROGRESS"
    closed.unlink()
    for row in rows:
        ended = end_of(engine, row)
        assert (ended.status_code, ended.attempt) == (200, 1)
        assert {"sampling", "writing"} <= set(ended.timings or {})
        stages = [line.labels["stage"] for line in queue.log_lines(engine, row.id) if "stage" in line.labels]
        assert stages.count("sampling") == 1
