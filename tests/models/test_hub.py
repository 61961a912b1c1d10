"""Files come from a (local stand-in for the) hub whole, resumed and verified, or not at all."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import repeat
from pathlib import Path

import pytest

from longtake.errors import Cancelled, DownloadFailed
from longtake.media import download
from longtake.models import hub, hub_access
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


def _arrived(folder: Path) -> Path:
    """Where the file is while it is verified."""
    return hub._hidden(folder, HubFile("some/model", "big.safetensors", 0, None), ".part")


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
    monkeypatch.setattr(download, "RETRY_PAUSES_S", (0.0,))
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
        if not count and _arrived(tmp_path).exists():
            raise Cancelled

    with pytest.raises(Cancelled):
        hub.fetch(_big(stand_in), tmp_path, _settings(stand_in), cancel)
    assert not (tmp_path / "big.safetensors").exists()


@pytest.mark.parametrize("at", ["download", "verification"])
def test_what_a_killed_process_leaves_is_deleted(stand_in: Hub, tmp_path: Path, at: str) -> None:
    """Neither its unfinished bytes stay, nor are they taken for the file."""
    program = f"""
import os, signal, sys
from pathlib import Path
from longtake.models import hub
from longtake.settings import Settings
folder, settings = Path(sys.argv[1]), Settings(hf_endpoint=sys.argv[2])
(file,) = (file for file in hub.files("some/model", settings) if file.path == "big.safetensors")
def kill(count):
    if bool(count) == {at == "download"} and (count or any(folder.rglob("*.part"))):
        os.kill(os.getpid(), signal.SIGKILL)
