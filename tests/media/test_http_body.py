"""Bodies of HTTP responses: the bytes without compression, in parts of limited size."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from longtake.errors import DownloadFailed, FileTooLarge
from longtake.media.fetch import fetch_file
from longtake.media.http_body import MOST_DECODED, decoded
from longtake.media.pace import Pace

BODY = bytes(range(256)) * 4000
PACKED = gzip.compress(BODY)


def response(encoding: str | None, body: bytes, piece_bytes: int = 1000) -> httpx.Response:
    pieces = (body[start : start + piece_bytes] for start in range(0, len(body), piece_bytes))
    return httpx.Response(200, headers={} if encoding is None else {"Content-Encoding": encoding}, content=pieces)


def fetch(folder: Path, encoding: str, body: bytes, max_bytes: int) -> bytes:
    transport = httpx.MockTransport(lambda request: response(encoding, body))
    pace = Pace(min_rate=1, window_s=30, total_s=60)
    return fetch_file("http://a.example/x", folder, max_bytes=max_bytes, pace=pace, transport=transport).read_bytes()


@pytest.mark.parametrize("piece_bytes", [1, 1000, 10**7])
@pytest.mark.parametrize(
    ("encoding", "body", "expected"),
    [
        (None, BODY[:9000], BODY[:9000]),
        ("identity", BODY[:9000], BODY[:9000]),
        ("gzip", PACKED, BODY),
        (" GZIP, identity", PACKED, BODY),
        ("x-gzip", PACKED + bytes(8), BODY),
        ("deflate", zlib.compress(BODY), BODY),
        ("gzip", gzip.compress(BODY[:9]) + bytes(3) + PACKED, BODY[:9] + BODY),
    ],
)
def test_one_encoding_is_decoded(encoding: str | None, body: bytes, expected: bytes, piece_bytes: int) -> None:
    assert b"".join(decoded(response(encoding, body, piece_bytes))) == expected


@pytest.mark.parametrize(
    ("encoding", "body", "words"),
    [
        ("gzip, gzip", gzip.compress(PACKED), "it is encoded as 'gzip, gzip'; at most one encoding, gzip or deflate,"),
        ("br", b"x", "it is encoded as 'br'"),
        ("gzip", PACKED[:-9], "its gzip encoding ends too early"),
        ("gzip", b"no gzip", "its gzip encoding is broken"),
        ("deflate", zlib.compress(BODY) + b"more", "its deflate encoding is broken"),
    ],
)
def test_other_encodings_fail_with_a_sentence(tmp_path: Path, encoding: str, body: bytes, words: str) -> None:
    with pytest.raises(DownloadFailed, match=rf"from http://a\.example/x: {words}"):
        fetch(tmp_path, encoding, body, 10**7)
    assert list(tmp_path.iterdir()) == []


def test_the_limit_of_a_file_counts_decoded_bytes(tmp_path: Path) -> None:
    zeros = gzip.compress(bytes(50_000_000))
    assert len(zeros) < 50_000
    with pytest.raises(FileTooLarge, match="larger than 1000000 bytes"):
        fetch(tmp_path, "gzip", zeros, 10**6)
    assert list(tmp_path.iterdir()) == []
    parts: Iterator[bytes] = decoded(response("gzip", zeros, len(zeros)))
    assert max(map(len, parts)) == MOST_DECODED
    assert fetch(tmp_path, "gzip", PACKED, len(BODY)) == BODY
