"""Changed HTTP requests, byte by byte: the server answers or closes the connection, and serves the next client."""

import json
import random
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.mutants import mutated, seeded
from tests.service.serving import INPUT, LTXV, Served, serving

BODY = json.dumps(INPUT).encode()
PIECES = (
    *(b"\r\n", b"\n", b"\r", b"\0", b": ", b" ", b"\t", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n"),
    *(b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n", b"Expect: 100-continue\r\n", b"\xff" * 9),
    *(b"Host: xn--\r\n", b"Upgrade: websocket\r\n", b"Connection: close\r\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n"),
    *(
        b"HTTP/1.0\r\n",
        b"HTTP/9.9\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"X-A: " + b"b" * 9000,
    ),
)
"""Parts of requests at which programs disagree."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as served:
        yield served


def request(draw: random.Random, host: str) -> bytes:
    """Returns a good request: one without a body, one with a length, or one in chunks."""
    path = draw.choice(("/health", f"/queue/{LTXV}", "/v1/models", "/cdn/files/upload", "/"))
    head = (
        f"{draw.choice(('GET', 'POST', 'HEAD'))} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    )
    match draw.randrange(3):
        case 0:
            return head.encode() + b"\r\n"
        case 1:
            return f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    return f"{head}Transfer-Encoding: chunked\r\n\r\n{len(BODY):x}\r\n".encode() + BODY + b"\r\n0\r\n\r\n"


def answer(host: str, port: int, raw: bytes) -> bytes:
    """Sends bytes, says that no more come, and returns all that the server sends until it closes the connection."""
    with socket.create_connection((host, port), timeout=30) as connection:
        received = b""
        try:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(1 << 16):
                received += piece
        except ConnectionError:  # the server has closed the connection before it read everything
            pass
        return received


def check(draw: random.Random, host: str, port: int) -> None:
    raw = request(draw, f"{host}:{port}")
    place = draw.randrange(len(raw))
    raw = raw[:place] + draw.choice(PIECES) + raw[place:] if draw.random() < 0.6 else mutated(draw, raw)
    received = answer(host, port, raw * draw.choice((1, 1, 2)))
    assert not re.search(rb"HTTP/1\.1 5(?!03)\d\d", received), (raw, received)
    assert received == b"" or received.startswith(b"HTTP/1.1 "), (raw, received)


@pytest.mark.parametrize(
    "seeds", [range(120), pytest.param(range(120, 20_000), marks=pytest.mark.soak)], ids=["short", "long"]
)
def test_changed_requests(served: Served, seeds: range, log: list[dict[str, object]]) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    for seed in seeds:
        with seeded(seed) as draw:
            check(draw, host, int(port))
    with served.client() as client:
        assert client.get("/health").status_code == 200
    assert [line for line in log if line["log_level"] == "error"] == []
