"""The repeating thread: its rhythm, its errors, and its end."""

import logging
import threading
from queue import SimpleQueue

import pytest

from longtake.periodic import Repeating

BOUND_S = 60.0
"""Seconds that a test waits for a call before it fails."""


def test_it_calls_again_after_each_delay_until_it_is_stopped() -> None:
    calls: SimpleQueue[int] = SimpleQueue()

    def work() -> float:
        calls.put(1)
        return 0.001

    repeating = Repeating("test", work, failure="The test failed")
    repeating.start()
    for _ in range(3):
        calls.get(timeout=BOUND_S)
    repeating.stop()
    while not calls.empty():
        calls.get()
    assert repeating.stopping.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "test"]
    assert calls.empty()


def test_wake_starts_the_next_call_at_once() -> None:
    calls: SimpleQueue[int] = SimpleQueue()

    def work() -> float:
        calls.put(1)
        return 3600.0

    repeating = Repeating("test", work, failure="The test failed")
    repeating.start()
    calls.get(timeout=BOUND_S)
    repeating.wake()
    calls.get(timeout=BOUND_S)
    repeating.stop()


def test_an_error_is_logged_and_the_next_call_follows(caplog: pytest.LogCaptureFixture) -> None:
    calls: SimpleQueue[int] = SimpleQueue()

    def work() -> float:
        calls.put(1)
        raise OSError("the disk is away\nand more")

    repeating = Repeating("test", work, failure="The work failed", retry_s=0.001)
    with caplog.at_level(logging.WARNING):
        repeating.start()
        for _ in range(3):
            calls.get(timeout=BOUND_S)
        repeating.stop()
    assert caplog.messages[0] == "The work failed: the disk is away"


def test_stopping_before_the_start_does_nothing() -> None:
    Repeating("test", lambda: 1.0, failure="The test failed").stop()
