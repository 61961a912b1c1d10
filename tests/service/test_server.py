"""The whole server as people start it, on the embedded model: killed, drained, cancelled, with and without keys."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from longtake.cli import app
from longtake.database.migrate import open_database
from longtake.errors import InvalidRequest
from longtake.media import confinement
from longtake.service.server import Address, StopLimit, run
from longtake.settings import settings
from tests.waiting import pause

CLIP = Path(__file__).parents[2] / "examples" / "clip.mp4"
ENDPOINT = "/queue/fal-ai/ltxv-13b-098-distilled/extend"
TWO_WINDOWS = {
    "prompt": "a red circle moving left",
    "num_frames": 49,
    "resolution": "480p",
    "aspect_ratio": "1:1",
    "first_pass_num_inference_steps": 4,
    "seed": 3,
}
START_FRAME = 24
"""The requests extend the last nine frames of the clip."""

PATIENCE_S = 180.0
"""Seconds after which a test gives up waiting, even on a busy machine."""


class Running:
    """A server process, the lines that it has logged, and a client of it."""

    def __init__(self, process: subprocess.Popen[str], log: list[str], port: int) -> None:
        self.process, self.log = process, log
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, verify=False)

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        response = self.client.post(ENDPOINT, json=body)
        assert response.status_code == 200, response.text
        submitted: dict[str, Any] = response.json()
        return submitted

    def path(self, request_id: str, part: str = "") -> str:
        return f"/queue/fal-ai/ltxv-13b-098-distilled/requests/{request_id}{part}"

    def status(self, request_id: str) -> dict[str, Any]:
        status: dict[str, Any] = self.client.get(self.path(request_id, "/status?logs=1")).json()
        return status

    def until(self, request_id: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Waits until a request's status meets the condition, and returns that status."""
        begun = time.monotonic()
        while True:
            status = self.status(request_id)
            if condition(status):
                return status
            assert time.monotonic() < begun + PATIENCE_S, status
            pause(begun)

    def video(self, request_id: str) -> bytes:
        self.until(request_id, is_completed)
        result = self.client.get(self.path(request_id))
        assert result.status_code == 200, result.text
        key = result.json()["video"]["url"].rpartition("/")[2]
        return self.client.get(f"/cdn/files/{key}").content

    def upload(self) -> dict[str, Any]:
        """Uploads the clip and returns the part of a request that names it."""
        response = self.client.post(
            "/cdn/files/upload", content=CLIP.read_bytes(), headers={"content-type": "video/mp4"}
        )
        assert response.status_code == 200, response.text
        return {"video": {"video_url": response.json()["access_url"], "start_frame_num": START_FRAME}}


def is_completed(status: dict[str, Any]) -> bool:
    return bool(status["status"] == "COMPLETED")


def eventually(condition: Callable[[], bool]) -> None:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() < begun + PATIENCE_S
        pause(begun)


def has_logged(text: str) -> Callable[[dict[str, Any]], bool]:
    """Returns a condition that is met once a request has ended or has logged this text."""
    return lambda status: is_completed(status) or any(text in line for line in messages(status))


