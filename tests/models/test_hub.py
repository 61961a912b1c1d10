"""Files come from a (local stand-in for the) hub whole, resumed and verified, or not at all."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from longtake.errors import Cancelled, DownloadFailed
from longtake.models import hub
from longtake.models.hub import HubFile
from longtake.settings import Settings
from tests.descriptors import no_free_descriptor
from tests.models.stand_in_hub import Hub, serving

BIG = bytes(range(256)) * 400


@pytest.fixture
def stand_in() -> Iterator[Hub]:
    with serving(Hub({"some/model": {"vae/config.json": b"{}", "big.safetensors": BIG}})) as running:
        yield running


def _settings(stand_in: Hub, **changes: object) -> Settings:
    return Settings(hf_endpoint=stand_in.url, **changes)  # type: ignore[arg-type]


def _big(stand_in: Hub) -> HubFile:
    return next(file for file in hub.files("some/model", _settings(stand_in)) if file.path == "big.safetensors")


def test_lists_files_with_sizes_and_hashes(stand_in: Hub) -> None:
    files = {file.path: file for file in hub.files("some/model", _settings(stand_in))}
    assert files["vae/config.json"] == HubFile("some/model", "vae/config.json", 2, None)
    assert files["big.safetensors"].num_bytes == len(BIG)
    assert files["big.safetensors"].sha256 is not None


def test_a_missing_descriptor_is_not_the_fault_of_the_hub(stand_in: Hub) -> None:
    hub.files("some/model", _settings(stand_in))  # imports what is imported late
    elsewhere = _settings(stand_in).model_copy(update={"hf_endpoint": "http://127.0.0.1:1"})
    with no_free_descriptor(), pytest.raises(OSError, match="Too many open files"):
        hub.files("some/model", elsewhere)


def test_fetches_once_and_tells_of_every_byte(stand_in: Hub, tmp_path: Path) -> None:
    reported: list[int] = []
    got = hub.fetch(_big(stand_in), tmp_path, _settings(stand_in), reported.append)
    assert got == tmp_path / "big.safetensors"
    assert got.read_bytes() == BIG
    assert sum(reported) == len(BIG)
    before = len(stand_in.requests)
    hub.fetch(_big(stand_in), tmp_path, _settings(stand_in))
    assert [request[0] for request in stand_in.requests[before:]] == ["GET"]
    assert "api/models" in stand_in.requests[-1][1]


def test_goes_on_where_it_stopped(stand_in: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    stand_in.cut["big.safetensors"] = 5000
    reported: list[int] = []
    got = hub.fetch(_big(stand_in), tmp_path, _settings(stand_in), reported.append)
    assert got.read_bytes() == BIG
    assert sum(reported) == len(BIG)
    assert "bytes=5000-" in {request[2] for request in stand_in.requests}


def test_can_be_cancelled_and_taken_up_again(stand_in: Hub, tmp_path: Path) -> None:
    def cancel(count: int) -> None:
        if count:
            raise Cancelled

    with pytest.raises(Cancelled):
        hub.fetch(_big(stand_in), tmp_path, _settings(stand_in), cancel)
    assert not (tmp_path / "big.safetensors").exists()
    assert hub.fetch(_big(stand_in), tmp_path, _settings(stand_in)).read_bytes() == BIG


def test_a_file_whose_verification_is_cancelled_is_not_kept(stand_in: Hub, tmp_path: Path) -> None:
    def cancel(count: int) -> None:
        if not count and (tmp_path / "big.safetensors").exists():
            raise Cancelled

    with pytest.raises(Cancelled):
        hub.fetch(_big(stand_in), tmp_path, _settings(stand_in), cancel)
    assert not (tmp_path / "big.safetensors").exists()


def test_two_calls_for_one_file_download_it_once(stand_in: Hub, tmp_path: Path) -> None:
    file, settings = _big(stand_in), _settings(stand_in)
    is_verified, may_go_on, waits = threading.Event(), threading.Event(), threading.Event()

    def slow(count: int) -> None:
        if not count and (tmp_path / "big.safetensors").exists():
            is_verified.set()
            assert may_go_on.wait(5)

    def cancel(count: int) -> None:
        assert not count
        raise Cancelled

    def go_on(count: int) -> None:
        waits.set()

    with ThreadPoolExecutor() as threads:
        first = threads.submit(hub.fetch, file, tmp_path, settings, slow)
        assert is_verified.wait(5)
        with pytest.raises(Cancelled):
            hub.fetch(file, tmp_path, settings, cancel)
        second = threads.submit(hub.fetch, file, tmp_path, settings, go_on)
        assert waits.wait(5)
        assert not second.done(), "the file is not verified yet"
        may_go_on.set()
        assert first.result().read_bytes() == second.result().read_bytes() == BIG
    assert [method for method, path, _ in stand_in.requests if "resolve" in path].count("GET") == 1


def test_a_silent_hub_is_given_up(stand_in: Hub) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(DownloadFailed, match="did not answer"):
        hub.files("some/model", Settings(hf_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}"), answer_s=0.1)


def test_a_damaged_file_is_not_kept(stand_in: Hub, tmp_path: Path) -> None:
    stand_in.damage["big.safetensors"] = BIG[:-1] + b"!"
    with pytest.raises(DownloadFailed, match="came damaged"):
        hub.fetch(_big(stand_in), tmp_path, _settings(stand_in))
    assert not (tmp_path / "big.safetensors").exists()


def test_what_cannot_be_had_is_said(stand_in: Hub, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="no such repository"):
        hub.files("some/other", _settings(stand_in))
    with pytest.raises(DownloadFailed, match="LONGTAKE_OFFLINE is set"):
        hub.files("some/model", _settings(stand_in, offline=True))
    with pytest.raises(DownloadFailed, match="LONGTAKE_OFFLINE is set"):
        hub.fetch(_big(stand_in), tmp_path, _settings(stand_in, offline=True))
    with pytest.raises(DownloadFailed, match="the hub did not answer"):
        hub.files("some/model", Settings(hf_endpoint="http://127.0.0.1:9"))
    for path in ("../escape", "/etc/passwd"):
        with pytest.raises(DownloadFailed, match="no plain path"):
            hub.fetch(HubFile("some/model", path, 1, None), tmp_path, _settings(stand_in))
    with pytest.raises(DownloadFailed, match="bytes free"):
        hub.fetch(HubFile("some/model", "big", 2**60, None), tmp_path, _settings(stand_in))
