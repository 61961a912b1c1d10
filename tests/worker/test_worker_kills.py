"""The real worker process is killed in each stage of a request: another one goes on, with the same result."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from longtake.worker.messages import (
    Done,
    Failed,
    FileFound,
    FileWanted,
    Planned,
    Proceed,
    ProgressReport,
    decode_to_server,
)
from tests.storage.memory_blobs import MemoryBlobs, memory_blobs
from tests.worker.worker_process import BLOB, BODY, ENDPOINT, Worker, worker

LONG = BODY | {"num_frames": 49}
"""A request with two windows."""


@pytest.fixture(scope="module")
def blobs() -> Iterator[MemoryBlobs]:
    with memory_blobs() as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worker")


@pytest.fixture(scope="module")
def other(blobs: MemoryBlobs, folder: Path) -> Iterator[Worker]:
    """The worker process that goes on after the killed ones."""
    with worker(folder, blobs) as started:
        yield started


@pytest.fixture(scope="module")
def whole(other: Worker) -> tuple[bytes, set[str | None]]:
    """The result of a request that was not interrupted, and its stages."""
    other.run(ENDPOINT, LONG, name="whole")
    done, reports = other.end()
    assert isinstance(done, Done), done
    return done.path.read_bytes(), {report.stage for report in reports}


def kill_at(killed: Worker, stage: str, window: int | None, name: str) -> dict[str, Any] | None:
    """Runs the request until it is in the stage, and kills the process. Returns the plan, if there is one by then."""
    killed.run(ENDPOINT, LONG, name=name)
    plan: dict[str, Any] | None = None
    assert killed.process.stdout is not None
    while line := killed.process.stdout.readline():
        match decode_to_server(line):
            case FileWanted() if stage == "prepare":
                break
            case FileWanted():
                killed.send(FileFound(BLOB))
            case Planned() as planned:
                plan = planned.plan
                killed.send(Proceed())
            case ProgressReport() as report if report.stage == stage and window in (None, report.window):
                break
            case Done() | Failed() as end:
                raise AssertionError(f"the request ended before the stage {stage}: {end}")
    else:
        raise AssertionError(f"the process ended before the stage {stage}")
    os.kill(killed.process.pid, signal.SIGKILL)
    killed.process.wait()
    return plan


EACH = [("prepare", None), ("frames", None)]
"""The stages before the plan and after all windows, in which least and most of the work is done."""
OTHERS = [
    ("context", None),
    ("load", None),
    ("prompt", None),
    ("encode", None),
    ("sampling", 1),
    ("sampling", 2),
    ("writing", None),
]


@pytest.mark.parametrize(
    ("stage", "window"), [*EACH, *(pytest.param(*other, marks=pytest.mark.soak) for other in OTHERS)]
)
def test_nothing_is_lost_if_the_worker_is_killed(
    blobs: MemoryBlobs,
    folder: Path,
    other: Worker,
    whole: tuple[bytes, set[str | None]],
    stage: str,
    window: int | None,
) -> None:
    expected, _ = whole
    name = f"{stage}-{window}"
    with worker(folder, blobs) as killed:
        plan = kill_at(killed, stage, window, name)
    assert (plan is None) == (stage == "prepare")
    other.run(ENDPOINT, LONG, plan, name)
    done, reports = other.end()
    assert isinstance(done, Done), done
    assert done.path.read_bytes() == expected
    sampled = {report.window for report in reports if report.stage == "sampling"}
    assert sampled == ({2} if window == 2 else set() if stage in ("frames", "writing") else {1, 2})
    assert [path.name for path in (folder / name).iterdir() if path.suffix == ".mp4"] == [done.path.name]


def test_all_stages_are_killed_at(whole: tuple[bytes, set[str | None]]) -> None:
    _, stages = whole
    assert stages - {"libraries"} <= {stage for stage, _ in (*EACH, *OTHERS)}
