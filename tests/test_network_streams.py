"""Connections to hosts that users name: one at a time works on what has arrived, long work makes the next reads small,
and the head of an answer has an end."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import httpcore
import httpx
import pytest

from longtake import network_streams, outbound
from longtake.network_streams import LEAST_BYTES, MOST_BYTES, TURN_S, CheckedStream
from longtake.outbound import PublicTransport
from longtake.video import no_check

turn = threading.Lock()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one


def connected(listener: socket.socket) -> tuple[CheckedStream, socket.socket]:
    """Returns a connection to the listener, and the other side of it."""
    stream = httpcore.SyncBackend().connect_tcp("127.0.0.1", listener.getsockname()[1])
    return CheckedStream(stream, None, no_check, turn), listener.accept()[0]


def test_a_connection_has_the_turn_from_the_arrival_of_bytes_to_the_next_read(listener: socket.socket) -> None:
    stream, other = connected(listener)
    other.sendall(b"abc")
    assert stream.read(100, 30) == b"abc"
    assert turn.locked()
    with pytest.raises(httpcore.ReadTimeout):
        stream.read(100, 0.01)
    assert not turn.locked()
    other.sendall(b"de")
    assert stream.read(1, 30) == b"d"
    stream.close()
    assert not turn.locked()
    other.close()


def test_a_connection_does_not_wait_for_its_turn_for_ever(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_streams, "CHECK_EVERY_S", 0.02)
    (first, first_host), (second, second_host) = connected(listener), connected(listener)
    first_host.sendall(b"a")
    second_host.sendall(b"b")
    assert (first.read(100, 30), second.read(100, 30)) == (b"a", b"b")
    second.close()
    assert turn.locked()
    first.close()
    assert not turn.locked()
    first_host.close()
    second_host.close()


def test_the_reads_are_as_small_as_the_work_is_long(listener: socket.socket) -> None:
    stream, other = connected(listener)
    sender = threading.Thread(target=other.sendall, args=(bytes(16 * MOST_BYTES),))
    sender.start()
    stream._has_bytes(30)
    time.sleep(0.05)  # More bytes arrive than one read returns.

    def sizes(work_s: float) -> list[int]:
        return [size_of_next_read(work_s) for _ in range(4)]

    def size_of_next_read(work_s: float) -> int:
        size = len(stream.read(MOST_BYTES, 30))
        end = time.thread_time() + work_s
        while time.thread_time() < end:
            pass
        return size

    assert sizes(0) == [LEAST_BYTES, 2 * LEAST_BYTES, 4 * LEAST_BYTES, 8 * LEAST_BYTES]
    assert sizes(1.2 * TURN_S) == [16 * LEAST_BYTES, 8 * LEAST_BYTES, 4 * LEAST_BYTES, 2 * LEAST_BYTES]
    assert sizes(1.2 * TURN_S) == [LEAST_BYTES] * 4
    assert sizes(0.6 * TURN_S) == [LEAST_BYTES] * 4
    for _ in range(10):
        size_of_next_read(0)
    stream.close()
    other.close()
    sender.join()


HINT = b"HTTP/1.1 103 Early Hints\r\n"


@pytest.mark.parametrize("piece", [HINT + b"\r\n", HINT + b"a: b\r\n" * 90 + b"\r\n"], ids=["short", "long"])
def test_an_answer_whose_head_does_not_end_is_given_up(listener: socket.socket, piece: bytes) -> None:
    sent, enough = 0, 1000 * outbound.MAX_HEAD_BYTES

    def flood() -> None:
        nonlocal sent
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            while sent < enough:
                sent += connection.send(piece * 200)

    thread = threading.Thread(target=flood)
    thread.start()
    with (
        httpx.Client(transport=PublicTransport(["localhost"]), timeout=60) as web,
        pytest.raises(httpx.RemoteProtocolError, match="the head of the answer is too large"),
    ):
        web.post(f"http://localhost:{listener.getsockname()[1]}/")
    thread.join()
    assert sent < enough


def test_a_large_body_after_a_small_head_is_read(listener: socket.socket) -> None:
    body = bytes(3 * outbound.MAX_HEAD_BYTES)

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(10_000)
            connection.sendall(HINT + b"\r\nHTTP/1.1 200 OK\r\n\r\n" + body)

    thread = threading.Thread(target=answer)
    thread.start()
    with httpx.Client(transport=PublicTransport(["localhost"]), timeout=60) as web:
        with web.stream("GET", f"http://localhost:{listener.getsockname()[1]}/") as response:
            assert outbound._TURN.locked()
            assert response.read() == body
        assert not outbound._TURN.locked()
    thread.join()
