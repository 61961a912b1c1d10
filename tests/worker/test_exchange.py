"""When a silent worker process counts as stalled because of a request."""

import math
from typing import Any

from longtake.worker.exchange import Exchange
from longtake.worker.messages import DeviceUse, Planned, Proceed, Watched


class Process:
    """Takes the place of a worker process, and records what is sent to it."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)


def test_messages_have_the_id_of_the_request() -> None:
    process: Any = Process()
    Exchange(process, "r", 60.0, lambda _: None).send(Proceed())
    assert process.sent == [Proceed("r")]


def test_a_request_that_waits_for_the_device_does_not_stall() -> None:
    killed = list[Exchange]()
    exchange = Exchange(None, "r", 0.0, killed.append)
    exchange.put(DeviceUse("waits"))
    assert (exchange.stalls_at, exchange.has_used_device) == (math.inf, False)
    assert not exchange.kill_if_stalled()
    exchange.put(DeviceUse("uses"))
    assert exchange.has_used_device
    assert exchange.kill_if_stalled()
    assert killed == [exchange]


def test_messages_of_the_process_and_to_it_are_signs_of_life_but_no_question_for_previews() -> None:
    process: Any = Process()
    exchange = Exchange(process, "r", 60.0, lambda _: None)
    times = [exchange.stalls_at]
    exchange.send(Watched("r"))
    times.append(exchange.stalls_at)
    exchange.put(Planned({}))
    assert exchange.receive(0) == Planned({})
    times.append(exchange.stalls_at)
    exchange.send(Proceed())
    times.append(exchange.stalls_at)
    assert times[0] == times[1] < times[2] < times[3]
    assert exchange.receive(0) is None
