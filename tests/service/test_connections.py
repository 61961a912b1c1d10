"""Bounds of connections: their number, the size of heads, and how slow a client may be. Sockets are the clients."""

import asyncio
import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest

from longtake.service import http_protocol
from longtake.service.connections import Connection, Connections
from longtake.service.ports import Ports, listening
from longtake.service.tls import Tls, prepare
from longtake.service.tls_server import _Opening
from tests.service.small_server import GET, LARGE, PATIENT, QUICK, asks, connected, drip, gone, rest, served

REQUESTS = (
    GET,
    b"POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde",
    b"POST /count HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\n",
    b"GET /health?a=%41 HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n",
    b"GET /health HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Forwarded-For: 1.2.3.4, ::1\r\n\r\n",
)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return prepare(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def quick() -> Iterator[int]:
    """The port of a server that loses its patience after 0.2 s."""
    with served(Ports.http, QUICK) as port:
        yield port


@pytest.fixture(scope="module")
def patient() -> Iterator[int]:
    """The port of a server with short heads and much time."""
    with served(Ports.http, PATIENT) as port:
        yield port


# The size of heads


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\nX: " + b"x" * 5000,
        b"GET /health HTTP/1.1\r\nX" + b"x" * 5000,
        b"GET /" + b"x" * 5000,
        b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 900,
        b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 900 + b"\r\n",
        b"GET /health HTTP/1.1\r\nX: " + b"x" * 5000 + b"\r\n\r\n",
        b"POST /count HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: " + b"x" * 5000,
        b"POST /count HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x=" + b"x" * 5000,
    ],
    ids=["value", "name", "path", "many", "many complete", "complete", "trailer", "chunk extension"],
)
def test_a_large_head_is_a_431(patient: int, head: bytes) -> None:
    with connected(patient) as line:
        for start in range(0, len(head), 500):
            line.sendall(head[start : start + 500])
            time.sleep(0.001)
        line.sendall(b"x" * 100_000)
        line.shutdown(socket.SHUT_WR)
        answer = rest(line)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"4096 bytes" in answer
    with connected(patient) as line:
        assert asks(line) == b"HTTP/1.1 200 OK"


def test_a_head_without_end_is_cut_off(patient: int) -> None:
    def send() -> None:
        for _ in range(100):
            line.sendall(b"x" * 1_000_000)

    with connected(patient) as line:
        line.sendall(b"GET /health HTTP/1.1\r\nX: ")
        with pytest.raises(ConnectionError):
            send()


