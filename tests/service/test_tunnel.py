"""The tunnel: connections to fal's host names become TLS connections to the server, and all others are refused."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest
from starlette.responses import PlainTextResponse

from longtake.queue.addresses import HOSTS
from longtake.service.connections import Bounds, Connections
from longtake.service.ports import Ports, listening
from longtake.service.tls import prepare
from longtake.service.tunnel import _read_head, refusal
from tests.service.serving import wait_for

BOUNDS = Bounds(head_bytes=1000, handshake_s=0.3, head_s=0.3, check_s=0.05)


@dataclass
class Tunnelled:
    """The tunnel of a server that answers `hello`, and a TLS context that trusts the server."""

    port: int
    trust: ssl.SSLContext


@pytest.fixture(scope="module")
def tunnel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tunnelled]:
    tls = prepare(tmp_path_factory.mktemp("tls"))
    server = Ports(PlainTextResponse("hello"), Connections(BOUNDS), (), grace_s=1).tunnel(tls)
    with listening("127.0.0.1", 0) as bound:
        thread = threading.Thread(target=lambda: server.run(sockets=[bound]), daemon=True)
        thread.start()
        wait_for(lambda: server.started)
        trust = ssl.create_default_context(cafile=str(tls.authority))
        yield Tunnelled(bound.getsockname()[1], trust)
        server.should_exit = True
        thread.join(10)


def exchange(port: int, *pieces: bytes) -> bytes:
    """Sends the pieces to a port, and returns what comes back until the connection ends."""

    async def talk() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        answer = await reader.read()
        writer.close()
        return answer

    return asyncio.run(within_a_minute(talk()))


async def within_a_minute(work: Awaitable[bytes]) -> bytes:
    return await asyncio.wait_for(work, 60)


def connect(host: str) -> bytes:
    return f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode()


@pytest.mark.parametrize("host", HOSTS)
def test_fals_hosts_are_tunnelled_to_the_server(tunnel: Tunnelled, host: str) -> None:
    async def run() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", tunnel.port)
        writer.write(connect(host))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
        await writer.start_tls(tunnel.trust, server_hostname=host)
        writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer

    head, _, body = asyncio.run(within_a_minute(run())).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b"hello"


def test_a_handshake_that_begins_before_the_answer_is_served(tunnel: Tunnelled) -> None:
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = tunnel.trust.wrap_bio(received, to_send, server_hostname="fal.run")

    async def run() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", tunnel.port)
        with suppress(ssl.SSLWantReadError):
            client.do_handshake()
        writer.write(connect("fal.run") + to_send.read())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                received.write(await reader.read(65536))
        writer.close()
        return str(client.version()).encode()

    assert asyncio.run(within_a_minute(run())) == b"TLSv1.3"


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
def test_other_requests_are_refused_with_a_sentence(tunnel: Tunnelled, line: str, status: str, expected: str) -> None:
    refused = refusal(line)
    assert refused is not None
    assert refused[0] == status
    assert expected in refused[1]
    head, _, body = exchange(tunnel.port, f"{line}\r\n\r\n".encode()).decode().partition("\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status}\r\n")
    assert body == refused[1] + "\n"


def test_host_names_are_not_case_sensitive() -> None:
    assert refusal("CONNECT Queue.FAL.run:443 HTTP/1.0") is None


def test_a_head_above_the_bound_is_closed(tunnel: Tunnelled) -> None:
    with suppress(ConnectionError):
        assert exchange(tunnel.port, b"CONNECT fal.run:443 HTTP/1.1\r\nX: " + b"x" * 2000) == b""


class Counting(socket.socket):
    """A socket that counts how often something is received."""

    calls = 0

    def recv(self, *arguments: int) -> bytes:
        self.calls += 1
        return super().recv(*arguments)


@pytest.mark.parametrize("pattern", [b"a", b"a\r\n\r"])
def test_a_large_head_is_received_at_once_and_nothing_behind_it(pattern: bytes) -> None:
    head, behind = pattern * (60_000 // len(pattern)) + b"\r\n\r\n", b"\r\n\r\n\x16\x03\x01"
    client, server = socket.socketpair()
    with client, Counting(fileno=server.detach()) as line:
        line.setblocking(False)
        client.sendall(head + behind)
        assert asyncio.run(within_a_minute(connect_head(line))) == head
        assert line.calls < 100
        assert line.recv(100) == behind


async def connect_head(line: socket.socket) -> bytes:
    return await _read_head(line, 65536) or b""


@pytest.mark.parametrize("sent", [b"", b"CONNECT fal.run:443 HTTP/1.1\r\nX: ", b"\r\n\r"])
def test_a_slow_head_is_closed(tunnel: Tunnelled, sent: bytes) -> None:
    with suppress(ConnectionError):
        assert exchange(tunnel.port, sent) == b""


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01"])
def test_a_slow_handshake_is_closed(tunnel: Tunnelled, sent: bytes) -> None:
    with suppress(ConnectionError):
        answer = exchange(tunnel.port, connect("fal.run"), sent)
        assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n"
