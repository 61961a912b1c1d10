"""The tunnel: it connects fal's host names to the server's TLS port, and refuses everything else."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import pytest

from longtake.queue.addresses import HOSTS
from longtake.service.tunnel import MAX_HEAD_BYTES, refusal, serve


@asynccontextmanager
async def tunnel() -> AsyncIterator[int]:
    """Runs a tunnel to a server that returns in capitals what it receives. Yields the tunnel's port."""

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            writer.write(piece.upper())
            await writer.drain()
        writer.write(b"!")
        writer.close()

    inner = await asyncio.start_server(shout, "127.0.0.1", 0)
    outer = await serve("127.0.0.1", 0, tls_host="127.0.0.1", tls_port=inner.sockets[0].getsockname()[1])
    try:
        yield outer.sockets[0].getsockname()[1]
    finally:
        outer.close()
        inner.close()


def exchange(port: int, *pieces: bytes) -> Awaitable[bytes]:
    async def talk() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer

    return asyncio.wait_for(talk(), 60)


@pytest.mark.parametrize("host", HOSTS)
def test_fals_hosts_are_tunnelled_to_the_tls_port(host: str) -> None:
    async def run() -> bytes:
        async with tunnel() as port:
            return await exchange(port, f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode(), b"hello")

    assert asyncio.run(run()) == b"HTTP/1.1 200 Connection established\r\n\r\nHELLO!"


def test_bytes_after_the_request_are_forwarded() -> None:
    size = 3_000_000

    async def run() -> bytes:
        async with tunnel() as port:
            return await exchange(port, b"CONNECT fal.run:443 HTTP/1.1\r\n", b"\r\n" + b"x" * size)

    assert asyncio.run(run()) == b"HTTP/1.1 200 Connection established\r\n\r\n" + b"X" * size + b"!"


@pytest.mark.parametrize(
    ("line", "status", "expected"),
    [
        ("CONNECT example.com:443 HTTP/1.1", "403 Forbidden", "NO_PROXY"),
        ("CONNECT fal.run:80 HTTP/1.1", "403 Forbidden", "port 443"),
        ("CONNECT 127.0.0.1:443 HTTP/1.1", "403 Forbidden", "127.0.0.1:443"),
        ("CONNECT fal.run.evil.example:443 HTTP/1.1", "403 Forbidden", "NO_PROXY"),
        ("CONNECT fal.run HTTP/1.1", "403 Forbidden", "NO_PROXY"),
        ("GET http://fal.run/ HTTP/1.1", "405 Method Not Allowed", "HTTPS_PROXY"),
        ("\x16\x03\x01", "400 Bad Request", "not an HTTP request"),
        ("", "400 Bad Request", "not an HTTP request"),
    ],
)
def test_other_requests_are_refused_with_a_sentence(line: str, status: str, expected: str) -> None:
    refused = refusal(line)
    assert refused is not None
    assert refused[0] == status
    assert expected in refused[1]

    async def run() -> bytes:
        async with tunnel() as port:
            return await exchange(port, f"{line}\r\n\r\n".encode())

    head, _, body = asyncio.run(run()).decode().partition("\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status}\r\n")
    assert body == refused[1] + "\n"


def test_host_names_are_not_case_sensitive() -> None:
    assert refusal("CONNECT Queue.FAL.run:443 HTTP/1.0") is None


def test_an_endless_request_is_closed() -> None:
    async def run() -> bytes:
        async with tunnel() as port:
            return await exchange(port, b"CONNECT fal.run:443 HTTP/1.1\r\nX: " + b"x" * (2 * MAX_HEAD_BYTES))

    with contextlib.suppress(ConnectionError):  # The tunnel may close the connection before all is sent.
        assert asyncio.run(run()) == b""


def test_an_unreachable_server_is_a_502() -> None:
    async def run() -> bytes:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            gone = closed.getsockname()[1]
        server = await serve("127.0.0.1", 0, tls_host="127.0.0.1", tls_port=gone)
        try:
            return await exchange(server.sockets[0].getsockname()[1], b"CONNECT fal.run:443 HTTP/1.1\r\n\r\n")
        finally:
            server.close()

    assert asyncio.run(run()).startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