hub.fetch(file, folder, settings, kill)
"""
    command = [sys.executable, "-c", program, str(tmp_path), stand_in.url]
    assert subprocess.run(command, timeout=60).returncode == -signal.SIGKILL
    assert not (tmp_path / "big.safetensors").exists()
    assert _arrived(tmp_path).exists()
    assert hub.fetch(_big(stand_in), tmp_path, _settings(stand_in)).read_bytes() == BIG
    assert not _arrived(tmp_path).exists()


def test_two_calls_for_one_file_download_it_once(stand_in: Hub, tmp_path: Path) -> None:
    file, settings = _big(stand_in), _settings(stand_in)
    is_verified, may_go_on, waits = threading.Event(), threading.Event(), threading.Event()

    def slow(count: int) -> None:
        if not count and _arrived(tmp_path).exists():
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


def test_a_silent_hub_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_access, "LISTING_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(DownloadFailed, match="in time"):
        hub.files("some/model", Settings(hf_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}"))


def test_a_list_that_drips_is_given_up(stand_in: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_access, "LISTING_S", 0.2)

    def pieces() -> Iterator[bytes]:
        while True:
            yield b" "
            time.sleep(0.01)

    stand_in.listing = pieces()
    with pytest.raises(DownloadFailed, match="did not deliver the file in time"):
        hub.files("some/model", _settings(stand_in))


def test_a_list_without_end_is_refused_and_a_long_one_is_read(stand_in: Hub) -> None:
    entry = json.dumps({"rfilename": f"vae/{'x' * 60}.json", "size": 1, "blobId": "0" * 40}).encode()
    stand_in.listing = [b'{"siblings": [', *repeat(entry + b",", 20_000), entry, b"]}"]
    assert len(hub.files("some/model", _settings(stand_in))) == 20_001
    sent: list[int] = []

    def pieces() -> Iterator[bytes]:
        yield b'{"siblings": ['
        for piece in repeat((entry + b",") * 100, 400 * 2**20 // len(entry) // 100):
            sent.append(len(piece))
            yield piece

    stand_in.listing = pieces()
    with pytest.raises(DownloadFailed, match="some/model cannot be fetched: the hub's list of its files has more than"):
        hub.files("some/model", _settings(stand_in))
    assert sum(sent) < 100 * 2**20, "the rest was not read"


@pytest.mark.parametrize(
    "changed",
    [{"size": None}, {"size": -1}, {"size": True}, {"size": "9"}, {"size": 1e300}, {"lfs": {}}, {"lfs": 3}]
    + [{"lfs": {"sha256": text}} for text in ("", "x" * 64, "../../x", 7)],
)
def test_a_size_or_a_hash_that_is_none_is_refused(stand_in: Hub, changed: dict[str, object]) -> None:
    whole = {"rfilename": "a.json", "size": 1, "lfs": {"sha256": "0" * 64}}
    stand_in.listing = [json.dumps({"siblings": [whole]}).encode()]
    assert hub.files("some/model", _settings(stand_in)) == [HubFile("some/model", "a.json", 1, "0" * 64)]
    stand_in.listing = [json.dumps({"siblings": [whole | changed]}).encode()]
    expected = nullcontext() if changed == {"lfs": {}} else pytest.raises(DownloadFailed, match="cannot be read")
    with expected:
        hub.files("some/model", _settings(stand_in))


def test_names_that_are_no_paths_are_left_out(stand_in: Hub) -> None:
    names = ["../../x.json", "/etc/x.json", "a/../../x.json", "a\\x.json", "\0.json", "a\n.json", "vae/x.json"]
    stand_in.listing = [json.dumps({"siblings": [{"rfilename": name, "size": 1} for name in names]}).encode()]
    assert [file.path for file in hub.files("some/model", _settings(stand_in))] == ["vae/x.json"]


def test_a_list_elsewhere_inside_is_not_asked_for(stand_in: Hub) -> None:
    """The hub itself may be inside, but what it redirects to may not."""
    with serving(Hub({})) as redirecting, socket.create_server(("127.0.0.2", 0)) as inside:
        redirecting.list_elsewhere = f"http://127.0.0.2:{inside.getsockname()[1]}"
        with pytest.raises(DownloadFailed, match="does not lead to the public internet"):
            hub.files("some/model", _settings(redirecting))
        inside.setblocking(False)
        with pytest.raises(BlockingIOError):
            inside.accept()


def test_a_file_larger_than_stated_is_given_up(stand_in: Hub, tmp_path: Path) -> None:
    file = _big(stand_in)
    stand_in.damage["big.safetensors"] = BIG * 100
    reported: list[int] = []
    with pytest.raises(DownloadFailed, match="sends more than"):
        hub.fetch(file, tmp_path, _settings(stand_in), reported.append)
    assert sum(reported) < 4 * len(BIG)
    assert not (tmp_path / "big.safetensors").exists()


def test_no_other_library_downloads_files() -> None:
    """Libraries of the hub follow redirects to any host, and cannot always be cancelled."""
    others = re.compile(r"hf_hub_download|snapshot_download|HfApi|hf_xet|HfFileSystem|urlopen")
    source = Path(hub.__file__).parents[1]
    assert [path.name for path in source.rglob("*.py") if others.search(path.read_text())] == []


def test_a_file_that_drips_is_given_up(stand_in: Hub, tmp_path: Path) -> None:
    stand_in.drips.add("big.safetensors")
    slow = _settings(stand_in, fetch_min_rate=10_000, fetch_window_s=0.3)
    with pytest.raises(
        DownloadFailed, match=r"delivered [\d.]+ KB/s over 0\.\d* s; a download needs at least 9\.8 KB/s"
    ):
        hub.fetch(_big(stand_in), tmp_path, slow)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize("cancelled", ["dripping", "silent"])
def test_a_cancellation_reaches_a_slow_download_at_once(stand_in: Hub, tmp_path: Path, cancelled: str) -> None:
    goes_on = threading.Event()
    if cancelled == "silent":
        stand_in.waits["big.safetensors"] = goes_on
    else:
        stand_in.drips.add("big.safetensors")
    until = time.monotonic() + 0.5

    def cancel(count: int) -> None:
        if time.monotonic() > until:
            raise Cancelled

    with pytest.raises(Cancelled):
        hub.fetch(_big(stand_in), tmp_path, _settings(stand_in), cancel)
    assert time.monotonic() - until < 10, "a quarter of a second, and more on a busy machine"
    goes_on.set()


def test_a_download_is_redirected_to_public_and_trusted_hosts_only(stand_in: Hub, tmp_path: Path) -> None:
    """The hub itself may be inside, but what it redirects to may not, unless the operator trusts it."""
    file = _big(stand_in)
    with serving(Hub({"some/model": {"big.safetensors": BIG}}), "127.0.0.2") as elsewhere:
        stand_in.elsewhere = elsewhere.url
        secret = _settings(stand_in, hf_token="hf_secret")
        with pytest.raises(DownloadFailed, match="does not lead to the public internet"):
            hub.fetch(file, tmp_path, secret)
        assert not elsewhere.requests
        trusting = secret.model_copy(update={"trusted_hosts": ["127.0.0.2"]})
        assert hub.fetch(file, tmp_path, trusting).read_bytes() == BIG
        assert elsewhere.tokens == {None}, "the token is for the hub alone"


def test_files_whose_names_look_like_those_of_helper_files(tmp_path: Path) -> None:
    names = ["a", "a.part", "a.lock", "b.part/a", "b", "b.lock/a", "b.part/b.lock/a"]
    contents = {name: name.encode() * 1000 for name in names}
    with serving(Hub({"some/model": contents})) as running:
        files = hub.files("some/model", _settings(running))
        running.waits = {name: threading.Event() for name in ("a", "b")}
        with ThreadPoolExecutor() as threads:
            fetched = [threads.submit(hub.fetch, file, tmp_path, _settings(running)) for file in files]
            others = [one.result() for one, file in zip(fetched, files, strict=True) if file.path not in ("a", "b")]
            for event in running.waits.values():
                event.set()
            assert len([one.result() for one in fetched]) == len(others) + 2
    assert {name: (tmp_path / name).read_bytes() for name in names} == contents


def test_a_file_in_the_place_of_a_folder_is_told(stand_in: Hub, tmp_path: Path) -> None:
    (tmp_path / "vae").touch()
    (config,) = (file for file in hub.files("some/model", _settings(stand_in)) if file.path == "vae/config.json")
    with pytest.raises(DownloadFailed, match="some/model cannot be fetched: there is"):
        hub.fetch(config, tmp_path, _settings(stand_in))


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (BIG[::-1], "its SHA-256 is not the hub's"),
        (BIG[1:], "came with 102399 bytes instead of 102400"),
        (BIG + b"!", "sends more than the 102400 bytes"),
        (None, "the hub lists the file big.safetensors, but does not have it"),
    ],
    ids=["other", "shorter", "longer", "deleted"],
)
def test_a_file_that_was_changed_since_it_was_listed(
    stand_in: Hub, tmp_path: Path, now: bytes | None, words: str
) -> None:
    file = _big(stand_in)
    if now is None:
        del stand_in.repos["some/model"]["big.safetensors"]
    else:
        stand_in.repos["some/model"]["big.safetensors"] = now
    with pytest.raises(DownloadFailed, match=words):
        hub.fetch(file, tmp_path, _settings(stand_in))
    assert not (tmp_path / "big.safetensors").exists()


def test_a_disk_that_fills_during_a_download_is_no_error_of_the_hub(stand_in: Hub, tmp_path: Path) -> None:
    """A limit on the size of new files stands for the full disk."""
    resource = pytest.importorskip("resource")
    file, (soft, hard) = _big(stand_in), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(BIG) // 2, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            hub.fetch(file, tmp_path, _settings(stand_in))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.rglob("*.part"))
    assert hub.fetch(file, tmp_path, _settings(stand_in)).read_bytes() == BIG


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
    with pytest.raises(DownloadFailed, match=r"127\.0\.0\.1:9/api/models/some/model"):
        hub.files("some/model", Settings(hf_endpoint="http://127.0.0.1:9"))
    for path in ("../escape", "/etc/passwd"):
        with pytest.raises(DownloadFailed, match="no plain path"):
            hub.fetch(HubFile("some/model", path, 1, None), tmp_path, _settings(stand_in))
    with pytest.raises(DownloadFailed, match="bytes free"):
        hub.fetch(HubFile("some/model", "big", 2**60, None), tmp_path, _settings(stand_in))
