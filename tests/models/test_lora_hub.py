"""LoRAs come from a (local stand-in for the) hub whole and within the limits of all downloads, or not at all."""

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from longtake.errors import Cancelled, DownloadFailed, FileTooLarge, InvalidRequest
from longtake.media import download
from longtake.models import hub_access
from longtake.models.hub_access import hub_transport
from longtake.models.lora_downloads import FETCHED, public_folder
from longtake.models.lora_files import LoraSources, download_from_hub
from longtake.models.lora_names import Lora
from longtake.settings import Settings
from tests.models.stand_in_hub import Hub, serving
from tests.service.serving import wait_for

LARGE = Lora("some/lora", "s.safetensors")
"""A LoRA for which the hub states its SHA-256."""

SMALL = Lora("some/single")


@pytest.fixture
def hub() -> Iterator[Hub]:
    files = {"s.safetensors": bytes(500), "README.md": b"", "sub/t.safetensors": bytes(300)}
    with serving(Hub({"some/lora": files, "some/single": {"s.safetensors": b"1"}, "some/none": {}})) as running:
        yield running


@pytest.fixture
def settings(hub: Hub, tmp_path: Path) -> Settings:
    return Settings(loras_dir=tmp_path / "loras", data_dir=tmp_path, hf_endpoint=hub.url)


def with_token(settings: Settings) -> Settings:
    return settings.model_copy(update={"hf_token": SecretStr("hf_abc")})


def get(lora: Lora, settings: Settings, *, any_path: bool = False, caller: str | None = "me", **sources: Any) -> Path:
    """Downloads a LoRA as a server does, or for the machine's own user."""
    transport = None if any_path else hub_transport(settings)
    asking = LoraSources(any_path=any_path, caller=caller, hub_transport=transport, **sources)
    return download_from_hub(lora, settings, asking).path


def kept(settings: Settings) -> list[Path]:
    """The files of all downloads, finished or not."""
    return [path for path in (settings.loras_dir / FETCHED).rglob("*") if path.is_file()]


def test_a_repository(hub: Hub, settings: Settings) -> None:
    assert get(SMALL, settings).read_bytes() == b"1"
    assert get(Lora("some/lora", "sub/t.safetensors"), settings).read_bytes() == bytes(300)
    with pytest.raises(InvalidRequest, match=r"several files \(s\.safetensors, sub/t\.safetensors\)"):
        get(Lora("some/lora"), settings)
    for name in ("t.safetensors", "README.md", "../lora/s.safetensors", "half \ud800.safetensors"):
        with pytest.raises(InvalidRequest, match=r"has no .*; it has s\.safetensors, sub/t\.safetensors\."):
            get(Lora("some/lora", name), settings)
    with pytest.raises(InvalidRequest, match=r"no \.safetensors file"):
        get(Lora("some/none"), settings)
    for absent in (Lora("some/absent"), Lora("some/absent", "s.safetensors")):
        with pytest.raises(DownloadFailed, match="some/absent cannot be fetched: the hub has no such repository"):
            get(absent, settings)
    with pytest.raises(FileTooLarge, match="larger than 400 bytes"):
        get(LARGE, settings.model_copy(update={"max_lora_bytes": 400}))
    assert {path.name for path in kept(settings)} == {"s.safetensors", "t.safetensors"}


def test_only_a_new_version_is_downloaded(hub: Hub, settings: Settings) -> None:
    for lora in (LARGE, SMALL):
        first = download_from_hub(lora, settings, LoraSources())
        again = download_from_hub(lora, settings, LoraSources())
        assert (first.is_new, again.is_new, again.path) == (True, False, first.path)
    hub.repos["some/lora"]["s.safetensors"] = b"\1" * 500
    new = download_from_hub(LARGE, settings, LoraSources())
    assert new.is_new
    assert new.path.read_bytes() == b"\1" * 500
    new.path.unlink()
    assert get(LARGE, settings).read_bytes() == b"\1" * 500, "another request has deleted it"


def test_what_version_0_1_has_downloaded_is_used(hub: Hub, settings: Settings) -> None:
    old = public_folder(settings) / "some--lora" / sha256(bytes(500)).hexdigest()[:16] / "s.safetensors"
    small = public_folder(settings) / "some--single" / "1" / "s.safetensors"  # named after its size
    for path in (old, small):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"old")
    assert get(LARGE, settings) == old
    assert get(SMALL, settings.model_copy(update={"offline": True})) == small
    assert get(SMALL, settings).read_bytes() == b"1"


