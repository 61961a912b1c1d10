"""Bounds of the headers of a request and of the chunks of its body, and turns at parsing. Sockets are the clients."""

import asyncio
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest

from longtake.service import connections, http_protocol
from longtake.service.ports import Ports
from tests.service.small_server import PATIENT, asks, connected, rest, served

CHUNKED = b"POST /count HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
FEW_CHUNKS = replace(PATIENT, chunks=100, chunks_per_s=1.0, chunk_bytes=128)


@pytest.mark.parametrize("head", [b"GET /health HTTP/1.1\r\n", CHUNKED + b"1\r\nx\r\n0\r\n"], ids=["head", "trailer"])
def test_many_headers_are_a_431(head: bytes) -> None:
    with served(Ports.http, replace(PATIENT, headers=20)) as port, connected(port) as line:
        line.sendall(head + b"a:\r\n" * 25)
        answer = rest(line)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"20 headers" in answer


@pytest.mark.parametrize("size", [1, 16, 100])
def test_many_small_chunks_are_a_400(size: int) -> None:
    with served(Ports.http, FEW_CHUNKS) as port, connected(port) as line:
        line.sendall(CHUNKED + (b"%x\r\n" % size + b"x" * size + b"\r\n") * 1000)
        answer = rest(line)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"chunks of 128 bytes or more" in answer
        with connected(port) as other:
            assert asks(other) == b"HTTP/1.1 200 OK"


def test_large_chunks_before_small_ones_allow_no_more_of_them() -> None:
    with served(Ports.http, FEW_CHUNKS) as port, connected(port) as line:
        line.sendall(CHUNKED + b"10000\r\n" + b"x" * 65536 + b"\r\n" + b"1\r\nx\r\n" * 150)
        assert rest(line).startswith(b"HTTP/1.1 400 ")


def test_small_chunks_of_several_requests_count_together() -> None:
    with served(Ports.http, FEW_CHUNKS) as port, connected(port) as line:
        line.sendall((CHUNKED + b"1\r\nx\r\n" * 60 + b"0\r\n\r\n") * 3)
        assert rest(line) == b""


def test_any_number_of_chunks_of_the_least_size_is_served() -> None:
    with served(Ports.http, FEW_CHUNKS) as port, connected(port) as line:
        line.sendall(CHUNKED[:-2] + b"Connection: close\r\n\r\n" + (b"80\r\n" + b"x" * 128 + b"\r\n") * 1000)
        line.sendall(b"0\r\n\r\n")
        assert rest(line).endswith(b"128000")


def test_any_number_of_small_chunks_that_come_slowly_is_served() -> None:
    limits = replace(FEW_CHUNKS, chunks=20, chunks_per_s=2000.0)
    with served(Ports.http, limits) as port, connected(port) as line:
        line.sendall(CHUNKED[:-2] + b"Connection: close\r\n\r\n")
        for _ in range(20):
            line.sendall(b"1\r\nx\r\n" * 10)
            time.sleep(0.01)
        line.sendall(b"0\r\n\r\n")
        assert rest(line).endswith(b"200")


def test_much_that_is_received_at_once_is_parsed_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "TURN_S", 0.0)
    monkeypatch.setattr(http_protocol, "PIECE_BYTES", 100)
    chunks = (b"80\r\n" + b"x" * 128 + b"\r\n") * 700
    requests = (
        (CHUNKED + chunks + b"0\r\n\r\n", b"89600"),
        (b"POST /count HTTP/1.1\r\nContent-Length: 90000\r\n\r\n" + b"x" * 90000, b"90000"),
        (b"POST /nowhere HTTP/1.1\r\nContent-Length: 90000\r\n\r\n" + b"x" * 90000, b"Not Found"),
        (b"GET /health HTTP/1.1\r\nX: " + b"x" * 3000 + b"\r\nConnection: close\r\n\r\n", b"ok"),
    )
    with served(Ports.http, PATIENT) as port, ExitStack() as stack:
        lines = [stack.enter_context(connected(port)) for _ in range(3)]
        for line in lines:
            line.sendall(b"".join(request for request, _ in requests))
        for line in lines:
            answers = rest(line).split(b"HTTP/1.1 ")[1:]
            assert [answer.partition(b"\r\n\r\n")[2] for answer in answers] == [answer for _, answer in requests]


def test_connections_parse_one_after_the_other_and_others_are_served_between() -> None:
    rounds: list[str] = []

    @dataclass
    class Received:
        name: str
        pieces: int

        def parse(self, seconds: float) -> bool:
            rounds.append(self.name)
            self.pieces -= 1
            return self.pieces > 0

    async def run() -> None:
        all_of_them = connections.Connections(PATIENT)
        for name, pieces in (("a", 3), ("b", 2), ("c", 1)):
            all_of_them.parse_in_turn(Received(name, pieces))
        for _ in range(7):
            rounds.append(".")
            await asyncio.sleep(0)

    asyncio.run(run())
    assert "".join(rounds) == ".a.b.c.a.b.a."
