"""The whole server as people start it: killed, drained, with and without keys, on the embedded model."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

CLIP = Path(__file__).parents[2] / "examples" / "clip.mp4"
ENDPOINT = "/queue/fal-ai/ltxv-13b-098-distilled/extend"
LONG = {"prompt": "a red circle moving left", "num_frames": 73, "resolution": "480p", "seed": 3}


class Running:
    """A server process and a client of it."""

    def __init__(self, process: subprocess.Popen[str], said: list[str], port: int) -> None:
        self.process, self.said = process, said
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.client.post(ENDPOINT, json=body)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def path(self, request_id: str, part: str = "") -> str:
        return f"/queue/fal-ai/ltxv-13b-098-distilled/requests/{request_id}{part}"

    def status(self, request_id: str) -> dict[str, Any]:
        told: dict[str, Any] = self.client.get(self.path(request_id, "/status?logs=1")).json()
        return told

    def until(self, request_id: str, reached: Callable[[dict[str, Any]], bool], within_s: float = 90) -> dict[str, Any]:
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            told = self.status(request_id)
            if reached(told):
                return told
            time.sleep(0.02)
        raise AssertionError(told)

    def video(self, request_id: str) -> bytes:
        self.until(request_id, completed)
        result = self.client.get(self.path(request_id))
        assert result.status_code == 200, result.text
        key = result.json()["video"]["url"].rpartition("/")[2]
        return self.client.get(f"/cdn/files/{key}").content

    def upload(self) -> str:
        """The clip's address on this server, as it is known by another name."""
        told = self.client.post("/cdn/files/upload", content=CLIP.read_bytes(), headers={"content-type": "video/mp4"})
        assert told.status_code == 200, told.text
        url: str = told.json()["access_url"]
        return url


def completed(told: dict[str, Any]) -> bool:
    return bool(told["status"] == "COMPLETED")


def eventually(reached: Callable[[], bool], within_s: float = 5) -> None:
    end = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.02)


def says(text: str) -> Callable[[dict[str, Any]], bool]:
    return lambda told: completed(told) or any(text in log["message"] for log in told["logs"] or ())


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "longtake", "serve", "--port", "0", "--data-dir", str(folder), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:
            said.append(line)
            found = re.search(r"serves http://localhost:(\d+)", line)
            if found:
                break
        else:
            raise AssertionError(said)
        try:
            yield Running(process, said, int(found[1]))
        finally:
            process.kill()


def test_killed_in_the_middle_it_goes_on_and_nothing_is_different(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        body = LONG | {"video": {"video_url": server.upload()}}
        whole, killed, waiting = (server.submit(body)["request_id"] for _ in range(3))
        expected = server.video(whole)
        server.until(killed, says("window 2 of"))
        assert server.status(waiting)["queue_position"] == 0
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    with serving(tmp_path) as server:
        assert server.video(killed) == expected
        messages = [log["message"] for log in server.status(killed)["logs"]]
        again = messages[len(messages) - messages[::-1].index("Reading the source") :]
        assert not any("window 1 of" in message for message in again), "a window that was done is done again"
        assert server.video(waiting) == expected
        assert server.video(whole) == expected


def test_terminated_it_finishes_what_runs_and_keeps_what_waits(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        body = LONG | {"video": {"video_url": server.upload()}}
        running, waiting = (server.submit(body)["request_id"] for _ in range(2))
        server.until(running, says("Sampling"))
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: server.client.get("/ready").status_code == 503)
        assert server.status(running)["status"] == "IN_PROGRESS"
        assert server.process.wait(60) == 0
    with serving(tmp_path, "--slots", "none") as server:
        assert completed(server.status(running))
        assert server.status(waiting)["status"] == "IN_QUEUE"


def test_cancelled_while_it_runs_the_slot_is_free_at_once(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        body = LONG | {"video": {"video_url": server.upload()}}
        request_id, after = (server.submit(body)["request_id"] for _ in range(2))
        server.until(request_id, says("Sampling"))
        assert server.client.put(server.path(request_id, "/cancel")).status_code == 202
        began = time.monotonic()
        told = server.until(request_id, completed)
        assert told["error_type"] == "client_cancelled"
        assert server.client.get(server.path(request_id)).status_code == 499
        server.until(after, lambda told: told["status"] == "IN_PROGRESS")
        assert time.monotonic() - began < 3
        server.client.put(server.path(after, "/cancel"))


def test_without_keys_it_serves_this_machine_alone_and_with_keys_nobody_without_one(tmp_path: Path) -> None:
    with serving(tmp_path, "--slots", "none", "--host", "0.0.0.0") as server:
        assert any("only this machine is served" in line for line in server.said)
        assert server.client.get("/v1/models").status_code == 200
    made = subprocess.run(
        [sys.executable, "-m", "longtake", "keys", "create", "--alias", "me", "--scope", "run"],
        env={"LONGTAKE_DATA_DIR": str(tmp_path), "PATH": ""},
        check=True,
        capture_output=True,
        text=True,
    )
    key = re.search(r"[\w-]+:[\w-]{20,}", made.stdout)
    assert key is not None
    with serving(tmp_path, "--slots", "none") as server:
        assert server.client.post(ENDPOINT, json={}).status_code == 401
        told = server.client.post(ENDPOINT, json={}, headers={"authorization": f"Key {key[0]}"})
        assert told.status_code == 200


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("POOLS", '{"none": "large"}', "There is no endpoint 'none'"),
        ("PRICES", '{"fal-ai/none": 1}', "LONGTAKE_PRICES names 'fal-ai/none', which is no endpoint's id"),
        ("PRELOAD", "none", "There is no endpoint 'none'"),
        ("PRELOAD", "ltx-2.3", "'ltx-2.3' fits several endpoints"),
        ("PRICE_LTXV097_PER_VIDEO", "1", "LONGTAKE_PRICE_LTXV097_PER_VIDEO is no setting any more"),
    ],
)
def test_a_setting_that_names_no_endpoint_is_said_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"LONGTAKE_{setting}", value)
    ran = _failed(tmp_path, "--slots", "none", "--port", "0")
    assert (ran.returncode, message in ran.stderr, "Traceback" in ran.stderr) == (2, True, False), ran.stderr


@pytest.mark.parametrize("options", [("--slots", "tpu"), ("--port", "1")])
def test_what_cannot_be_started_is_said_in_a_sentence(tmp_path: Path, options: tuple[str, ...]) -> None:
    if options[0] == "--port":
        with serving(tmp_path, "--slots", "none") as server:
            port = str(server.client.base_url.port)
            ran = _failed(tmp_path, "--port", port)
            assert f"port {port}" in ran.stderr
    else:
        ran = _failed(tmp_path, *options)
        assert "tpu" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.returncode == 2


def _failed(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "longtake", "serve", "--data-dir", str(folder), *options],
        capture_output=True,
        text=True,
        timeout=30,
    )
