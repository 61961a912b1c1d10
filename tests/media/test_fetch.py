"""Downloads to local files of limited size. Data URIs and paths: test_fetch_local.py."""

import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from longtake.errors import Cancelled, DownloadFailed, FileTooLarge, InvalidRequest
from longtake.media import download, fetch
from longtake.media.pace import Pace
from longtake.outbound import PublicTransport
from tests.descriptors import no_free_descriptor

fetch_file = partial(fetch.fetch_file, pace=Pace(min_rate=256 * 1024, window_s=30, total_s=60))

BODY = bytes(range(256)) * 40


class Site(BaseHTTPRequestHandler):
    """A web server whose paths behave as their names say."""

    requests: ClassVar[list[str]] = []
    stop: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        self.requests.append(self.path)
        page = self.path.partition("?")[0]
        if page == "/ok":
            self._answer(200, BODY)
        elif page == "/endless":
            self.send_response(200)
            self.end_headers()
            try:
                while not self.stop.is_set():
                    self.wfile.write(BODY)
            except OSError:
                return
        elif page == "/slow":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            for _ in range(100):
                if self.stop.wait(0.1):
                    return
                try:
                    self.wfile.write(b"x")
                except OSError:
                    return
        elif page == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"only this")
        elif page == "/to-no-name":
            self.send_response(302)
            self.send_header("Location", self.path.partition("?")[2])
            self.end_headers()
        elif page.startswith("/hop"):
            left = int(page[4:])
            self._redirect("/ok" if left == 1 else f"/hop{left - 1}")
        elif page == "/to-data":
            self._redirect("data:video/mp4;base64,AAAA")
        elif page == "/authoritative":
            self._answer(203, BODY)
        elif page == "/whole":
            self._answer(206, BODY, {"Content-Range": f"bytes 0-{len(BODY) - 1}/{len(BODY)}"})
        elif page == "/unsized":
            self._answer(206, BODY, {"Content-Range": f"bytes 0-{len(BODY) - 1}/*"})
        elif page == "/unsized-part":
            self._answer(206, BODY[:99], {"Content-Range": "bytes 0-199/*"})
        elif page == "/silent":
            self.stop.wait(30)
        elif page == "/stalled":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(BODY)
            self.stop.wait(30)
        elif page == "/part":
            self._answer(206, BODY[:99], {"Content-Range": f"bytes 0-98/{len(BODY)}"})
        elif page.startswith("/busy"):
            self._busy(page)
        elif page == "/to-file":
            self._redirect("file:///etc/hostname")
        elif page == "/to-elsewhere":
            self._redirect("http://elsewhere.invalid/video.mp4")
        else:
            self._answer(404, b"nothing here")

    def _busy(self, page: str) -> None:
        """Fails as the path says, `/busy-<failure>-<how often>`, and then sends the file."""
        _, failure, times = page.split("-")
        if self.requests.count(self.path) > int(times):
            self._answer(200, BODY)
        elif failure == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif failure == "broken":
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY[:99])
        else:
            self._answer(int(failure), b"later", {"Retry-After": "0"})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _redirect(self, to: str) -> None:
        self.send_response(302)
        self.send_header("Location", to)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    Site.stop.set()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("page", ["/ok", "/ok?signature=abc", "/hop1", "/hop5", "/authoritative", "/whole", "/unsized"])
def test_download(site: str, tmp_path: Path, page: str) -> None:
    assert fetch_file(site + page, tmp_path, max_bytes=len(BODY)).read_bytes() == BODY


@pytest.mark.parametrize(
    ("page", "error", "words"),
    [
        ("/missing?key=secret", DownloadFailed, "answered 404"),
        ("/hop6", DownloadFailed, "redirected more than 5 times"),
        ("/to-file", DownloadFailed, "redirects to a file: address. Only redirects to http"),
        ("/to-data", DownloadFailed, "/to-data redirects to a data URI. Only redirects to http"),
        ("/part", DownloadFailed, "answered 206 with a part of the file"),
        ("/unsized-part", DownloadFailed, "answered 206 with a part of the file"),
        ("/to-elsewhere", DownloadFailed, "elsewhere.invalid"),
        ("/short", DownloadFailed, "could not be downloaded"),
        ("/slow", DownloadFailed, "in time"),
        ("/endless", FileTooLarge, "larger than 50000 bytes"),
    ],
)
def test_failed_downloads_leave_no_file(
    site: str, tmp_path: Path, page: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        fetch_file(
            site + page, tmp_path, max_bytes=50_000, pace=Pace(1, window_s=30, total_s=1 if page == "/slow" else 60)
        )
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_declared_size_above_the_limit_is_refused(site: str, tmp_path: Path) -> None:
    with pytest.raises(FileTooLarge) as caught:
        fetch_file(f"{site}/ok", tmp_path, max_bytes=len(BODY) - 1)
    assert caught.value.ctx == {"max_size": len(BODY) - 1}


def test_a_host_that_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match=r"127\.0\.0\.1"):
        fetch_file("http://127.0.0.1:1/x", tmp_path, max_bytes=10)


