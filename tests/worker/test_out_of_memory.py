"""The kernel kills the decoder or the worker process of a real server, because a control group's memory runs out.

python -m pytest tests/worker/test_out_of_memory.py -m soak
"""

import base64
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from longtake.queue.requests import RequestRow
from tests.upgraded import Server, serving
from tests.worker.troubles import MemoryGroup, memory_group
from tests.worker.worker_process import CLIP

ENDPOINT = "fal-ai/ltxv-13b-098-distilled"
BODY: dict[str, Any] = {
    "prompt": "a red circle",
    "video": {"video_url": "data:video/mp4;base64," + base64.b64encode(CLIP.read_bytes()).decode()},
    "num_frames": 17,
    "resolution": "480p",
    "aspect_ratio": "1:1",
    "first_pass_num_inference_steps": 2,
}

pytestmark = pytest.mark.soak


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server without keys, which tries each request twice."""
    (tmp_path / "data").mkdir()
    with serving(tmp_path / "data", "", {"LONGTAKE_MAX_ATTEMPTS": "2"}) as running:
        yield running


def submit(server: Server) -> str:
    answer = httpx.post(f"{server.http}/queue/{ENDPOINT}/extend", json=BODY, timeout=60)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["request_id"])


def result(server: Server, request_id: str) -> tuple[RequestRow, httpx.Response]:
    row = server.ended(request_id)
    return row, httpx.get(f"{server.http}/queue/{ENDPOINT}/requests/{request_id}", timeout=60)


def processes(module: str, parents: Collection[int]) -> list[int]:
    """Returns the ids of the children of these processes that run a module."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(") ")[2].split()[1])
            if parent in parents and module in (folder / "cmdline").read_text().split("\0"):
                found.append(int(folder.name))
    return found


def workers(server: Server) -> list[int]:
    return processes("longtake.worker.main", [server.pid])


@contextmanager
def moving(group: MemoryGroup, pids: Callable[[], list[int]]) -> Iterator[None]:
    """Moves processes into the group, as soon as they exist."""
    ending = threading.Event()

    def run() -> None:
        while not ending.wait(0.002):
            for pid in pids():
                group.add(pid)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def at_work(server: Server, request_id: str, attempts: int) -> Callable[[], list[int]]:
    """Returns a function: the worker processes, while they work on the request in one of its first `attempts`."""

    def found() -> list[int]:
        row = server.row(request_id)
        is_worked_on = row.state == "IN_PROGRESS" and row.attempt <= attempts
        return workers(server) if is_worked_on else []

    return found


def test_a_worker_that_is_killed_once_is_replaced(server: Server) -> None:
    request_id = submit(server)
    with memory_group(1 << 20) as group, moving(group, at_work(server, request_id, 1)):
        row, answer = result(server, request_id)
        assert (answer.status_code, row.attempt) == (200, 2), answer.text
        assert group.num_killed == 1
    assert httpx.get(f"{server.http}/ready", timeout=60).status_code == 200


def test_a_worker_that_is_killed_in_each_attempt_is_an_error_that_names_the_memory(server: Server) -> None:
    request_id = submit(server)
    with memory_group(1 << 20) as group, moving(group, at_work(server, request_id, 2)):
        row, answer = result(server, request_id)
        assert (answer.status_code, row.attempt) == (500, 2), answer.text
        assert "Most likely the machine's memory ran out" in answer.json()["detail"]
        assert group.num_killed >= 2
    row, answer = result(server, submit(server))
    assert (answer.status_code, row.attempt) == (200, 1), "the server goes on"


@pytest.mark.parametrize("times", [1, 2])
def test_a_decoder_that_is_killed_is_started_once_more(server: Server, times: int) -> None:
    seen: list[int] = []

    def decoders() -> list[int]:
        seen.extend(pid for pid in processes("longtake.media.decode_server", workers(server)) if pid not in seen)
        return seen[:times]

    with memory_group(1 << 20) as group, moving(group, decoders):
        row, answer = result(server, submit(server))
        assert row.attempt == 1, "the worker process goes on"
        assert group.num_killed == times
        if times == 1:
            assert answer.status_code == 200, answer.text
        else:
            assert answer.status_code == 500
            assert "A second try failed, too." in answer.text
