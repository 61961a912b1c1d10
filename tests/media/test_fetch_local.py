"""Fetching data URIs and local paths as files of limited size, and what is none of these."""

import base64
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.errors import FileTooLarge, InvalidRequest
from longtake.media import fetch
from longtake.media.pace import Pace

fetch_file = partial(fetch.fetch_file, pace=Pace(min_rate=256 * 1024, window_s=30, total_s=60))

BODY = bytes(range(256)) * 40


@pytest.mark.parametrize("allow_local", [False, True])
def test_bare_base64_is_not_repeated(tmp_path: Path, allow_local: bool) -> None:
    text = base64.b64encode(BODY).decode()
    with pytest.raises(
        InvalidRequest, match="looks like 13656 characters of base64 without `data:` before them"
    ) as error:
        fetch_file(text, tmp_path, max_bytes=10, allow_local=allow_local)
    assert len(error.value.message) < 300
    assert len(str(error.value.value)) == 80
    with pytest.raises(InvalidRequest, match=r"A!A!A.*\.\.\.'") as error:
        fetch_file("A!" * 9000, tmp_path, max_bytes=10, allow_local=allow_local)
    assert len(error.value.message) < 300


@given(data=st.binary(max_size=300), padded=st.booleans(), escaped=st.booleans())
def test_data_uri(tmp_path_factory: pytest.TempPathFactory, data: bytes, padded: bool, escaped: bool) -> None:
    text = base64.b64encode(data).decode()
    text = text if padded else text.rstrip("=")
    text = text.replace("+", "%2B").replace("=", "%3D") if escaped else text
    path = fetch_file(f"data:video/mp4;base64,{text}", tmp_path_factory.mktemp("data"), max_bytes=300)
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("uri", "error", "words"),
    [
        ("data:video/mp4;base64", InvalidRequest, "no comma"),
        ("data:;base64,AA*A", InvalidRequest, "characters that base64 does not have"),
        ("data:;base64,AA==AA", InvalidRequest, "characters that base64 does not have"),
        ("data:;base64,AAAAA", InvalidRequest, "ends too early"),
        ("data:;base64," + "A" * 138, FileTooLarge, "100 bytes"),
        ("data:;base64," + "A" * 10**6, FileTooLarge, "100 bytes"),
        ("data:," + "a" * 101, FileTooLarge, "100 bytes"),
        ("data:," + "%41" * 101, FileTooLarge, "100 bytes"),
    ],
)
def test_bad_data_uris(tmp_path: Path, uri: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        fetch_file(uri, tmp_path, max_bytes=100)
    assert len(str(caught.value)) < 300
    assert list(tmp_path.iterdir()) == []


def test_data_uri_of_exactly_the_limit(tmp_path: Path) -> None:
    for uri in ("data:," + "a" * 100, "data:," + "%41" * 100, "data:;base64," + base64.b64encode(bytes(100)).decode()):
        assert fetch_file(uri, tmp_path, max_bytes=100).stat().st_size == 100


def test_local_paths(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"1234")
    assert fetch_file(str(path), tmp_path, max_bytes=4, allow_local=True) == path
    with pytest.raises(FileTooLarge):
        fetch_file(str(path), tmp_path, max_bytes=3, allow_local=True)
    with pytest.raises(InvalidRequest, match="There is no file"):
        fetch_file(str(tmp_path / "other.mp4"), tmp_path, max_bytes=4, allow_local=True)
    with pytest.raises(InvalidRequest, match="is a folder, not a file"):
        fetch_file(str(tmp_path), tmp_path, max_bytes=4, allow_local=True)


@pytest.mark.parametrize("name", ["clip.mp4", "a b#c?d%20e.mp4", "日本.mp4", "not\udcffutf8.mp4"])
def test_a_file_url_names_a_local_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"1234")
    url = path.as_uri()
    for form in (url, url.replace("file:///", "file://localhost/"), url.replace("file:///", "FILE:/"), f" {url}\n"):
        assert fetch_file(form, tmp_path, max_bytes=4, allow_local=True) == path
    with pytest.raises(FileTooLarge):
        fetch_file(url, tmp_path, max_bytes=3, allow_local=True)
    with pytest.raises(InvalidRequest, match="neither an http"):
        fetch_file(url, tmp_path, max_bytes=4)
    for wrong in (
        url.replace("file:///", "file://elsewhere/"),
        f"{url}x",
        tmp_path.as_uri(),
        "file://[",
        "file:///%00",
    ):
        with pytest.raises(InvalidRequest, match=r"There is no file|is a folder"):
            fetch_file(wrong, tmp_path, max_bytes=4, allow_local=True)


@pytest.mark.parametrize(
    "url",
    [
        "/etc/hostname",
        "file:///etc/hostname",
        "FILE:/etc/hostname",
        "file://localhost/etc/hostname",
        "ftp://host/x",
        "concat:a|b",
        "pipe:0",
        "",
        "http:relative",
    ],
)
def test_other_schemes_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidRequest, match="neither an http"):
        fetch_file(url, tmp_path, max_bytes=10)