@pytest.mark.parametrize("transport", [None, PublicTransport(["127.0.0.1"])])
def test_a_missing_descriptor_is_not_the_fault_of_the_host(
    site: str, tmp_path: Path, transport: httpx.BaseTransport | None
) -> None:
    fetch_file(f"{site}/ok", tmp_path, max_bytes=len(BODY), transport=transport).unlink()  # what is imported late
    with no_free_descriptor(), pytest.raises(OSError, match="Too many open files"):
        fetch_file(f"{site}/ok", tmp_path, max_bytes=len(BODY), transport=transport)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL])
def test_a_connection_that_this_machine_cannot_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*args: object, **options: object) -> socket.socket:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(OSError, match=os.strerror(code)):
        fetch_file("http://127.0.0.1:1/x", tmp_path, max_bytes=10, transport=PublicTransport(["127.0.0.1"]))


def test_an_ipv6_address_is_out_of_reach_where_there_is_no_ipv6(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> socket.socket:
        raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(DownloadFailed, match="could not be downloaded"):
        fetch_file("http://[::1]:1/x", tmp_path, max_bytes=10, transport=PublicTransport(["::1"]))


def test_every_request_goes_through_the_transport(site: str, tmp_path: Path) -> None:
    port = httpx.URL(site).port
    transport = PublicTransport(["trusted.example"], resolve=lambda host, port: ["127.0.0.1"])
    before = len(Site.requests)
    with pytest.raises(DownloadFailed, match="does not lead to the public internet"):
        fetch_file(f"{site}/ok", tmp_path, max_bytes=10, transport=transport)
    with pytest.raises(DownloadFailed, match=r"there is no host inside\.example on the public internet"):
        fetch_file(f"http://inside.example:{port}/ok", tmp_path, max_bytes=10, transport=transport)
    assert len(Site.requests) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("page", "rate", "transport"),
    [
        ("/slow", "0", None),
        ("/slow", "0", PublicTransport(["127.0.0.1"])),
        ("/stalled", r"[\d.]+", PublicTransport(["127.0.0.1"])),
    ],
)
def test_a_download_below_the_smallest_rate_fails(
    site: str, tmp_path: Path, page: str, rate: str, transport: httpx.BaseTransport | None
) -> None:
    """With the server's transport also a download that has stopped."""
    before = time.monotonic()
    with pytest.raises(DownloadFailed, match=rf"{page} delivered {rate} KB/s over 0\.\d* s; .* at least 100 KB/s\."):
        fetch_file(site + page, tmp_path, max_bytes=50_000, pace=Pace(102_400, 0.3, 60), transport=transport)
    assert 0.3 <= time.monotonic() - before < 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("page", ["/slow", "/silent", "/stalled", "/busy-503-9"])