def test_only_the_machines_own_user_asks_with_the_token(hub: Hub, settings: Settings) -> None:
    get(SMALL, with_token(settings))
    assert hub.tokens == {None}
    hub.tokens.clear()
    get(SMALL, with_token(settings), any_path=True)
    assert hub.tokens == {"Bearer hf_abc"}


def test_the_token_is_for_the_hub_alone(hub: Hub, settings: Settings) -> None:
    with serving(Hub(hub.repos)) as elsewhere:
        hub.elsewhere = elsewhere.url
        assert get(LARGE, with_token(settings), any_path=True, caller=None).read_bytes() == bytes(500)
        assert hub.tokens == {"Bearer hf_abc"}
        assert elsewhere.tokens == {None}
        elsewhere.damage["s.safetensors"] = b"\1" * 500
        with pytest.raises(DownloadFailed, match=r"s\.safetensors came damaged"):
            get(LARGE, settings)


def test_what_came_with_the_token_is_for_the_machines_own_user_alone(hub: Hub, settings: Settings) -> None:
    got = get(LARGE, with_token(settings), any_path=True, caller=None)
    offline = with_token(settings).model_copy(update={"offline": True})
    assert get(LARGE, offline, any_path=True, caller=None) == got
    with pytest.raises(DownloadFailed, match="LONGTAKE_OFFLINE"):
        get(LARGE, offline)
    public = get(LARGE, settings)
    assert get(LARGE, offline, caller="you") == public != got


