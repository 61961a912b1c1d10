"""`longtake serve` with the embedded models, called by both of fal's clients."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import pytest

from tests.contract.conftest import ROOT, Node, Running
from tests.service.serving import LTX2, LTXV, OLD

EXAMPLE = ROOT / "examples" / "clip.mp4"
SMALL_INPUTS: dict[str, dict[str, Any]] = {
    LTXV: {
        "num_frames": 25,
        "resolution": "480p",
        "aspect_ratio": "1:1",
        "first_pass_num_inference_steps": 2,
        "video": {"max_num_frames": 9, "limit_num_frames": True},
    },
    OLD: {"resolution": "480p", "expand_prompt": False, "num_inference_steps": 2, "video": {"start_frame_num": 0}},
    LTX2: {
        "num_frames": 17,
        "num_context_frames": 9,
        "video_size": {"width": 192, "height": 128},
        "num_inference_steps": 8,
        "use_multiscale": False,
        "enable_prompt_expansion": False,
    },
}
"""A small input of each endpoint."""

PROGRAM = """
import json, sys
import fal_client
endpoint, body, path = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
url = fal_client.upload_file(path)
body.setdefault("video", {})["video_url"] = url
body["video_url"] = url
if endpoint.endswith("extend-video"):
    del body["video"]
else:
    del body["video_url"]
def print_log(update):
    if isinstance(update, fal_client.InProgress):
        for log in update.logs:
            print("log", log["message"])
print(json.dumps(fal_client.subscribe(endpoint, arguments=body, with_logs=True, on_queue_update=print_log)))
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("real") / "data"
    ports = ("--port", "0", "--tls", "--tls-port", "0", "--tunnel-port", "0")
    command = [str(Path(sys.executable).with_name("longtake")), "serve", *ports, "--data-dir", str(folder)]
    log = folder.parent / "real.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=ROOT)
    try:
        yield _started(process, log, folder)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _started(process: subprocess.Popen[bytes], log: Path, folder: Path) -> Running:
    """Waits until the server has printed its addresses, and returns them."""
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        text = log.read_text()
        http = re.search(r"longtake serves (http://\S+)", text)
        https = re.search(r"FAL_RUN_HOST=(\S+)/run", text)
        tunnel = re.search(r"HTTPS_PROXY=(\S+)", text)
        if http and https and tunnel:
            return Running(http[1], f"https://{https[1]}", tunnel[1], folder)
        time.sleep(0.05)
    raise AssertionError(log.read_text()[-3000:])


def check(server: Running, result: dict[str, Any], url: str) -> None:
    """Fetches the result's video and checks that it can be decoded."""
    path = url.partition("/files/")[2]
    answer = httpx.get(f"{server.http}/cdn/files/{path}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "video/mp4"
    fetched = server.data_dir.parent / "fetched.mp4"
    fetched.write_bytes(answer.content)
    with av.open(str(fetched)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    assert frames >= 17
    assert isinstance(result["seed"], int)


@pytest.mark.parametrize(
    "endpoint", [LTXV, pytest.param(OLD, marks=pytest.mark.soak), pytest.param(LTX2, marks=pytest.mark.soak)]
)
def test_python(real: Running, endpoint: str) -> None:
    body = {"prompt": "a disc moves on", "seed": 1, **SMALL_INPUTS[endpoint]}
    env = real.environment(HTTPS_PROXY=real.tunnel, SSL_CERT_FILE=str(real.tls.bundle))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, endpoint, json.dumps(body), str(EXAMPLE)],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *logs, last = done.stdout.splitlines()
    assert any("Sampling" in line for line in logs)
    result = json.loads(last)
    assert result["video"]["url"].startswith("https://v3.fal.media/files/")
    check(real, result, result["video"]["url"])


@pytest.mark.parametrize(
    "endpoint", [LTX2, pytest.param(OLD, marks=pytest.mark.soak), pytest.param(LTXV, marks=pytest.mark.soak)]
)
def test_javascript(real: Running, node: Node, endpoint: str) -> None:
    body = {"prompt": "a disc moves on", "seed": 1, **SMALL_INPUTS[endpoint]}
    given = {"way": "proxy", "base": real.http, "id": endpoint, "path": str(EXAMPLE), "input": body}
    got = node.call("extended", real.environment(), given, timeout=300)
    assert any("Sampling" in message for message in got["messages"]), got["messages"]
    check(real, got["data"], got["data"]["video"]["url"])