def test_a_download_that_is_not_wanted_any_more_ends_at_once(
    site: str, tmp_path: Path, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while nothing arrives, and during the pause before the next attempt."""
    monkeypatch.setattr(download, "RETRY_PAUSES_S", (30.0,))
    monkeypatch.setattr(download, "_retry_after_s", lambda header: None)
    until = time.monotonic() + 0.2

    def check() -> None:
        if time.monotonic() > until:
            raise Cancelled

    with pytest.raises(Cancelled):
        fetch_file(site + page, tmp_path, max_bytes=50_000, transport=PublicTransport(["127.0.0.1"]), check=check)
    assert time.monotonic() - until < 20, "a quarter of a second, and more on a busy machine"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("page", ["/ok", "/hop5"])
def test_one_transport_serves_many_downloads(site: str, tmp_path: Path, page: str) -> None:
    transport = PublicTransport(["127.0.0.1"])
    for _ in range(2):
        assert fetch_file(site + page, tmp_path, max_bytes=len(BODY), transport=transport).read_bytes() == BODY
    with pytest.raises(DownloadFailed, match=r"there is no host elsewhere\.invalid on the public internet"):
        fetch_file(f"{site}/to-elsewhere", tmp_path, max_bytes=10, transport=transport)
    with pytest.raises(DownloadFailed, match="answered 404"):
        fetch_file(f"{site}/missing", tmp_path, max_bytes=10, transport=transport)


@pytest.mark.parametrize("transport", [None, PublicTransport()])
@pytest.mark.parametrize(
    "url",
    [
        *("http://", "http://a:b/", "https://host:99999/x", "http://a\nb/", "http://xn--/", "http://a/\ud800"),
        *("http://\udfff/", "http://[fe80::1%\u00e9]/", "http://xn--\u00e9/", "http://a/%00\r\n"),
    ],
)
def test_urls_that_are_no_addresses(tmp_path: Path, url: str, transport: PublicTransport | None) -> None:
    with pytest.raises((InvalidRequest, DownloadFailed)) as raised:
        fetch_file(url, tmp_path, max_bytes=10, transport=transport)
    assert raised.value.message.isprintable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["http://xn--/", "https://xn--0/a", "http://a.xn--/"])
def test_a_redirect_to_a_host_that_is_no_name(site: str, tmp_path: Path, place: str) -> None:
    with pytest.raises(DownloadFailed, match=r"no name|no host|address") as raised:
        fetch_file(f"{site}/to-no-name?{place}", tmp_path, max_bytes=10, transport=PublicTransport(["127.0.0.1"]))
    assert "codec" not in raised.value.message


@pytest.mark.parametrize("failure", [408, 429, 500, 502, 503, 504, "reset", "broken"])
def test_a_momentary_failure_is_tried_again(
    site: str, tmp_path: Path, failure: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "RETRY_PAUSES_S", (0.0, 0.0, 0.0))
    path = fetch_file(f"{site}/busy-{failure}-3", tmp_path, max_bytes=len(BODY))
    assert path.read_bytes() == BODY
    assert list(tmp_path.iterdir()) == [path]
    before = len(Site.requests)
    with pytest.raises(DownloadFailed, match=str(failure) if isinstance(failure, int) else "could not be downloaded"):
        fetch_file(f"{site}/busy-{failure}-9", tmp_path, max_bytes=len(BODY))
    assert len(Site.requests) - before == 4
    assert list(tmp_path.iterdir()) == [path]


def test_other_failures_are_not_tried_again(site: str, tmp_path: Path) -> None:
    for page, words in (("/busy-404-1", "answered 404"), ("/busy-501-1", "answered 501")):
        with pytest.raises(DownloadFailed, match=words):
            fetch_file(site + page, tmp_path, max_bytes=10)
        assert Site.requests.count(page) == 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("soon", None), ("", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("-1", None), ("1e3", None)],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float | None) -> None:
    assert download._retry_after_s(header) == seconds


def test_a_server_that_asks_for_more_time_than_there_is_gets_no_second_request(tmp_path: Path) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(503, headers={"Retry-After": "3600"})

    with pytest.raises(DownloadFailed, match=r"//busy\.example:8080/x answered 503 .* It asks to wait 3600 s, which"):
        fetch_file("http://busy.example:8080/x", tmp_path, max_bytes=9, transport=httpx.MockTransport(answer))
    assert len(asked) == 1


def test_a_proxy_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://somebody:secret@127.0.0.1:1")
    with pytest.raises(DownloadFailed, match=r"through the proxy http://127\.0\.0\.1:1 .set in the envir") as error:
        fetch_file("http://video.example/x.mp4", tmp_path, max_bytes=10)
    assert "secret" not in error.value.message
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
    with pytest.raises(DownloadFailed, match=r"through the proxy socks5://127\.0\.0\.1:1 .*SOCKS"):
        fetch_file("http://video.example/x.mp4", tmp_path, max_bytes=10)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "video.example")
    assert download.environment_proxy("http://video.example/x.mp4") is None
    assert download.environment_proxy("http://other.example/x.mp4") == "http://127.0.0.1:1"


def test_blanks_around_an_address_are_ignored(site: str, tmp_path: Path) -> None:
    assert fetch_file(f" \n{site}/ok ", tmp_path, max_bytes=len(BODY)).read_bytes() == BODY
    assert fetch_file("  data:,abc ", tmp_path, max_bytes=3).read_bytes() == b"abc"


def test_an_error_of_the_disk_is_told_without_its_path(site: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match=r"could not be downloaded from .*: No such file or directory") as raised:
        fetch_file(f"{site}/ok", tmp_path / "absent", max_bytes=10**6)
    assert str(tmp_path) not in raised.value.message


def test_a_disk_that_fails_is_no_error_of_the_host(site: str, tmp_path: Path) -> None:
    """A limit on the size of new files stands for the full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(BODY) // 2, hard))
    try:
        with pytest.raises(OSError, match=rf"File too large: '{tmp_path}/source-"):
            fetch_file(f"{site}/ok", tmp_path, max_bytes=len(BODY))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
