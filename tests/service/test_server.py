"""The whole server as people start it, on the embedded model: killed, drained, cancelled, with and without keys."""

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
TWO_WINDOWS = {
    "prompt": "a red circle moving left",
    "num_frames": 49,
    "resolution": "480p",
    "aspect_ratio": "1:1",
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
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S)

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
        end = time.monotonic() + PATIENCE_S
        while True:
            status = self.status(request_id)
            if condition(status):
                return status
            assert time.monotonic() < end, status
            time.sleep(0.02)

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
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def has_logged(text: str) -> Callable[[dict[str, Any]], bool]:
    """Returns a condition that is met once a request has ended or has logged this text."""
    return lambda status: is_completed(status) or any(text in line for line in messages(status))


def messages(status: dict[str, Any]) -> list[str]:
    return [line["message"] for line in status["logs"] or ()]


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "longtake", "serve", "--port", "0", "--data-dir", str(folder), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
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


def test_a_killed_server_resumes_its_request_to_the_same_video(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        body = TWO_WINDOWS | server.upload()
        whole, killed, waiting = (server.submit(body)["request_id"] for _ in range(3))
        expected = server.video(whole)
        server.until(killed, has_logged("window 2 of"))
        server.until(waiting, lambda status: status["queue_position"] == 0)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    with serving(tmp_path) as server:
        assert server.video(killed) == expected
        lines = messages(server.status(killed))
        resumed = lines[len(lines) - lines[::-1].index("Reading the source") :]
        assert not any("window 1 of" in line for line in resumed), "a finished window was made again"
        assert server.video(waiting) == expected
        assert server.video(whole) == expected


def test_a_terminated_server_finishes_its_running_request_and_leaves_the_others(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        body = TWO_WINDOWS | server.upload()
        running, waiting = (server.submit(body)["request_id"] for _ in range(2))
        server.until(running, has_logged("Sampling"))
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: server.client.get("/ready").status_code == 503)
        assert server.process.wait(PATIENCE_S) == 0
    with serving(tmp_path, "--slots", "none") as server:
        assert is_completed(server.status(running))
        assert server.client.get(server.path(running)).status_code == 200
        assert server.status(waiting)["status"] == "IN_QUEUE"


def test_a_cancelled_request_stops_and_frees_its_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker process gets an hour to stop, so it is not killed: it stops by itself."""
    monkeypatch.setenv("LONGTAKE_CANCEL_GRACE_S", "3600")
    with serving(tmp_path) as server:
        video = server.upload()
        running = server.submit(TWO_WINDOWS | video | {"num_frames": 481})["request_id"]
        after = server.submit(TWO_WINDOWS | video)["request_id"]
        server.until(running, has_logged("Sampling"))
        assert server.client.put(server.path(running, "/cancel")).status_code == 202
        status = server.until(running, is_completed)
        assert status["error_type"] == "client_cancelled"
        windows = [found.groups() for line in messages(status) if (found := re.search(r"window (\d+) of (\d+)", line))]
        assert windows
        assert all(window != last for window, last in windows), "the request was worked on to its end"
        assert server.client.get(server.path(running)).status_code == 499
        server.until(after, has_logged("Reading the source"))
        server.client.put(server.path(after, "/cancel"))


def test_without_keys_only_this_machine_is_served_and_with_keys_only_their_holders(tmp_path: Path) -> None:
    with serving(tmp_path, "--slots", "none", "--host", "0.0.0.0") as server:
        assert any("only this machine is served" in line for line in server.log)
        assert server.client.get("/v1/models").status_code == 200
    created = subprocess.run(
        [sys.executable, "-m", "longtake", "keys", "create", "--alias", "me", "--scope", "run"],
        env={"LONGTAKE_DATA_DIR": str(tmp_path), "PATH": ""},
        check=True,
        capture_output=True,
        text=True,
    )
    key = re.search(r"[\w-]+:[\w-]{20,}", created.stdout)
    assert key is not None
    with serving(tmp_path, "--slots", "none") as server:
        assert server.client.post(ENDPOINT, json={}).status_code == 401
        response = server.client.post(ENDPOINT, json={}, headers={"authorization": f"Key {key[0]}"})
        assert response.status_code == 200


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
def test_a_setting_that_names_no_endpoint_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"LONGTAKE_{setting}", value)
    ran = _failed(tmp_path, "--slots", "none", "--port", "0")
    assert (ran.returncode, message in ran.stderr, "Traceback" in ran.stderr) == (2, True, False), ran.stderr


@pytest.mark.parametrize("options", [("--slots", "tpu"), ("--port", "1")])
def test_a_server_that_cannot_start_explains_it_in_a_sentence(tmp_path: Path, options: tuple[str, ...]) -> None:
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
        timeout=PATIENCE_S,
    )
