"""A LoRA's path becomes a file: below its folder, from a URL or data URI, from the hub; never from anywhere else."""

import hashlib
import os
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from longtake.errors import BadCheckpoint, DownloadFailed, FileTooLarge, InvalidRequest
from longtake.media.fetch import fetch_file
from longtake.media.pace import Pace
from longtake.models.lora_downloads import FETCHED, last_use, private_folder
from longtake.models.lora_files import Fetch, LoraSources, installed_names, needs_download, open_lora
from longtake.models.lora_names import Lora
from longtake.settings import Settings

URL = "https://files.example/style.safetensors"
LORA = save({f"proj_in.lora_{side}.weight": np.ones((1, 1), np.float32) for side in "AB"})
"""The bytes of a LoRA."""


def resolve(
    lora: Lora, settings: Settings, *, fetch: Fetch | None = None, any_path: bool = False, caller: str | None = "me"
) -> Path:
    """The path of a LoRA that is not deleted after its use."""
    with open_lora(lora, settings, LoraSources(fetch, any_path=any_path, caller=caller)) as file:
        return file.path


def kept(folder: Path) -> list[Path]:
    """The files of all downloads, finished or not."""
    return [path for path in (folder / FETCHED).rglob("*") if path.is_file()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "loras"
    for name in ("a.safetensors", "one/x.safetensors", "two/x.safetensors", "two/y.safetensors", "none/x.ckpt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    (tmp_path / "secret.safetensors").write_bytes(b"secret")
    (folder / "link.safetensors").symlink_to(tmp_path / "secret.safetensors")
    return folder


@pytest.fixture
def guarded(folder: Path) -> Path:
    """The LoRA folder with files that requests cannot name."""
    for name in (
        ".fetched/urls/x.safetensors",
        "one/.hidden.safetensors",
        "data/files/upload",
        "hiding/.x.safetensors",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"private")
    (folder / "visible").symlink_to(folder / ".fetched" / "urls")
    return folder


def test_only_names_that_requests_may_use_are_listed(guarded: Path, tmp_path: Path) -> None:
    """Not hidden ones, links out of the folder, the server's own data, pipes and names that are no text."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.safetensors").write_bytes(b"secret")
    (guarded / "way-out").symlink_to(tmp_path / "elsewhere")
    (guarded / "data" / "x.safetensors").write_bytes(b"private")
    os.mkfifo(guarded / "pipe.safetensors")
    Path(os.fsdecode(os.fsencode(guarded) + b"/\xff.safetensors")).write_bytes(LORA)
    (guarded / "loop.safetensors").symlink_to(guarded / "loop.safetensors")
    settings = Settings(loras_dir=guarded, data_dir=guarded / "data")
    names = installed_names(settings)
    assert names == ["a.safetensors", "one/x.safetensors", "two/x.safetensors", "two/y.safetensors"]
    assert [resolve(Lora(name), settings).name for name in names] == [name.rpartition("/")[2] for name in names]


def test_links_that_lead_to_each_other_are_no_path(folder: Path) -> None:
    (folder / "loop").symlink_to(folder / "loop")
    for path in ("loop", "loop/x", "loop/x.safetensors"):
        with pytest.raises(InvalidRequest, match="LoRA"):
            resolve(Lora(path), Settings(loras_dir=folder))
    assert not needs_download("hf://loop/x", Settings(loras_dir=folder), "me")


@pytest.mark.parametrize(
    ("lora", "found"),
    [
        (Lora("a.safetensors"), "a.safetensors"),
        (Lora("one"), "one/x.safetensors"),
        (Lora("one/x.safetensors"), "one/x.safetensors"),
        (Lora("two", weight_name="y.safetensors"), "two/y.safetensors"),
    ],
)
def test_files_below_the_folder(folder: Path, lora: Lora, found: str) -> None:
    assert resolve(lora, Settings(loras_dir=folder)) == folder / found


@pytest.mark.parametrize(
    ("lora", "reason"),
    [
        (Lora("../secret.safetensors"), "leads out of the LoRA folder"),
        (Lora("link.safetensors"), "leads out of the LoRA folder"),
        (Lora("one/../../secret.safetensors"), "leads out of the LoRA folder"),
        (Lora("/etc/passwd"), "leads out of the LoRA folder"),
        (Lora("two"), r"several files \(x\.safetensors, y\.safetensors\): name one as weight_name"),
        (Lora("two", weight_name="../a.safetensors"), r"has no '\.\./a\.safetensors'; it has x\.safetensors"),
        (Lora("none"), r"has no \.safetensors file"),
        (Lora("absent"), "'absent' is neither a file below the LoRA folder, a URL"),
        (Lora("absent.safetensors"), "There is no LoRA file 'absent.safetensors' in the LoRA folder"),
        (Lora("absent/a.safetensors"), "There is no LoRA file 'absent/a.safetensors' in the LoRA folder"),
        (Lora("C:\\x\\a.safetensors"), r"There is no LoRA file 'C:\\x\\a\.safetensors' in"),
        (Lora("a.safetensors", weight_name="b.safetensors"), "is itself a file, so weight_name 'b.safetensors'"),
        (Lora(""), "neither a file"),
        (Lora("a\0b"), "is no path|neither a file"),
        (Lora("a" * 5000), "is no path"),
        (Lora("http://files.example/x"), "files.example/x is neither at an https:// URL nor an upload"),
        (Lora("HTTP://user:word@files.example/x?key=1"), "LoRA http://files.example/x is neither at an https"),
        (Lora("https://[x"), "has a host that is no name"),
        (Lora("https://xn--/x"), "has a host that is no name"),
        (Lora("https://[fe80::1%\u00e9]/x"), "has a host that is no name"),
        (Lora("https://files.example/\ud800"), "has half a character in it"),
        (Lora("\ud800"), "is no path: it has half a character in it"),
        (Lora("two", weight_name="\ud800"), r"has no '\\ud800'"),
        (Lora("file:///etc/passwd"), "neither a file"),
        (Lora("ftp://files.example/x"), "neither a file"),
        (Lora("data:text/plain,x"), "cannot be a data URI here"),
        (Lora("a/../b"), "leads out of the LoRA folder"),
        (Lora("../absent"), "leads out of the LoRA folder"),
        (Lora("/absent"), "leads out of the LoRA folder"),
        (Lora(".fetched"), "names that begin with a dot"),
        (Lora(".fetched/urls"), "names that begin with a dot"),
        (Lora("one/.hidden.safetensors"), "names that begin with a dot"),
        (Lora(".absent/x.safetensors"), "names that begin with a dot"),
        (Lora("visible"), "names that begin with a dot"),
        (Lora("data/files/upload"), "the server's own data"),
        (Lora("data"), "the server's own data"),
        (Lora("hiding"), r"has no \.safetensors file"),
        (Lora("hiding", weight_name=".x.safetensors"), r"has no '\.x\.safetensors'; it has no"),
        (Lora("a/b/c"), "neither a file"),
    ],
)
def test_other_paths_are_refused(guarded: Path, lora: Lora, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as raised:
        resolve(lora, Settings(loras_dir=guarded, data_dir=guarded / "data", offline=True))
    assert raised.value.message.isprintable()


def test_the_command_line_may_name_any_file(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "secret.safetensors"
    for name in (str(path), path.as_uri()):
        assert resolve(Lora(name), Settings(loras_dir=folder), any_path=True) == path
    with pytest.raises(InvalidRequest):
        resolve(Lora(path.as_uri()), Settings(loras_dir=folder))
    assert resolve(Lora(str(folder / "one")), Settings(loras_dir=folder), any_path=True).name == "x.safetensors"


def test_a_file_above_the_limit_is_refused(folder: Path) -> None:
    with pytest.raises(FileTooLarge, match="the limit is 3"):
        resolve(Lora("a.safetensors"), Settings(loras_dir=folder, max_lora_bytes=3))


def _fetching(calls: list[str], content: bytes = LORA) -> Fetch:
    def fetch(url: str, folder: Path, max_bytes: int) -> Path:
        calls.append(url)
        (folder / "got").write_bytes(content)
        return folder / "got"

    return fetch


def test_a_url_is_fetched_once(folder: Path) -> None:
    calls: list[str] = []
    settings = Settings(loras_dir=folder)
    got = [resolve(Lora(URL), settings, fetch=_fetching(calls)) for _ in range(2)]
    assert got[0] == got[1]
    assert got[0].is_relative_to(folder / FETCHED)
    assert calls == [URL]
    assert kept(folder) == [got[0]]
    assert resolve(Lora(f" {URL}\n"), Settings(loras_dir=folder, offline=True)) == got[0]


def test_what_was_downloaded_from_a_url_is_used_for_its_caller_alone(folder: Path) -> None:
    calls, settings, offline = list[str](), Settings(loras_dir=folder), Settings(loras_dir=folder, offline=True)
    signed = Lora(f"{URL}?signature=secret")
    callers = ("me", "you", "", None)
    got = [resolve(signed, settings, fetch=_fetching(calls), any_path=one is None, caller=one) for one in callers[:2]]
    assert calls == [signed.path] * 2
    assert got[0] != got[1]
    assert [resolve(signed, offline, caller=one) for one in callers[:2]] == got
    for one in callers[2:]:
        with pytest.raises(DownloadFailed, match="no network"):
            resolve(signed, offline, any_path=one is None, caller=one)
    resolve(signed, settings, fetch=_fetching(calls), any_path=True, caller=None)
    with pytest.raises(DownloadFailed, match="no network"):
        resolve(signed, offline, caller="")
    assert {path.parent.stat().st_mode & 0o777 for path in kept(folder)} == {0o700}


def test_a_url_without_a_network_or_too_large(folder: Path) -> None:
    with pytest.raises(DownloadFailed, match="no network"):
        resolve(Lora(URL), Settings(loras_dir=folder, offline=True), fetch=_fetching([]))
    with pytest.raises(FileTooLarge):
        resolve(Lora(URL), Settings(loras_dir=folder, max_lora_bytes=5), fetch=_fetching([]))
    assert kept(folder) == []


@pytest.mark.parametrize("content", [b"<!doctype html><p>Please log in", LORA[:-1], save({"x": np.ones(1)})])
def test_a_download_that_is_no_lora_is_not_kept(folder: Path, content: bytes) -> None:
    settings, calls = Settings(loras_dir=folder), list[str]()
    for _ in range(2):
        with pytest.raises(BadCheckpoint, match=r"^https://files\.example/style\.safetensors ") as raised:
            resolve(Lora(f"{URL}?key=secret"), settings, fetch=_fetching(calls, content))
        assert str(folder) not in raised.value.message
        assert "secret" not in raised.value.message
        assert kept(folder) == []
    got = resolve(Lora(f"{URL}?key=secret"), settings, fetch=_fetching(calls))
    assert got.read_bytes() == LORA
    got.write_bytes(content)  # as an earlier version kept it
    assert resolve(Lora(f"{URL}?key=secret"), settings, fetch=_fetching(calls)).read_bytes() == LORA
    assert len(calls) == 4


def test_http_is_for_trusted_hosts_and_the_machines_own_user(folder: Path) -> None:
    url, calls = "http://Files.example:81/style.safetensors", list[str]()
    settings = Settings(loras_dir=folder, trusted_hosts=("FILES.example",))
    assert resolve(Lora(url), settings, fetch=_fetching(calls)).read_bytes() == LORA
    with pytest.raises(InvalidRequest, match="http is accepted from trusted hosts only"):
        resolve(Lora(url), Settings(loras_dir=folder), fetch=_fetching(calls))
    resolve(Lora(url + "?"), Settings(loras_dir=folder), fetch=_fetching(calls), any_path=True)
    assert calls == [url, url + "?"]


def test_a_stored_file_is_opened_and_not_fetched(folder: Path) -> None:
    closed: list[bool] = []

    @contextmanager
    def stored() -> Iterator[Path]:
        yield folder / "a.safetensors"
        closed.append(True)

    urls = ("http://127.0.0.1:1/cdn/files/k.safetensors", "https://v3.fal.media/files/k.safetensors")
    sources = LoraSources(open_own=lambda url: stored() if url in urls else None)
    for url in urls:
        with open_lora(Lora(url), Settings(loras_dir=folder, offline=True), sources) as file:
            assert (file.path, file.name, closed) == (folder / "a.safetensors", url, [])
        assert closed.pop()
        with (
            pytest.raises(FileTooLarge, match=f"{url} has 13 bytes; the limit is 3"),
            open_lora(Lora(url), Settings(loras_dir=folder, max_lora_bytes=3), sources),
        ):
            pass
        closed.clear()
    with pytest.raises(DownloadFailed), open_lora(Lora(URL), Settings(loras_dir=folder), sources):
        pass


def test_a_data_uri_leaves_no_file(folder: Path) -> None:
    def fetch(url: str, folder: Path, max_bytes: int) -> Path:
        return fetch_file(url, folder, max_bytes=max_bytes, pace=Pace(1, window_s=30, total_s=60))

    uri, settings = f"data:application/octet-stream;base64,{b64encode(LORA).decode()}", Settings(loras_dir=folder)
    with open_lora(Lora(uri), settings, LoraSources(fetch)) as file:
        assert file.path.read_bytes() == LORA
        assert file.is_temporary
        assert len(file.name) < 60
    assert not file.path.exists()
    assert not (folder / FETCHED).exists()
    too_small = Settings(loras_dir=folder, max_lora_bytes=len(LORA) - 1)
    with pytest.raises(FileTooLarge), open_lora(Lora(uri), too_small, LoraSources(fetch)):
        pass


def test_the_longest_unused_downloads_are_forgotten(folder: Path) -> None:
    settings = Settings(loras_dir=folder, lora_disk_bytes=2 * len(LORA) + 5)
    files = []
    for index in range(4):
        files.append(resolve(Lora(f"{URL}?{index}"), settings, fetch=_fetching([])))
        os.utime(files[-1], (index, index))
    resolve(Lora(f"{URL}?1"), settings)
    assert last_use(files[1]) > 4
    assert files[1].stat().st_mtime == 1
    resolve(Lora(f"{URL}?last"), settings, fetch=_fetching([]))
    assert [path.exists() for path in files] == [False, True, False, True]


def test_a_new_download_is_not_forgotten_at_once(folder: Path) -> None:
    settings = Settings(loras_dir=folder, lora_disk_bytes=len(LORA) - 1)
    kept_before = resolve(Lora(URL), settings, fetch=_fetching([]))

    def fetch_an_old_file(url: str, temporary: Path, max_bytes: int) -> Path:
        path = _fetching([])(url, temporary, max_bytes)
        os.utime(path, (1, 1))
        return path

    assert resolve(Lora(f"{URL}?new"), settings, fetch=fetch_an_old_file).exists()
    assert not kept_before.exists()


def test_a_server_downloads_what_is_not_here_and_will_not_be_refused(folder: Path) -> None:
    settings = Settings(loras_dir=folder, trusted_hosts=("files.example",))
    assert needs_download("https://example.com/a", settings, "me")
    assert needs_download("http://files.example/a", settings, "me")
    assert not needs_download("http://example.com/a", settings, "me")
    assert not needs_download("https://", settings, "me")
    assert not needs_download("https://example.com/a", settings.model_copy(update={"offline": True}), "me")
    assert needs_download("hf://owner/style", settings, "me")
    assert needs_download("hf://one/x", settings, "me")
    (folder / "one" / "style").mkdir()
    (folder / "one" / "style" / "s.safetensors").touch()
    assert not needs_download("hf://one/style", settings, "me")
    assert not needs_download("hf://one/style/refused.safetensors", settings, "me")
    name = f"{hashlib.sha256(b'https://example.com/a').hexdigest()}.safetensors"
    private_folder(settings, "me").mkdir(parents=True)
    (private_folder(settings, "me") / name).touch()
    assert not needs_download("https://example.com/a", settings, "me")
    assert needs_download("https://example.com/a", settings, "another")
