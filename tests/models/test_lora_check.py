"""A LoRA is checked before a run without being downloaded."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from longtake.errors import BadCheckpoint, DownloadFailed, FileTooLarge, InvalidRequest, LongtakeError
from longtake.models import hub_access, lora_check
from longtake.models.hub_access import hub_transport
from longtake.models.lora_check import Transports, check_local_lora, check_lora
from longtake.models.lora_downloads import FETCHED
from longtake.models.lora_names import Lora
from longtake.outbound import PublicTransport
from longtake.settings import Settings
from longtake.video import no_check
from tests.models.stand_in_hub import Hub, serving
from tests.models.test_lora_files import LORA


class Host(BaseHTTPRequestHandler):
    """A host with one LoRA of 1 GB, whose bytes it does not send."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/there.safetensors" else 404)
        self.send_header("Content-Length", "1000000000")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def hub() -> Iterator[Hub]:
    files = {"a.safetensors": bytes(500), "b.safetensors": bytes(500)}
    with serving(Hub({"some/two": files, "some/one": {"s.safetensors": b"1"}}, gated={"some/gated"})) as running:
        yield running


@pytest.fixture
def settings(hub: Hub, tmp_path: Path) -> Settings:
    folder = tmp_path / "loras"
    folder.mkdir()
    (folder / "a.safetensors").write_bytes(LORA)
    (folder / "text.safetensors").write_bytes(b"no LoRA")
    return Settings(loras_dir=folder, data_dir=tmp_path, hf_endpoint=hub.url, trusted_hosts=("127.0.0.1",))


def check(lora: Lora, settings: Settings) -> None:
    transports = Transports(PublicTransport(settings.trusted_hosts), hub_transport(settings))
    check_lora(lora, settings, "me", transports, no_check)


def test_what_is_there_is_not_downloaded(settings: Settings, hub: Hub, site: str) -> None:
    for lora in (
        Lora("a.safetensors"),
        Lora("some/one"),
        Lora("some/two", weight_name="b.safetensors"),
        Lora(f"{site}/there.safetensors"),
    ):
        check(lora, settings)
    assert [path for path in (settings.loras_dir / FETCHED).rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("lora", "error", "text"),
    [
        (Lora("b.safetensors"), InvalidRequest, "There is no LoRA file 'b.safetensors'"),
        (Lora("text.safetensors"), BadCheckpoint, "text.safetensors"),
        (Lora("some/two"), InvalidRequest, "several files"),
        (Lora("some/two", weight_name="c.safetensors"), InvalidRequest, "has no 'c.safetensors'"),
        (Lora("some/other"), DownloadFailed, "no such repository"),
        (Lora("http://site/missing.safetensors"), DownloadFailed, "answered 404"),
        (Lora("../a"), InvalidRequest, "leads out of"),
    ],
)
def test_what_is_not_there_is_told(
    settings: Settings, site: str, lora: Lora, error: type[LongtakeError], text: str
) -> None:
    with pytest.raises(error, match=text):
        check(Lora(lora.path.replace("http://site", site), lora.weight_name), settings)


def test_a_lora_that_is_too_large_is_told(settings: Settings, site: str) -> None:
    with pytest.raises(FileTooLarge):
        check(Lora(f"{site}/there.safetensors"), settings.model_copy(update={"max_lora_bytes": 10**6}))


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("none.safetensors", "There is no LoRA file 'none.safetensors' on this machine"),
        ("text.safetensors", "text.safetensors is not a usable safetensors file"),
        ("none", "is neither a file or folder on this machine, a URL"),
    ],
)
def test_what_is_not_on_this_machine_is_told_to_its_user(settings: Settings, path: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        check_local_lora(Lora(path), settings)


@pytest.mark.parametrize("path", ["a.safetensors", "some/missing", "https://host.example/none", "data:,x"])
def test_a_user_of_this_machine_does_not_wait_for_hosts(settings: Settings, path: str) -> None:
    check_local_lora(Lora(path), settings)


def test_a_hub_that_does_not_answer_is_not_waited_for(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora_check, "ASKED_S", 0.2)
    monkeypatch.setattr(hub_access, "LISTING_S", 20.0)
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DownloadFailed):
            check(Lora("some/one"), settings.model_copy(update={"hf_endpoint": address}))
    assert time.monotonic() - began < 10


def test_a_used_lora_of_the_hub_is_there_although_the_hub_is_not(settings: Settings) -> None:
    away = settings.model_copy(update={"hf_endpoint": "http://127.0.0.1:1"})
    with pytest.raises(DownloadFailed):
        check(Lora("some/one"), away)
    path = settings.loras_dir / FETCHED / "hub" / "some--one" / "v" / "s.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(LORA)
    check(Lora("some/one"), away)
