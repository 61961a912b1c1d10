import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from longtake.errors import Cancelled
from longtake.worker.channel import Channel, RequestChannel
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
        list(channel.runs())  # until the reading thread has ended


def run(request_id: str) -> Run:
    return Run(request_id, "fal-ai/some/endpoint", "{}", None, Path("/work") / request_id, "key")


def next_request(channel: Channel) -> RequestChannel:
    return channel.request(next(channel.runs()).request_id)


def test_a_plan_is_sent_and_its_reply_awaited(pipes: tuple[Server, Channel]) -> None:
    server, channel = pipes
    server.send(run("a"))
    request = next_request(channel)
    with request.working():
        threading.Timer(0.1, server.send, (Proceed("a"),)).start()
        request.store_plan(PLANNED)
    assert decode_to_server(server.from_worker.readline()) == replace(PLANNED, request_id="a")


def test_a_cancellation_ends_the_wait_for_a_reply(pipes: tuple[Server, Channel]) -> None:
    server, channel = pipes
    server.send(run("a"), Cancel("another"), Cancel("a"))
    request = next_request(channel)
    with request.working(), pytest.raises(Cancelled):
        request.store_plan(PLANNED)


def test_a_late_reply_to_a_cancelled_request_is_no_reply_to_the_next_one(pipes: tuple[Server, Channel]) -> None:
    server, channel = pipes
    server.send(run("a"), Cancel("a"), Proceed("a"))
    request = next_request(channel)
    with request.working(), pytest.raises(Cancelled):
        request.store_plan(PLANNED)
    server.send(run("b"), Cancel("b"))
    request = next_request(channel)
    with request.working(), pytest.raises(Cancelled):
        request.store_plan(PLANNED)


def test_a_request_that_was_cancelled_can_run_again(pipes: tuple[Server, Channel]) -> None:
    """A server that lost a request, and so cancelled it here, may claim it again."""
    server, channel = pipes
    server.send(run("a"), Cancel("a"))
    request = next_request(channel)
    with request.working(), pytest.raises(Cancelled):
        request.store_plan(PLANNED)
    server.send(run("a"))
    request = next_request(channel)
    with request.working():
        request.check()


def test_the_messages_end_when_the_server_closes_the_channel(pipes: tuple[Server, Channel]) -> None:
    server, channel = pipes
    server.send(run("a"))
    server.to_worker.close()
    assert [run.request_id for run in channel.runs()] == ["a"]
    with pytest.raises(Cancelled):
        channel.request("a").check()


def test_two_requests_have_their_own_replies_and_cancellations(pipes: tuple[Server, Channel]) -> None:
    server, channel = pipes
    server.send(run("a"), run("b"))
    first, second = next_request(channel), next_request(channel)
    with first.working(), second.working():
        server.send(Proceed("b"), Cancel("a"))
        second.store_plan(PLANNED)
        with pytest.raises(Cancelled):
            first.store_plan(PLANNED)
        second.check()
    server.send(Cancel("b"), run("c"))
    with next_request(channel).working():
        second.check()
