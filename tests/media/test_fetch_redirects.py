"""A download that begins encrypted stays so. The hosts are functions: a redirect needs no TLS and no network."""

from pathlib import Path

import httpx
import pytest

from longtake.errors import DownloadFailed
from longtake.media.fetch import fetch_file
from longtake.media.pace import Pace

PACE = Pace(min_rate=1, window_s=30, total_s=60)


def test_no_redirect_leads_from_https_to_http(tmp_path: Path) -> None:
    to = {"/a": "https://b.example/b", "/b": " HTTP://c.example/c"}

    def answer(request: httpx.Request) -> httpx.Response:
        target = to.get(request.url.path)
        if target is None:
            return httpx.Response(200, stream=httpx.ByteStream(b"x"))
        return httpx.Response(302, headers={"location": target})

    def fetched(url: str) -> bytes:
        transport = httpx.MockTransport(answer)
        return fetch_file(url, tmp_path, max_bytes=10, pace=PACE, transport=transport).read_bytes()

    for url in ("https://a.example/b", "http://a.example/a"):
        with pytest.raises(
            DownloadFailed, match=r"/b redirects to an http address\. An https address may only lead to https addresses"
        ):
            fetched(url)
    to["/b"] = "https://c.example/c"
    assert fetched("http://a.example/a") == b"x"
