"""Downloads that break off continue where they stopped, in the same version of the file. The rest: test_fetch.py."""

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from longtake.errors import Cancelled, DownloadFailed, FileTooLarge
from longtake.media import download
from longtake.media.download import Download
from longtake.media.pace import Pace

OLD, NEW = bytes(range(256)) * 40, bytes(reversed(range(256))) * 40
PACE = Pace(min_rate=100, window_s=30, total_s=60)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "RETRY_PAUSES_S", (0.0, 0.0, 0.0))


@dataclass
class Body(httpx.SyncByteStream):
    """A body that breaks off after some bytes.

    error: what the connection breaks with; None if it does not break.
    """

    content: bytes
    error: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self.content), 1000):
            yield self.content[start : start + 1000]
        if self.error is not None:
            raise self.error


@dataclass
class Host(httpx.BaseTransport):
    """A host with one file, which sends `piece` bytes of it at a time, and then the connection breaks.

    content, etag: the file and its ETag. `changed` replaces both after the first request.
    ranges: whether it sends parts of the file: "yes", "no", or "always", also of another version. "some": it sends
        `piece` bytes of the rest, does not say how long the file is, and the connection does not break.
    asked: the headers Range and If-Range of each request.
    """

    piece: int
    content: bytes = OLD
    etag: str = '"old"'
    changed: tuple[bytes, str] | None = None
    ranges: str = "yes"
    encoding: str = ""
    error: Callable[[], Exception] = lambda: httpx.ReadError("reset")
    asked: list[tuple[str | None, str | None]] = field(default_factory=list)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        asked = request.headers.get("range"), request.headers.get("if-range")
        if self.asked and self.changed is not None:
            self.content, self.etag = self.changed
        self.asked.append(asked)
        start = 0
        if asked[0] is not None and (
            self.ranges == "always" or (self.ranges in ("yes", "some") and asked[1] == self.etag)
        ):
            start = int(asked[0].removeprefix("bytes=").removesuffix("-"))
        if start >= len(self.content):
            return httpx.Response(416)
        rest = self.content[start:]
        headers = {"etag": self.etag} if self.etag else {}
        if self.encoding:
            headers["content-encoding"] = self.encoding
        if start and self.ranges == "some":
            sent = rest[: self.piece]
            headers |= {"content-range": f"bytes {start}-{start + len(sent) - 1}/*", "content-length": str(len(sent))}
            return httpx.Response(206, headers=headers, stream=Body(sent))
        if not start and not self.encoding:
            headers["content-length"] = str(len(self.content))
        if start:
            headers["content-range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        body = Body(rest[: self.piece], self.error() if len(rest) > self.piece else None)
        return httpx.Response(206 if start else 200, headers=headers, stream=body)


def fetched(host: Host, folder: Path, arrived: Callable[[int], None] = lambda _: None, pace: Pace = PACE) -> bytes:
    path = folder / "file"
    address = "https://host.example/file"
    return Download(address, path, len(OLD), pace, host, lambda: None, {}, arrived).run().read_bytes()


@pytest.mark.parametrize("error", [httpx.ReadError("reset"), httpx.RemoteProtocolError("ended too early")])
def test_a_broken_download_continues_where_it_stopped(tmp_path: Path, error: Exception) -> None:
    host, arrived = Host(piece=4000, error=lambda: error), list[int]()
    assert fetched(host, tmp_path, arrived.append) == OLD
    assert host.asked == [(None, None), ("bytes=4000-", '"old"'), ("bytes=8000-", '"old"')]
    assert sum(arrived) == len(OLD)


def test_a_file_that_was_changed_meanwhile_is_begun_anew(tmp_path: Path) -> None:
    host, arrived = Host(piece=8000, changed=(NEW, '"new"')), list[int]()
    assert fetched(host, tmp_path, arrived.append) == NEW
    assert sum(arrived) == len(NEW), "no byte counts twice"


def test_a_rest_that_ends_too_early_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    host = Host(piece=4000, ranges="some")
    assert fetched(host, tmp_path) == OLD
    assert [asked[0] for asked in host.asked] == [None, "bytes=4000-", "bytes=8000-"]


@pytest.mark.parametrize("changed", [(NEW, '"new"'), (NEW[:5000], '"new"')], ids=["as long", "shorter"])
def test_parts_of_another_version_are_not_joined(tmp_path: Path, changed: tuple[bytes, str]) -> None:
    """The host does not know If-Range, and sends a part of the new file, or status 416."""
    host = Host(piece=8000, changed=changed, ranges="always")
    assert fetched(host, tmp_path) == changed[0]
    assert [asked[0] for asked in host.asked[:3]] == [None, "bytes=8000-", None]


@pytest.mark.parametrize(
    "host",
    [
        Host(piece=4000, etag=""),
        Host(piece=4000, etag='W/"weak"'),
        Host(piece=4000, etag='"a b"'),
        Host(piece=4000, ranges="no"),
        Host(piece=1000),
        Host(piece=4000, content=gzip.compress(OLD, 0), encoding="gzip"),
    ],
    ids=["no version", "weak version", "odd version", "no parts", "little each time", "compressed"],
)
def test_where_it_does_not_continue_it_is_begun_four_times(tmp_path: Path, host: Host) -> None:
    with pytest.raises(DownloadFailed, match="could not be downloaded"):
        fetched(host, tmp_path)
    assert len(host.asked) == 4
    assert not list(tmp_path.iterdir())


def test_a_connection_that_breaks_often_is_not_given_up_while_it_brings_much(tmp_path: Path) -> None:
    pace = Pace(min_rate=1000, window_s=1, total_s=60)
    host = Host(piece=1000)
    assert fetched(host, tmp_path, pace=pace) == OLD
    assert len(host.asked) == 11


def test_a_download_that_stalls_is_continued_if_it_has_brought_much(tmp_path: Path) -> None:
    host = Host(piece=4000, error=lambda: httpx.ReadTimeout("stalled"))
    assert fetched(host, tmp_path) == OLD
    host = Host(piece=1000, error=lambda: httpx.ReadTimeout("stalled"))
    with pytest.raises(DownloadFailed, match="did not deliver the file in time"):
        fetched(host, tmp_path)
    assert len(host.asked) == 1


def test_all_attempts_together_have_the_limits_of_one_download(tmp_path: Path) -> None:
    with pytest.raises(FileTooLarge):
        fetched(Host(piece=8000, content=OLD + b"!"), tmp_path)
    with pytest.raises(DownloadFailed, match=r"in time|reset"):  # the time ends in an attempt, or between two
        fetched(Host(piece=1), tmp_path, pace=Pace(min_rate=1, window_s=1, total_s=0.05))
    assert not list(tmp_path.iterdir())


def test_a_pause_hears_a_cancellation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "RETRY_PAUSES_S", (30.0,))
    host = Host(piece=4000)

    def check() -> None:
        if host.asked and (tmp_path / "file").stat().st_size == 4000:
            raise Cancelled

    with pytest.raises(Cancelled):
        Download("https://host.example/file", tmp_path / "file", len(OLD), PACE, host, check, {}).run()
    assert len(host.asked) == 1, "there was no second attempt"
    assert not list(tmp_path.iterdir())
