"""`longtake serve` with the embedded models, called by both of fal's clients."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from longtake.service.client_env import SHIM
from tests.commands import terminated
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


UPLOAD = """
import sys
import fal_client
print(fal_client.upload_file(sys.argv[1]))
"""

LORA_LAYER = "transformer_blocks.3.attn1.to_out.0"
"""A layer of the embedded model, 192 x 192."""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with server_process(tmp_path_factory.mktemp("real")) as running:
        yield running


@contextmanager
def server_process(home: Path) -> Iterator[Running]:
    """Runs `longtake serve` with the embedded models and its data in a folder below `home`."""
    folder = home / "data"
    ports = ("--port", "0", "--tls", "--tls-port", "0", "--tunnel-port", "0")
    command = [str(Path(sys.executable).with_name("longtake")), "serve", *ports, "--data-dir", str(folder)]
    log = folder.parent / "real.log"
    settings = {
        "LONGTAKE_LORAS_DIR": str(folder.parent / "loras"),
        "LONGTAKE_TRUSTED_HOSTS": "127.0.0.1",
        "LONGTAKE_PRELOAD": LTXV,
    }
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=ROOT, env=os.environ | settings)
    with terminated(process):
        yield _started(process, log, folder)


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


@pytest.fixture
def lora(real: Running) -> Path:
    """A LoRA in float32, which is the model's own dtype on a CPU. It is in the server's LoRA folder."""
    random = np.random.default_rng(1)
    path = real.data_dir.parent / "loras" / "style.safetensors"
    path.parent.mkdir(exist_ok=True)
    shapes = {"A": (4, 192), "B": (192, 4)}
    tensors = {
        f"{LORA_LAYER}.lora_{side}.weight": random.normal(0, 0.2, shape).astype(np.float32)
        for side, shape in shapes.items()
    }
    save_file(tensors, path)
    return path


def upload(path: Path, environment: dict[str, str]) -> str:
    """The URL of a file that fal's client has uploaded."""
    command = [sys.executable, "-c", UPLOAD, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@contextmanager
def page_server(folder: Path) -> Iterator[str]:
    """A server of the files in a folder, on another port of this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def planes(real: Running, loras: list[dict[str, Any]], source: str | None = None) -> list[NDArray[np.uint8]]:
    """The luma of each frame of the video that a request with these LoRAs makes. `source` is a URL of the example."""
    data_uri = f"data:video/mp4;base64,{b64encode(EXAMPLE.read_bytes()).decode()}"
    video = {**SMALL_INPUTS[LTXV]["video"], "video_url": source or data_uri}
    body = {
        "prompt": "a disc moves on",
        "seed": 1,
        **SMALL_INPUTS[LTXV],
        "num_frames": 17,
        "video": video,
        "loras": loras,
    }
    answer = httpx.post(f"{real.http}/run/{LTXV}", json=body, timeout=300)
    assert answer.status_code == 200, answer.text[:2000]
    content = httpx.get(answer.json()["video"]["url"]).content
    with av.open(BytesIO(content)) as container:
        return [frame.to_ndarray()[: frame.height] for frame in container.decode(video=0)]


def test_a_lora_is_read_from_everywhere_that_fals_clients_name(real: Running, lora: Path) -> None:
    """The same LoRA from four places has bit for bit the effect of four times the file in the LoRA folder.

    The source is downloaded once, before the worker process gets the request, and is once in the request itself.
    """
    tunnelled = real.environment(HTTPS_PROXY=real.tunnel, SSL_CERT_FILE=str(real.tls.bundle))
    shimmed = real.environment(PYTHONPATH=str(SHIM), FAL_LOCAL_URL=real.http)
    shutil.copyfile(EXAMPLE, lora.parent / "source.mp4")
    with page_server(lora.parent) as trusted:
        paths = [
            upload(lora, tunnelled),
            upload(lora, shimmed),
            f"data:application/octet-stream;base64,{b64encode(lora.read_bytes()).decode()}",
            f"{trusted}/style.safetensors",
        ]
        assert paths[0].startswith("https://v3.fal.media/files/")
        assert paths[1].startswith(f"{real.http}/")
        loras = [{"path": path, "scale": 2**-number} for number, path in enumerate(paths)]
        found = planes(real, loras, f"{trusted}/source.mp4")
    expected = planes(real, [{"path": lora.name, "scale": 2**-number} for number in range(4)])
    assert len(found) == len(expected) == 17
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    plain = planes(real, [])
    assert np.abs(plain[-1].astype(int) - found[-1]).mean() > 1


@pytest.mark.parametrize(
    "endpoint", [LTX2, pytest.param(OLD, marks=pytest.mark.soak), pytest.param(LTXV, marks=pytest.mark.soak)]
)
def test_javascript(real: Running, node: Node, endpoint: str) -> None:
    body = {"prompt": "a disc moves on", "seed": 1, **SMALL_INPUTS[endpoint]}
    given = {"way": "proxy", "base": real.http, "id": endpoint, "path": str(EXAMPLE), "input": body}
    got = node.call("extended", real.environment(), given, timeout=300)
    assert any("Sampling" in message for message in got["messages"]), got["messages"]
    check(real, got["data"], got["data"]["video"]["url"])
