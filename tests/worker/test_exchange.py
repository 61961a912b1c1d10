"""When a worker process counts as stalled because of a request, and when it is killed because it does not stop."""

import math
import threading
import time
from typing import Any

from longtake.settings import Settings
from longtake.worker.exchange import Exchange
from longtake.worker.messages import CancelRequested, DeviceUse, Interrupted, Planned, Proceed, Watched
from longtake.worker.supervisor import Supervisor


class Process:
    """Takes the place of a worker process, and records what is sent to it."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)


def test_messages_have_the_id_of_the_request() -> None:
    process: Any = Process()
    Exchange(process, "r", 60.0, lambda _: None, lambda: True).send(Proceed())
    assert process.sent == [Proceed("r")]


def test_a_request_that_waits_for_the_device_does_not_stall() -> None:
    killed = list[Exchange]()
    exchange = Exchange(None, "r", 0.0, killed.append, lambda: True)
    exchange.put(DeviceUse("waits"))
    assert (exchange.stalls_at, exchange.has_used_device) == (math.inf, False)
    assert not exchange.kill_if_stalled()
    exchange.put(DeviceUse("uses"))
    assert exchange.has_used_device
    assert exchange.kill_if_stalled()
    assert killed == [exchange]


def test_messages_of_the_process_and_to_it_are_signs_of_life_but_no_question_for_previews() -> None:
    process: Any = Process()
    exchange = Exchange(process, "r", 60.0, lambda _: None, lambda: True)
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


def test_the_turn_on_the_device_begins_with_a_new_time_to_stall() -> None:
    """Also for a thread that asks in the moment in which the state changes."""
    times = list[float]()

    class Watching(Exchange):
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if name == "device_state" and value == "uses":
                times.append(self.stalls_at)

    exchange = Watching(None, "r", 60.0, lambda _: None, lambda: True)
    exchange.put(DeviceUse("waits"))
    has_waited_at = time.monotonic()
    exchange.put(DeviceUse("uses"))
    assert times[0] >= has_waited_at + 60


def test_the_time_to_stop_counts_from_the_end_of_the_other_request() -> None:
    are_alone, killed = [False] * 5, list[Exchange]()
    exchange = Exchange(None, "r", 60.0, killed.append, lambda: are_alone.pop() if are_alone else True)
    exchange.stop(0.001, threading.Event(), spares_other=True)
    assert not are_alone
    assert killed == [exchange]


def test_closing_an_earlier_exchange_leaves_the_one_of_a_request_that_was_claimed_again() -> None:
    supervisor = Supervisor("slot", "cpu", (), Settings())
    earlier, later = supervisor.open("r"), supervisor.open("r")
    assert later.receive(0) == Interrupted()  # no process runs
    supervisor.close(earlier)
    supervisor.cancel("r")
    assert later.receive(0) == CancelRequested()
    supervisor.close(later)
    supervisor.cancel("r")
    assert later.receive(0) is None
