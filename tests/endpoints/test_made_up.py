"""An endpoint that only the tests define works through HTTP, the command line and the library."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import longtake
from longtake.cli import app
from longtake.endpoints import ENDPOINTS
from longtake.errors import InvalidRequest
from longtake.worker.slots import Slots
from tests.endpoints.made_up import ENDPOINT
from tests.service.serving import serving, wait_for

CLIP = Path(__file__).parents[2] / "examples" / "clip.mp4"
WORKER = (sys.executable, "-m", "tests.endpoints.made_up")
COLOUR = (230, 30, 200)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENDPOINTS, ENDPOINT.id, ENDPOINT)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.new("RGB", (112, 64), COLOUR).save(path)
    return path


def frames_of(path: Path) -> np.ndarray[Any, Any]:
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def check(path: Path, new_frames: int) -> None:
    """The file is a GIF that ends at the picture."""
    assert path.read_bytes()[:6] == b"GIF89a"
    frames = frames_of(path)
    assert len(frames) == 33 + new_frames
    last, before = (np.abs(frames[number].mean((0, 1)) - COLOUR).mean() for number in (-1, 32))
    assert last < 0.65 * before, "the end image is reached"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A server with one slot, whose worker process knows the endpoint."""
    with serving(tmp_path / "data") as served:
        chosen = served.state.settings.model_copy(update={"slots": ("cpu",)})
        slots = Slots(chosen, served.state.store, served.state.statuses.mark_changed, command=WORKER)
        slots.start()
        yield served.url
        slots.stop()


def test_over_http(url: str, picture: Path, tmp_path: Path) -> None:
    client = httpx.Client(base_url=url, timeout=60)
    addresses = [
        client.post("/cdn/files/upload", content=path.read_bytes(), headers={"content-type": kind}).json()["access_url"]
        for path, kind in ((CLIP, "video/mp4"), (picture, "image/png"))
    ]
    body = {"text": "on", "footage": {"address": addresses[0]}, "picture": addresses[1], "length": 8, "number": 3}
    sent = client.post(f"/queue/{ENDPOINT.id}", json=body).json()
    wait_for(lambda: client.get(sent["status_url"]).json()["status"] == "COMPLETED", 120)
    result = client.get(sent["response_url"])
    assert result.status_code == 200, result.text
    assert result.json()["seed"] == 3
    assert set(result.json()) == {"video", "seed"}
    assert result.json()["video"]["content_type"] == "image/gif"
    assert result.headers["x-fal-billable-units"] == "8"
    assert result.headers["x-longtake-price-usd"] == "0.008"
    (tmp_path / "got.gif").write_bytes(client.get(result.json()["video"]["url"]).content)
    check(tmp_path / "got.gif", 8)
    wrong = client.post(f"/run/{ENDPOINT.id}", json=body | {"length": 7})
    assert wrong.status_code == 422
    assert wrong.json()["detail"][0]["loc"] == ["body", "length"]
    (price,) = client.get("/v1/models/pricing", params={"endpoint_id": ENDPOINT.id}).json()["prices"]
    assert (price["unit"], price["unit_price"]) == ("frames", 0.001)
    document = client.get("/api/openapi/queue/openapi.json", params={"endpoint_id": ENDPOINT.id}).json()
    assert "from_its_start" in document["components"]["schemas"]["Footage"]["properties"]


def test_on_the_command_line(picture: Path, tmp_path: Path) -> None:
    def run(*args: object) -> Any:
        return CliRunner().invoke(app, [str(arg) for arg in args])

    out = tmp_path / "out.gif"
    arguments = ("extend", CLIP, "-o", out, "--endpoint", "loops", "--text", "on", "--picture", picture, "--number", 3)
    done = run(*arguments, "--length", 8, "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["plan"]["endpoint"], document["plan"]["price_usd"]) == (ENDPOINT.id, 0.008)
    check(out, 8)
    shown = run("extend", "--endpoint", "loops", "--help-all").stdout
    assert "--from-its-start" in shown
    assert "--prompt" not in shown
    assert "--adapter" in shown
    both = run("plan", CLIP, "--endpoint", "loops", "--text", "on", "--length", 8, "--new-frames", 9)
    assert (both.exit_code, "Both length and new_frames are given" in both.stderr) == (2, True)
    plain = run("plan", CLIP, "--endpoint", "loops", "--text", "on", "--json")
    assert json.loads(plain.stdout)["new_frames"] == 96


def test_in_the_library(picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gif"
    result = longtake.extend(CLIP, out, endpoint="loops", text="on", picture=str(picture), length=8, number=3)
    assert result.plan.seed == 3
    check(out, 8)
    with longtake.load("ltx2-tiny") as model:
        model.extend(CLIP, tmp_path / "back.gif", endpoint="loops", text="on", from_its_start=True, new_frames=8)
    assert len(frames_of(tmp_path / "back.gif")) == 41
    with pytest.raises(InvalidRequest, match="picture: There is no file") as error:
        longtake.plan(CLIP, endpoint="loops", text="on", picture=str(tmp_path / "none.png"))
    assert error.value.loc == ("body", "picture")