def test_heads_below_the_bound_and_bodies_of_many_chunks_are_served(patient: int) -> None:
    with connected(patient) as line:
        assert asks(line, b"GET /health HTTP/1.1\r\nX: " + b"x" * 3500 + b"\r\n\r\n") == b"HTTP/1.1 200 OK"
        chunks = b"1\r\nx\r\n" * 1500 + b"0\r\nX: y\r\n\r\n"
        line.sendall(b"POST /count HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks)
        assert rest(line).endswith(b"1500")


def test_many_requests_on_one_connection_are_served(patient: int) -> None:
    with connected(patient) as line:
        for _ in range(300):
            assert asks(line) == b"HTTP/1.1 200 OK"
        line.sendall(GET * 300 + b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert rest(line).count(b"HTTP/1.1 200 OK") >= 301


def test_too_many_requests_at_once_are_cut_off(patient: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "MOST_QUEUED", 100)
    with connected(patient) as line:
        line.sendall(GET * 102)
        assert rest(line) == b""


def test_reading_stops_while_requests_wait(patient: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "MOST_QUEUED", 4)
    slow = b"GET /wait HTTP/1.1\r\n\r\n"
    with connected(patient) as line:
        for request in (slow, slow + GET * 2):
            line.sendall(request)
            time.sleep(0.02)
        assert b"waited" in line.recv(65536)
        for request in (GET, GET, GET[:-2] + b"Connection: close\r\n\r\n"):
            line.sendall(request)
            time.sleep(0.02)
        answers = rest(line)
    assert (answers.count(b"waited"), answers.count(b"HTTP/1.1 200 OK")) == (1, 6)


@pytest.mark.parametrize("behind", [b"", GET, REQUESTS[1][:-5]], ids=["nothing", "request", "head"])
def test_a_running_request_hears_that_its_client_has_gone(patient: int, behind: bytes) -> None:
    gone.clear()
    with connected(patient) as line:
        line.sendall(b"GET /watch HTTP/1.1\r\n\r\n")
        time.sleep(0.05)
        line.sendall(behind)
        time.sleep(0.05)
        assert not gone.is_set()
    assert gone.wait(5)


def test_what_is_no_http_is_a_400(patient: int) -> None:
    with connected(patient) as line:
        line.sendall(b"nonsense\r\n\r\n")
        answer = rest(line)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"not a valid HTTP request" in answer


def mutated(source: random.Random) -> bytes:
    """Returns a request with a few bytes changed, removed, repeated or inserted."""
    text = bytearray(source.choice(REQUESTS) * source.randrange(1, 3))
    for _ in range(source.randrange(1, 6)):
        start = source.randrange(len(text))
        piece = text[start : start + source.randrange(1, 20)]
        match source.randrange(4):
            case 0:
                text[start] = source.randrange(256)
            case 1 if len(piece) < len(text):
                del text[start : start + len(piece)]
            case 2:
                text[start:start] = piece * source.randrange(1, 30)
            case _:
                text[start:start] = source.choice((b"\r\n", b"\0", b":", b" ", b"0\r\n\r\n", b"\xff" * 9, b"9" * 30))
    return bytes(text)


def test_no_bytes_confuse_the_server(patient: int, caplog: pytest.LogCaptureFixture) -> None:
    source = random.Random(7)
    for _ in range(300):
        text = mutated(source)
        with connected(patient) as line, suppress(OSError):
            half = source.randrange(len(text))
            line.sendall(text[:half])
            line.sendall(text[half:])
            line.shutdown(socket.SHUT_WR)
            answer = rest(line)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 "), text
    with connected(patient) as line:
        assert asks(line) == b"HTTP/1.1 200 OK"
    assert not [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


# Slow clients


def test_a_connection_without_a_request_is_closed(quick: int) -> None:
    with connected(quick) as line:
        assert rest(line) == b""


def test_an_idle_connection_is_closed(quick: int) -> None:
    with connected(quick) as line:
        assert asks(line) == b"HTTP/1.1 200 OK"
        assert b"HTTP/1.1" not in rest(line)


@pytest.mark.parametrize("before", [b"", GET], ids=["first", "second"])
def test_a_slow_head_is_a_408(quick: int, before: bytes) -> None:
    with connected(quick) as line:
        if before:
            asks(line, before)
        answer = drip(line, GET[:-2] + b"X: y\r\n" * 100, 0.02)
    assert b"HTTP/1.1 408 " in answer
    assert b"arrives too slowly" in answer


def test_a_slow_body_is_a_408(quick: int) -> None:
    with connected(quick) as line:
        line.sendall(b"POST /count HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
        answer = drip(line, b"x" * 1000, 0.02)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"body" in answer


def test_a_body_that_takes_too_long_is_a_408_at_any_rate() -> None:
    with served(Ports.http, replace(PATIENT, body_s=0.2)) as port, connected(port) as line:
        line.sendall(b"POST /count HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
        answer = drip(line, b"x" * 3000, 0.02)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"must arrive within" in answer


def test_a_body_at_the_least_rate_is_served(quick: int) -> None:
    with connected(quick) as line:
        line.sendall(b"POST /count HTTP/1.1\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n")
        for _ in range(50):
            line.sendall(b"x" * 20_000)
            time.sleep(0.01)
        assert rest(line).endswith(b"1000000")


def test_the_rest_of_an_answered_body_is_not_received_forever(quick: int) -> None:
    with connected(quick) as line:
        line.sendall(b"POST /nowhere HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        began = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - began < 10:
                line.sendall(b"1\r\nx\r\n")
                time.sleep(0.01)
        assert time.monotonic() - began < 10


def test_the_rest_of_an_answered_body_in_chunks_is_not_parsed(patient: int) -> None:
    with connected(patient) as line:
        assert asks(line, b"POST /nowhere HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n") == b"HTTP/1.1 404 Not Found"
        line.sendall(b"not a chunk" * 100_000)
        line.sendall(b"0\r\n")
        time.sleep(0.02)
        line.sendall(b"\r\n")
        assert rest(line) == b""


def test_a_connection_is_used_again_after_a_body_that_was_answered_early(patient: int) -> None:
    with connected(patient) as line:
        assert asks(line, b"POST /nowhere HTTP/1.1\r\nContent-Length: 9\r\n\r\n") == b"HTTP/1.1 404 Not Found"
        line.sendall(b"x" * 9)
        assert asks(line) == b"HTTP/1.1 200 OK"


def test_a_reader_that_stops_is_cut_off(quick: int) -> None:
    with connected(quick) as line:
        line.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        time.sleep(0.8)
        assert len(rest(line)) < LARGE


def test_a_steady_reader_gets_the_whole_answer(quick: int) -> None:
    received = 0
    with connected(quick) as line:
        line.sendall(b"GET /large HTTP/1.1\r\nConnection: close\r\n\r\n")
        while piece := line.recv(500_000):
            received += len(piece)
            time.sleep(0.005)
    assert received > LARGE


@pytest.mark.parametrize("path", [b"/wait", b"/stream"])
def test_a_running_request_is_never_too_slow(quick: int, path: bytes) -> None:
    with connected(quick) as line:
        line.sendall(b"GET " + path + b" HTTP/1.1\r\nConnection: close\r\n\r\n")
        answer = rest(line)
    assert answer.endswith(b"waited") or answer.count(b"data: x") == 3


# Number of connections


@pytest.mark.parametrize("port", ["http", "https", "tunnel", "tunnelled"])
def test_new_clients_take_the_place_of_the_one_that_has_waited_longest(tls: Tls, port: str) -> None:
    limits = replace(PATIENT, in_all=3)
    create = {"http": Ports.http, "https": lambda ports: ports.https(tls)}.get(port, lambda ports: ports.tunnel(tls))
    with served(create, limits) as number, ExitStack() as stack:
        lines = [stack.enter_context(connected(number))]
        for _ in range(3):
            if port == "tunnelled":
                lines[-1].sendall(b"CONNECT fal.run:443 HTTP/1.1\r\n\r\n")
                assert lines[-1].recv(100).startswith(b"HTTP/1.1 200")
            lines.append(stack.enter_context(connected(number)))
            time.sleep(0.02)
        assert rest(lines[0]) == b""
        for line in lines[1:]:
            line.setblocking(False)
            with pytest.raises(BlockingIOError):
                line.recv(1)


class Line:
    """A connection that only notes whether it was closed."""

    def __init__(self) -> None:
        self.is_closed = False

    def close_if_late(self, now: float) -> None:
        pass

    def abort(self) -> None:
        self.is_closed = True


def test_room_is_made_at_the_client_with_the_most_waiting_connections() -> None:
    async def run() -> None:
        connections = Connections(replace(PATIENT, in_all=4))
        lines = [Line() for _ in range(6)]
        for line, peer in zip(lines, "abbbcd", strict=True):
            assert connections.admit(line, peer)
        assert [line.is_closed for line in lines] == [False, True, True, False, False, False]

    asyncio.run(run())


def test_a_connection_that_is_refused_at_once_is_closed() -> None:
    async def open_line(line: socket.socket, opening: Connection) -> None:
        raise AssertionError("The connection is refused before that.")

    async def run() -> None:
        client, line = socket.socketpair()
        with client:
            _Opening(Connections(PATIENT), line, open_line).abort()
            await asyncio.sleep(0.01)
            assert line.fileno() == -1

    asyncio.run(run())


def test_busy_connections_are_not_closed_for_new_ones() -> None:
    with served(Ports.http, replace(PATIENT, in_all=2)) as port, ExitStack() as stack:
        busy = [stack.enter_context(connected(port)) for _ in range(2)]
        for line in busy:
            line.sendall(b"GET /wait HTTP/1.1\r\nConnection: close\r\n\r\n")
        time.sleep(0.1)
        answer = rest(stack.enter_context(connected(port)))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"too many open connections" in answer
        assert all(rest(line).endswith(b"waited") for line in busy)
        assert asks(stack.enter_context(connected(port))) == b"HTTP/1.1 200 OK"


def test_each_client_of_a_proxy_has_its_own_bound() -> None:
    def request(client: str) -> bytes:
        return f"GET /wait HTTP/1.1\r\nX-Forwarded-For: {client}\r\nConnection: close\r\n\r\n".encode()

    with served(Ports.http, replace(PATIENT, per_peer=2)) as port, ExitStack() as stack:
        answers = []
        for client in ("10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.1"):
            line = stack.enter_context(connected(port))
            line.sendall(request(client))
            answers.append(line)
            time.sleep(0.03)
        statuses = [rest(line).partition(b" ")[2][:3] for line in answers]
    assert statuses == [b"200", b"200", b"200", b"503"]


# Clients that vanish


def test_the_system_looks_whether_a_silent_client_is_still_there() -> None:
    with listening("127.0.0.1", 0) as bound, socket.create_connection(bound.getsockname()):
        accepted, _ = bound.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            if hasattr(socket, "TCP_KEEPIDLE"):
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
