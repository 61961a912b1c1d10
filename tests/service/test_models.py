"""The models of the server's machine on its pages, and their downloads."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from longtake.service.pulls import MOST_PULLS
from tests.models.stand_in_hub import Hub
from tests.models.stand_in_hub import serving as serving_hub
from tests.service.serving import Served, serving, wait_for

PATH = "/page/models"
NAME, OTHER, THIRD = "ltxv-13b-0.9.7-dev", "ltxv-13b-0.9.8-distilled", "ltxv-13b-0.9.7-distilled"
FILES = (f"{NAME}.safetensors", "ltxv-spatial-upscaler-0.9.7.safetensors", "text_encoder/model.safetensors")
TOKENIZER = "tokenizer/tokenizer.json"


@contextmanager
def downloading(folder: Path, hub: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server whose machine downloads models from `hub` to `folder`. The processes that do so read the environment."""
    monkeypatch.setenv("LONGTAKE_MODELS_DIR", str(folder / "models"))
    monkeypatch.setenv("LONGTAKE_HF_ENDPOINT", hub)
    with serving(folder / "data", slots=("cpu",)) as served:
        try:
            yield served
        finally:
            served.state.pulls.stop()


def model(served: Served, name: str) -> dict[str, Any]:
    listed = served.client().get(PATH).json()
    assert listed["free_bytes"] > 0
    found: dict[str, Any] = next(one for one in listed["models"] if one["name"] == name)
    return found


def test_a_model_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = {name: name.encode() * 10 for name in (*FILES, TOKENIZER)}
    with (
        serving_hub(Hub({"Lightricks/LTX-Video": published})) as hub,
        downloading(tmp_path, hub.url, monkeypatch) as served,
    ):
        before = model(served, NAME)
        assert (before["installed"], before["bytes"], before["pull"]) == (False, 0, None)
        assert "transformer" in before["missing"]
        assert before["missing_bytes"] > 10**9
        answer = served.client().post(f"{PATH}/{NAME}/pull")
        assert answer.status_code == 202
        assert answer.json()["pull"]["running"]
        wait_for(lambda: served.state.pulls.get(NAME) is None)
        after = model(served, NAME)
        assert (after["installed"], after["missing"]) == (True, [])
        assert after["bytes"] == sum(map(len, published.values()))


def test_a_failed_download_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with downloading(tmp_path, "", monkeypatch) as served, served.client() as client:
        monkeypatch.setenv("PYTHONHOME", "/nowhere")
        client.post(f"{PATH}/{NAME}/pull")
        wait_for(lambda: (pull := served.state.pulls.get(NAME)) is not None and pull.error is not None)
        failed = model(served, NAME)["pull"]
        assert (failed["running"], failed["error"]) == (False, "The download ended unexpectedly (exit status 1).")
        assert client.delete(f"{PATH}/{NAME}/pull").status_code == 404


def test_downloads_are_limited_and_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with downloading(tmp_path, hub, monkeypatch) as served, served.client() as client:
            assert MOST_PULLS == 2
            for name in (NAME, OTHER, OTHER):
                assert client.post(f"{PATH}/{name}/pull").status_code == 202
            assert client.post(f"{PATH}/{THIRD}/pull").status_code == 429
            found = model(served, NAME)["pull"]
            assert (found["running"], found["share"], found["message"]) == (True, None, "Asking the hub")
            cancelled = client.delete(f"{PATH}/{NAME}/pull")
            assert (cancelled.status_code, cancelled.json()["pull"]) == (200, None)
            assert client.delete(f"{PATH}/{NAME}/pull").status_code == 404
            assert client.post(f"{PATH}/{THIRD}/pull").status_code == 202


def test_what_cannot_be_downloaded(tmp_path: Path) -> None:
    with serving(tmp_path, slots=("cpu",)) as served, served.client() as client:
        assert client.post(f"{PATH}/unknown/pull").status_code == 404
        embedded = client.post(f"{PATH}/ltxv-tiny/pull")
        assert embedded.status_code == 400
        assert "ships inside the package" in embedded.json()["detail"]
        assert model(served, "ltxv-tiny")["installed"]


METHODS = [("GET", PATH), ("POST", f"{PATH}/{NAME}/pull"), ("DELETE", f"{PATH}/{NAME}/pull")]


@pytest.mark.parametrize(("method", "path"), METHODS)
def test_a_server_without_slots_has_no_models(served: Served, method: str, path: str) -> None:
    assert served.client().request(method, path).status_code == 404


@pytest.mark.parametrize(("method", "path"), METHODS)
def test_only_admins_see_models(tmp_path: Path, method: str, path: str) -> None:
    with serving(tmp_path, slots=("cpu",)) as served, served.client() as client:
        assert client.request(method, path, headers={"sec-fetch-site": "same-site"}).status_code == 403
        key = served.state.keys.create("1", "run")
        assert client.request(method, path, headers={"Authorization": f"Key {key}"}).status_code == 403
        wait_for(lambda: client.request(method, path).status_code == 401)


def test_the_loras_of_the_folder_have_names_for_every_key(tmp_path: Path) -> None:
    folder = tmp_path / "loras"
    for name in ("b.safetensors", "sub/a.safetensors", ".fetched/private.safetensors", "notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    with serving(tmp_path / "data", slots=("cpu",), loras_dir=folder) as served:
        key = served.state.keys.create("mine", "run")
        headers = {"authorization": f"Key {key}"}
        assert served.client().get("/page/loras", headers=headers).json() == {
            "loras": ["b.safetensors", "sub/a.safetensors"]
        }
        assert served.client().get("/page/loras").status_code == 401
    with serving(tmp_path / "none", loras_dir=folder) as served:
        assert served.client().get("/page/loras").json() == {"loras": []}
