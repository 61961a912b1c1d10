import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from longtake.errors import Cancelled
from longtake.worker.channel import Channel
from longtake.worker.messages import Cancel, Planned, Proceed, Run, ToWorker, decode_to_server, encode_to_worker

PLANNED = Planned({"seed": 3})


class Server:
    """The server's ends of the two pipes."""

    def __init__(self, to_worker: IO[bytes], from_worker: IO[bytes]) -> None:
        self.to_worker, self.from_worker = to_worker, from_worker

    def send(self, *messages: ToWorker) -> None:
        for message in messages:
            self.to_worker.write(encode_to_worker(message))
        self.to_worker.flush()


@pytest.fixture
def pipes() -> Iterator[tuple[Server, Channel]]:
    (worker_in, server_out), (server_in, worker_out) = os.pipe(), os.pipe()
    with (
        os.fdopen(worker_in, "rb") as incoming,
        os.fdopen(worker_out, "wb") as outgoing,
        os.fdopen(server_in, "rb") as from_worker,
    ):
        to_worker = os.fdopen(server_out, "wb")
        channel = Channel(incoming, outgoing)
        yield Server(to_worker, from_worker), channel
        to_worker.close()
        list(channel.messages())  # until the reading thread has ended


def run(request_id: str) -> Run:
    return Run(request_id, "fal-ai/some/endpoint", "{}", None, Path("/work") / request_id, "key")


def next_run(channel: Channel) -> str:
    return next(message.request_id for message in channel.messages() if isinstance(message, Run))


def test_a_plan_is_sent_and_its_reply_awaited(pipes: tuple[Server, Channel]) -> None:
    server, channel = pipes
    server.send(run("a"))
    with channel.working_on(next_run(channel)):
        threading.Timer(0.1, server.send, (Proceed(),)).start()
        channel.store_plan(PLANNED)
    assert decode_to_server(server.from_worker.readline()) == PLANNED


def test_a_cancellation_ends_the_wait_for_a_reply(pipes: tuple[Server, Channel]) -> None:
    server, channel = pipes
    server.send(run("a"), Cancel("another"), Cancel("a"))
    with channel.working_on(next_run(channel)), pytest.raises(Cancelled):
        channel.store_plan(PLANNED)


def test_a_late_reply_to_a_cancelled_request_is_no_reply_to_the_next_one(pipes: tuple[Server, Channel]) -> None:
    server, channel = pipes
    server.send(run("a"), Cancel("a"), Proceed())
    with channel.working_on(next_run(channel)), pytest.raises(Cancelled):
        channel.store_plan(PLANNED)
    server.send(run("b"), Cancel("b"))
    with channel.working_on(next_run(channel)), pytest.raises(Cancelled):
        channel.store_plan(PLANNED)


def test_a_request_that_was_cancelled_can_run_again(pipes: tuple[Server, Channel]) -> None:
    """A server that lost a request, and so cancelled it here, may claim it again."""
    server, channel = pipes
    server.send(run("a"), Cancel("a"))
    with channel.working_on(next_run(channel)), pytest.raises(Cancelled):
        channel.store_plan(PLANNED)
    server.send(run("a"))
    with channel.working_on(next_run(channel)):
        channel.check()


def test_the_messages_end_when_the_server_closes_the_channel(pipes: tuple[Server, Channel]) -> None:
    server, channel = pipes
    server.send(run("a"))
    server.to_worker.close()
    assert [type(message) for message in channel.messages()] == [Run]
    with pytest.raises(Cancelled):
        channel.check()