def messages(status: dict[str, Any]) -> list[str]:
    return [line["message"] for line in status["logs"] or ()]


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "longtake", "serve", "--port", "0", "--data-dir", str(folder), *options]
    environment = os.environ | {"LONGTAKE_PRELOAD": "0.9.8"}  # no other model is loaded before this one
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        log: list[str] = []
        for line in process.stderr:
            log.append(line)
            found = re.search(r"serves http://localhost:(\d+)", line)
            if found:
                break
        else:
            raise AssertionError(log)
        try:
            yield Running(process, log, int(found[1]))
        finally:
            process.kill()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder for one server after the other: each start of a worker process with a model takes long."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def first(folder: Path) -> Iterator[Running]:
    """A server with a slot of two devices, which does not kill its worker process for a cancellation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGTAKE_CANCEL_GRACE_S", "3600")
        with serving(folder, "--slots", "cpu+cpu") as server:
            yield server


def test_a_slot_of_two_devices_carries_out_a_request(first: Running) -> None:
    """The endpoint guides its model, so that a step has several predictions: this request has 8 in 4 steps."""
    steps = {"first_pass_num_inference_steps": 6, "second_pass_num_inference_steps": 2}
    body = TWO_WINDOWS | {"num_frames": 17} | steps | first.upload()
    submitted = first.client.post("/queue/fal-ai/ltx-video-13b-dev/extend", json=body).json()

    def status() -> dict[str, Any]:
        found: dict[str, Any] = first.client.get(submitted["status_url"]).json()
        return found

    eventually(lambda: is_completed(status()))
    result = first.client.get(submitted["response_url"])
    assert result.status_code == 200, result.text
    assert result.json()["video"]["url"]
    (slot,) = first.client.get("/page/requests").json()["slots"]
    assert slot["name"] == "slot 0 (cpu+cpu)"


def test_a_cancelled_request_stops_and_frees_its_slot(first: Running) -> None:
    video = first.upload()
    running = first.submit(TWO_WINDOWS | video | {"num_frames": 961})["request_id"]
    after = first.submit(TWO_WINDOWS | video)["request_id"]
    first.until(running, has_logged("Sampling"))
    assert first.client.put(first.path(running, "/cancel")).status_code == 202
    status = first.until(running, is_completed)
    assert status["error_type"] == "client_cancelled"
    windows = [found.groups() for line in messages(status) if (found := re.search(r"window (\d+) of (\d+)", line))]
    assert windows
    assert all(window != last for window, last in windows), "the request was worked on to its end"
    assert first.client.get(first.path(running)).status_code == 499
    first.until(after, has_logged("Reading the source"))
    first.client.put(first.path(after, "/cancel"))


@dataclass(frozen=True)
class Killed:
    """Equal requests of a killed server, by their ids: one that ran, and one that waited."""

    body: dict[str, Any]
    running: str
    waiting: str


@pytest.fixture(scope="module")
def killed(first: Running) -> Killed:
    """Kills the first server while a request runs and another one waits."""
    body = TWO_WINDOWS | first.upload()
    running, waiting = (first.submit(body)["request_id"] for _ in range(2))
    first.until(running, has_logged("window 2 of"))
    first.until(waiting, lambda status: status["queue_position"] == 0)
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    return Killed(body, running, waiting)


@pytest.fixture(scope="module")
def second(folder: Path, killed: Killed) -> Iterator[Running]:
    """A server on the data folder of the killed one. It is to listen on all addresses, but there is no key."""
    with serving(folder, "--host", "0.0.0.0") as server:
        yield server


def test_a_killed_server_s_request_is_resumed(killed: Killed, second: Running) -> None:
    assert any("stand in for models that are not installed" in line and "ltx-2.3" in line for line in second.log)
    assert any(str(confinement.support()) in line for line in second.log)
    assert second.video(killed.running)
    lines = messages(second.status(killed.running))
    resumed = lines[lines.index("The work goes on after an interruption.") :]
    assert not set(resumed) & {line for line in lines if "makes" in line}, "a note was written twice"
    assert not any("window 1 of" in line for line in resumed), "a finished window was made again"


def test_without_keys_only_this_machine_is_served(second: Running) -> None:
    assert any("only this machine is served" in line for line in second.log)
    assert second.client.get("/v1/models").status_code == 200


def test_a_terminated_server_finishes_its_running_request_and_leaves_the_others(
    folder: Path, killed: Killed, second: Running
) -> None:
    """The running request is the one that waited when the first server was killed.

    Its video is the same as that of the equal request that was resumed.
    """
    left = second.submit(killed.body)["request_id"]
    second.until(killed.waiting, has_logged("Sampling"))
    second.process.send_signal(signal.SIGTERM)
    eventually(lambda: second.client.get("/ready").status_code == 503)
    assert second.process.wait(PATIENCE_S) == 0
    with serving(folder, "--slots", "none") as third:
        assert third.video(killed.waiting) == third.video(killed.running)
        assert third.status(left)["status"] == "IN_QUEUE"


def test_with_keys_only_their_holders_are_served(tmp_path: Path) -> None:
    created = CliRunner().invoke(
        app, ["keys", "create", "--alias", "me", "--scope", "run", "--data-dir", str(tmp_path)]
    )
    key = re.search(r"[\w-]+:[\w-]{20,}", created.stdout)
    assert key is not None
    with serving(tmp_path, "--slots", "none") as server:
        assert server.client.post(ENDPOINT, json={}).status_code == 401
        response = server.client.post(ENDPOINT, json={}, headers={"authorization": f"Key {key[0]}"})
        assert response.status_code == 200


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"pools": {"none": "large"}}, "There is no endpoint 'none'"),
        ({"prices": {"fal-ai/none": 1}}, "LONGTAKE_PRICES names 'fal-ai/none', which is no endpoint's id"),
        ({"preload": "none"}, "There is no endpoint 'none'"),
        ({"preload": "ltx-2.3"}, "'ltx-2.3' fits several endpoints"),
    ],
)
def test_a_setting_that_names_no_endpoint_is_refused_before_the_server_listens(
    tmp_path: Path, setting: dict[str, Any], message: str
) -> None:
    def refuse(address: Address) -> None:
        raise AssertionError(f"It listens at {address}.")

    chosen = settings(data_dir=tmp_path, slots=(), **setting)
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        run(chosen, open_database(chosen), Address("127.0.0.1", 0), None, refuse)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("PRELOAD", "ltx-2.3", "'ltx-2.3' fits several endpoints"),
        ("PRICE_LTXV097_PER_VIDEO", "1", "LONGTAKE_PRICE_LTXV097_PER_VIDEO is no setting any more"),
    ],
)
def test_a_wrong_setting_is_refused_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"LONGTAKE_{setting}", value)
    ended = CliRunner().invoke(app, ["serve", "--data-dir", str(tmp_path), "--slots", "none", "--port", "0"])
    assert (ended.exit_code, message in ended.output, "Traceback" in ended.output) == (2, True, False), ended.output


@pytest.mark.parametrize("option", ["--slots", "--port"])
def test_a_server_that_cannot_start_explains_it_in_a_sentence(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as another:
        port = str(another.getsockname()[1])
        ran = _failed(tmp_path, option, port if option == "--port" else "tpu")
    assert (f"port {port}" if option == "--port" else "tpu") in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.returncode == 2


def _failed(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "longtake", "serve", "--data-dir", str(folder), *options],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


@pytest.mark.parametrize("name", ["files", "work", "webhook_keys", "tls"])
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    ended = CliRunner().invoke(app, ["serve", "--data-dir", str(tmp_path), "--slots", "cpu", "--port", "0", "--tls"])
    assert ended.exit_code in (1, 2)
    assert f"{tmp_path / name}: there is already a file or folder of that name" in ended.output
    assert (tmp_path / name).read_text() == "x"


def test_a_broken_torch_ends_the_server_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), *sys.path)))
    ran = _failed(tmp_path / "data", "--port", "0", "--slots", "cuda:0,cuda:0@small")
    reason = "(ImportError: libcudart.so.12: cannot open shared object file). Install them again: pip install"
    assert (ran.returncode, "Traceback" in ran.stderr) == (2, False), ran.stderr
    assert f"Error: The libraries of the models cannot be imported {reason}" in ran.stderr.splitlines()[-1]
    assert "Several slots use cuda:0. Each loads a model of its own onto it" in ran.stderr


def test_without_torch_only_a_server_without_slots_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("longtake.cli.serve.find_spec", lambda name: None)
    monkeypatch.setenv("LONGTAKE_SLOTZ", "none")
    ended = CliRunner().invoke(app, ["serve", "--data-dir", str(tmp_path)])
    assert ended.exit_code == 2
    assert "LONGTAKE_SLOTZ: no such setting, so it has no effect; perhaps LONGTAKE_SLOTS is meant." in ended.output
    assert "torch is not installed, and the workers need it: pip install '.[torch]'" in ended.output


def test_a_process_that_does_not_stop_in_time_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr("os._exit", lambda status: ended.set())
    with StopLimit() as limit:
        limit.begin(PATIENCE_S)
        limit.begin(0.01)
        assert ended.wait(PATIENCE_S)
    ended.clear()
    with StopLimit() as limit:
        limit.begin(0.1)
    assert not ended.wait(0.15)
