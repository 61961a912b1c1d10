"""The reasons of failed downloads, in words."""

import socket
import ssl
from pathlib import Path

import httpx
import pytest

from longtake.errors import DownloadFailed
from longtake.media.download_errors import reason
from longtake.media.fetch import fetch_file
from longtake.media.pace import Pace
from longtake.outbound import PublicTransport


@pytest.mark.parametrize("transport", [None, PublicTransport(("127.0.0.1",))])
def test_a_host_that_does_not_answer(tmp_path: Path, transport: httpx.BaseTransport | None) -> None:
    pace = Pace(min_rate=1, window_s=30, total_s=60)
    with pytest.raises(DownloadFailed, match=r"from http://127.0.0.1:1/a.mp4: nothing answers at this host and port"):
        fetch_file("http://127.0.0.1:1/a.mp4", tmp_path, max_bytes=10, pace=pace, transport=transport)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]"), "the host does not speak https there"),
        (ssl.SSLCertVerificationError(1, "expired"), "the host's certificate cannot be verified"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "there is no host of this name"),
        (OSError(2, "No such file or directory", "/a/secret/path"), "No such file or directory"),
        (ValueError("[Errno 999] Something rare."), "Something rare"),
        (ValueError(""), "no answer"),
    ],
)
def test_other_reasons(error: Exception, text: str) -> None:
    assert reason(error) == text


def test_the_cause_of_an_error_gives_the_reason() -> None:
    error = httpx.ConnectError("[Errno 104] Connection reset by peer")
    error.__cause__ = ConnectionResetError(104, "Connection reset by peer")
    assert reason(error) == "the host ended the connection"
