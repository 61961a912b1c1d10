"""A small server behind the bounds of connections, and clients that are bare sockets, for tests."""

import asyncio
import ipaddress
import select
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.client import HTTPResponse

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, Router

from longtake.service.connections import Bounds, Connections
from longtake.service.ports import Ports, listening
from longtake.service.tls_server import PortServer
from tests.service.serving import wait_for

PATIENT = Bounds(head_bytes=4096, handshake_s=60, head_s=60, idle_s=60, period_s=60, check_s=0.02)
QUICK = replace(PATIENT, linger_s=0.1, handshake_s=0.2, head_s=0.2, idle_s=0.2, bytes_per_s=500_000, period_s=0.2)
PROXY = (ipaddress.ip_network("127.0.0.1"),)
GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = 32_000_000


async def health(_: Request) -> Response:
    return PlainTextResponse("ok")


async def count(request: Request) -> Response:
    try:
        return PlainTextResponse(str(len(await request.body())))
    except ClientDisconnect:
        return PlainTextResponse("", 499)


async def wait(request: Request) -> Response:
    """Answers after 0.6 seconds."""
    await asyncio.sleep(0.6)
    return PlainTextResponse("waited")


async def stream(_: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"data: x\n\n"
            await asyncio.sleep(0.25)

    return StreamingResponse(pieces(), media_type="text/event-stream")


gone = threading.Event()
"""Is set when a client of `watch` has gone away."""


async def watch(request: Request) -> Response:
    """Answers when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    gone.set()
    return PlainTextResponse("gone")


async def large(_: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(LARGE // 100_000):
            yield b"x" * 100_000

    return StreamingResponse(pieces(), headers={"content-length": str(LARGE)})


APP = Router(
    [
        Route("/health", health),
        Route("/count", count, methods=["POST"]),
        Route("/wait", wait),
        Route("/stream", stream),
        Route("/watch", watch),
        Route("/large", large),
    ]
)


@contextmanager
def served(create: Callable[[Ports], PortServer], limits: Bounds) -> Iterator[int]:
    """Runs a server with these bounds, and yields its port."""
    server = create(Ports(APP, Connections(limits), PROXY, grace_s=0))
    with listening("127.0.0.1", 0) as bound:
        thread = threading.Thread(target=lambda: server.run(sockets=[bound]), daemon=True)
        thread.start()
        wait_for(lambda: server.started)
        try:
            yield bound.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 30)


def rest(line: socket.socket) -> bytes:
    """Returns what the server sends until it closes the connection."""
    received = bytearray()
    with suppress(ConnectionError):
        while piece := line.recv(65536):
            received += piece
    return bytes(received)


def drip(line: socket.socket, data: bytes, pause_s: float) -> bytes:
    """Sends data byte by byte, until the server answers. Returns what it sends until it closes the connection."""
    for byte in data:
        line.sendall(bytes([byte]))
        if select.select([line], [], [], pause_s)[0]:
            break
    return rest(line)


def asks(line: socket.socket, request: bytes = GET) -> bytes:
    """Sends a request without a body, and receives the answer. Returns its status line."""
    line.sendall(request)
    answer = HTTPResponse(line)
    answer.begin()
    answer.read()
    return f"HTTP/1.1 {answer.status} {answer.reason}".encode()