def test_what_is_here_serves_when_the_hub_does_not(
    hub: Hub, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = Lora("some/lora", "sub/t.safetensors")
    got = get(lora, settings)
    requests = len(hub.requests)
    offline = settings.model_copy(update={"offline": True})
    assert get(lora, offline) == get(Lora("some/lora"), offline) == got
    assert len(hub.requests) == requests
    gone = settings.model_copy(update={"hf_endpoint": "http://127.0.0.1:9"})
    assert get(lora, gone) == get(Lora("some/lora"), gone) == got
    for missing in (SMALL, LARGE):
        with pytest.raises(DownloadFailed, match="LONGTAKE_OFFLINE"):
            get(missing, offline)
        with pytest.raises(DownloadFailed, match=r"127\.0\.0\.1:9/.*some"):
            get(missing, gone)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert get(lora, settings) == got
    with pytest.raises(DownloadFailed, match="HF_HUB_OFFLINE is set"):
        get(SMALL, settings)


def test_what_the_hub_refuses_is_told(hub: Hub, settings: Settings) -> None:
    hub.gated.add("some/lora")
    with pytest.raises(DownloadFailed, match="licence must be accepted on the hub first, and LONGTAKE_HF_TOKEN set"):
        get(LARGE, settings)
    assert get(LARGE, with_token(settings), any_path=True).read_bytes() == bytes(500)


def test_redirects_stay_out_of_the_internal_network(hub: Hub, settings: Settings) -> None:
    hub.elsewhere = "http://10.0.0.1"
    with pytest.raises(DownloadFailed, match="does not lead to the public internet"):
        get(LARGE, settings)


def test_a_server_uses_the_proxy_that_the_environment_names_for_the_hub(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", "http://proxy.example")
    assert hub_transport(settings) is None
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert hub_transport(settings) is not None
    wrong = settings.model_copy(update={"hf_endpoint": "http://[x"})
    with pytest.raises(InvalidRequest, match=r"'http://\[x/some"):
        get(LARGE, wrong)


def test_a_hub_that_drips_is_given_up(hub: Hub, settings: Settings) -> None:
    hub.drips.add("s.safetensors")
    quick = settings.model_copy(update={"fetch_min_rate": 10**4, "fetch_window_s": 0.2})
    with pytest.raises(DownloadFailed, match=r"a download needs at least 9\.8 KB/s"):
        get(LARGE, quick)
    assert kept(settings) == []


def test_a_hub_that_breaks_off_is_tried_again_and_a_damaged_file_is_not_kept(
    hub: Hub, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "RETRY_PAUSES_S", (0.01,))
    hub.cut["s.safetensors"] = 100
    got = get(LARGE, settings)
    assert got.read_bytes() == bytes(500)
    hub.repos["some/lora"]["s.safetensors"] = b"\1" * 500
    for damaged in (b"\1" * 499, b"\1" * 501, b"\1" * 499 + b"\2"):
        hub.damage["s.safetensors"] = damaged
        with pytest.raises(DownloadFailed, match="came damaged"):
            get(LARGE, settings)
    assert kept(settings) == [got]


def test_a_list_without_end_is_refused(hub: Hub, settings: Settings) -> None:
    sent: list[int] = []

    def pieces() -> Iterator[bytes]:
        for piece in repeat(b'{"rfilename": "a.safetensors"},' * 1000, 50 * 2**20 // 31_000):
            sent.append(len(piece))
            yield piece

    hub.listing = pieces()
    with pytest.raises(InvalidRequest, match="some/lora has too many files to list: name one as weight_name"):
        get(Lora("some/lora"), settings)
    assert sum(sent) < 25 * 2**20, "the rest was not read"
    assert get(LARGE, settings).read_bytes() == bytes(500)


def test_a_list_that_drips_is_given_up(hub: Hub, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def pieces() -> Iterator[bytes]:
        while True:
            yield b" "
            time.sleep(0.01)

    monkeypatch.setattr(hub_access, "LISTING_S", 0.2)
    hub.listing = pieces()
    with pytest.raises(DownloadFailed, match="did not deliver the file in time"):
        get(Lora("some/lora"), settings)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"[" * 100_000,
        b'{"siblings": 3}',
        b'{"siblings": [{"x": 1}]}',
        b'{"siblings": "ab"}',
    ],
)
def test_a_list_that_is_none_is_told(hub: Hub, settings: Settings, content: bytes) -> None:
    hub.listing = [content]
    with pytest.raises(DownloadFailed, match="the hub's list of its files cannot be read"):
        get(SMALL, settings)


def test_names_that_are_no_paths_are_left_out(hub: Hub, settings: Settings) -> None:
    bad = ("../x", "/etc/x", "a//x", "a/./x", "a\\\\x", "\\ud800", "\\u0000", "x" * 300, "sub/" * 200 + "x")
    entries = ", ".join(f'{{"rfilename": "{name}.safetensors"}}' for name in (*bad, "s"))
    hub.listing = [f'{{"siblings": [{{"rfilename": 3}}, {entries}]}}'.encode()]
    assert get(Lora("some/lora"), settings).read_bytes() == bytes(500)


@pytest.mark.parametrize("tag", ["../../../../x", "/tmp/x", "7", "..", "a" * 5000])
def test_a_version_is_no_path(hub: Hub, settings: Settings, monkeypatch: pytest.MonkeyPatch, tag: str) -> None:
    monkeypatch.setattr("tests.models.stand_in_hub._etag", lambda *_: tag)
    path = get(LARGE, settings)
    assert kept(settings) == [path]
    assert path.parents[2] == public_folder(settings)
    assert len(path.parent.name) == 16


def test_a_name_of_both_a_file_and_a_folder(hub: Hub, settings: Settings) -> None:
    hub.repos["some/lora"]["s.safetensors/s.safetensors"] = bytes(500)
    both = (LARGE, Lora("some/lora", "s.safetensors/s.safetensors"))
    for first, second in (both, both[::-1]):
        get(first, settings)
        with pytest.raises(DownloadFailed, match="is the name of a file and of a folder"):
            get(second, settings)
        shutil.rmtree(settings.loras_dir)


def test_a_cancellation_ends_a_download_that_is_silent(hub: Hub, settings: Settings) -> None:
    hub.waits["s.safetensors"] = threading.Event()
    cancelled = threading.Event()

    def check() -> None:
        if cancelled.is_set():
            raise Cancelled

    with ThreadPoolExecutor() as threads:
        running = threads.submit(get, LARGE, settings, check=check)
        wait_for(lambda: hub.downloads("s.safetensors"))
        at = time.monotonic()
        cancelled.set()
        with pytest.raises(Cancelled):
            running.result(20)
        assert time.monotonic() - at < 10
    hub.waits["s.safetensors"].set()
    assert kept(settings) == []


def test_two_requests_at_once_download_a_file_once(hub: Hub, settings: Settings) -> None:
    hub.waits["s.safetensors"] = threading.Event()
    checks: list[float] = []

    def cancel() -> None:
        checks.append(time.monotonic())
        raise Cancelled

    with ThreadPoolExecutor() as threads:
        first = threads.submit(get, LARGE, settings)
        wait_for(lambda: hub.downloads("s.safetensors"))
        with pytest.raises(Cancelled):
            get(LARGE, settings, check=cancel)
        assert len(checks) == 1, "one that waits hears it too"
        second = threads.submit(get, LARGE, settings, caller="you")
        hub.waits["s.safetensors"].set()
        assert first.result(5) == second.result(5)
    assert first.result().read_bytes() == bytes(500)
    assert sorted(path.name for path in kept(settings)) == ["s.safetensors"]
